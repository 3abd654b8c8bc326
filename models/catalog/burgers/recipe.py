"""How the burgers surrogate is trained. Seeds: one stream per split, so the splits are disjoint."""

from dataclasses import replace

from models.physical_model import Recipe, Split


def _splits(train: int, validation: int, test: int, calibration: int, tune: int, held_out: int) -> dict[str, Split]:
    return {
        "train": Split(0, train),
        "validation": Split(1, validation),
        "test": Split(2, test),
        "calibration": Split(3, calibration),
        "tune": Split(4, tune),
        "held_out": Split(10, held_out),
    }


FULL = Recipe(
    points=512,
    splits=_splits(2000, 60, 200, 1000, 400, 500),
    unlabelled=Split(20, 5000),
    principal_components=20,
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
)

TINY = replace(
    FULL,
    points=64,
    splits=_splits(16, 4, 8, 24, 12, 12),
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
