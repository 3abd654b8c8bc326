"""How the burgers surrogate is trained. Seeds: one stream per split, so the splits are disjoint."""

from dataclasses import replace

from models.physical_model import KeptResiduals, Recipe, Split, usual_splits

FULL = Recipe(
    points=512,
    splits=usual_splits(2000, 60, 200, 1000, 1000, 1000),
    unlabelled=Split(20, 5000),
    principal_components=40,
    architecture="fno_1d",
    settings={
        "channels": 40,
        "modes": 24,
        "layers": 4,
        "characteristic_modes": 24,
        "amplitude": 0.2,
        "error": 1e-3,
        "gradient_weight": 0.3,
        "scale_weight": 1e-3,
    },
    members=3,
    epochs=60,
    batch=16,
    muon_rate=0.007,
    residuals={"velocity": KeptResiduals(1000, (0.25, 0.5, 0.75, 1.0))},
)

TINY = replace(
    FULL,
    points=64,
    splits=usual_splits(16, 4, 8, 24, 12, 12),
    unlabelled=Split(20, 1400),
    principal_components=10,
    settings={
        "channels": 8,
        "modes": 8,
        "layers": 2,
        "characteristic_modes": 8,
        "amplitude": 0.2,
        "error": 1e-2,
        "gradient_weight": 0.3,
        "scale_weight": 1e-3,
    },
    epochs=4,
    batch=8,
)

RECIPES = {"full": FULL, "tiny": TINY}
