"""How the site_weather forecast is trained. Splits are periods: no hour is in windows of two of them.

The validity test sees no more of the inputs than training and tuning did: its detectors are fitted to 2000–2006, and their
p-values are counted among 2007–2013. One year would not do, for the next is always colder or windier somewhere.
"""

from dataclasses import replace

from models.catalog.site_weather.sampler import windows
from models.physical_model import Recipe, Split

FULL = Recipe(
    points=4,
    splits={
        "train": Split(0, windows("2000-2012"), "2000-2012"),
        "validation": Split(1, 2000, "2013"),
        "tune": Split(4, 2000, "2013"),
        "calibration": Split(3, 4000, "2014"),
        "test": Split(2, 6000, "2015-2017"),
        "held_out": Split(10, 6000, "2015-2017"),
    },
    unlabelled=Split(20, 20_000, "2007-2013"),
    detectors=Split(0, 15_000, "2000-2006"),
    principal_components=40,
    architecture="forecast_mlp",
    settings={"width": 384, "dropout": 0.4, "penalty": 1e-6, "floor": 1e-4},
    members=5,
    epochs=8,
    batch=256,
    window=200_000,
    muon_rate=2e-3,
    adam_rate=1e-3,
    weight_decay=1e-4,
)

TINY = replace(
    FULL,
    splits={
        "train": Split(0, 1500, "2000-2012"),
        "validation": Split(1, 50, "2013"),
        "tune": Split(4, 60, "2013"),
        "calibration": Split(3, 120, "2014"),
        "test": Split(2, 60, "2015-2017"),
        "held_out": Split(10, 60, "2015-2017"),
    },
    unlabelled=Split(20, 5200, "2007-2013"),
    detectors=Split(0, 1500, "2000-2006"),
    principal_components=10,
    settings={"width": 8, "dropout": 0.1, "penalty": 1e-2, "floor": 1e-2},
    members=2,
    epochs=3,
    batch=64,
)

RECIPES = {"full": FULL, "tiny": TINY}
