"""How the darcy surrogate is trained. Seeds: one stream per split, so the splits are disjoint."""

from dataclasses import replace

from models.physical_model import Recipe, Split

FULL = Recipe(
    points=85,
    splits={
        "train": Split(0, 1000),
        "validation": Split(1, 100),
        "test": Split(2, 200),
        "calibration": Split(3, 600),
        "tune": Split(4, 100),
        "held_out": Split(10, 500),
    },
    unlabelled=Split(20, 5000),
    principal_components=40,
    architecture="preconditioned_fno",
    settings={
        "channels": 16,
        "modes": 8,
        "layers": 3,
        "period": 96,
        "patch": 5,
        "steps": 6,
        "scale": 2e-4,
        "gradient_weight": 0.5,
        "scale_weight": 1e-3,
    },
    members=4,
    epochs=30,
    batch=10,
)

PLAIN = replace(
    FULL,
    settings={
        "channels": 32,
        "modes": 12,
        "layers": 4,
        "period": 96,
        "patch": 1,
        "steps": 0,
        "scale": 0.03,
        "gradient_weight": 0.5,
        "scale_weight": 1e-3,
    },
    members=1,
    epochs=60,
)
"""The published architecture trained with our optimiser, without the conjugate-gradient steps: an ablation, never served."""

TINY = Recipe(
    points=17,
    splits={
        "train": Split(0, 48),
        "validation": Split(1, 8),
        "test": Split(2, 16),
        "calibration": Split(3, 40),
        "tune": Split(4, 20),
        "held_out": Split(10, 40),
    },
    unlabelled=Split(20, 900),
    principal_components=10,
    architecture="preconditioned_fno",
    settings={
        "channels": 8,
        "modes": 4,
        "layers": 1,
        "period": 20,
        "patch": 3,
        "steps": 3,
        "scale": 1e-2,
        "gradient_weight": 0.5,
        "scale_weight": 1e-3,
    },
    members=4,
    epochs=4,
    batch=8,
)

RECIPES = {"full": FULL, "plain": PLAIN, "tiny": TINY}
