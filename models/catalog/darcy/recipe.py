"""How the darcy surrogate is trained. Seeds: one stream per split, so the splits are disjoint."""

from dataclasses import replace

from models.physical_model import Recipe, Split, usual_splits

FULL = Recipe(
    points=85,
    splits=usual_splits(1000, 100, 200, 600, 100, 500),
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
    splits=usual_splits(48, 8, 16, 40, 20, 40),
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
