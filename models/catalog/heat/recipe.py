"""How the heat surrogate is trained. Seeds: one stream per split, so the splits are disjoint."""

from dataclasses import replace

from models.catalog.heat.spec import END, FRAMES
from models.physical_model import KeptResiduals, Recipe, Split, usual_splits

FULL = Recipe(
    points=33,
    splits=usual_splits(1200, 50, 200, 1000, 1000, 1000),
    unlabelled=Split(20, 2500),
    principal_components=60,  # d coefficients of known variance show an amplitude to √(1/2d)
    architecture="modal_fno",
    settings={
        "frames": FRAMES,
        "end": END,
        "galerkin": 10,
        "shapes": 6,
        "scale_shapes": 3,
        "seen": 5,
        "frames_scored": 5,
        "channels": 12,
        "modes": 8,
        "layers": 2,
        "period": 40,
        "knee": 0.02,
        "correction": 0.01,
        "error": 1e-3,
        "gradient_weight": 0.5,
        "scale_weight": 2e-3,
    },
    members=3,
    epochs=8,
    batch=16,
    residuals={"temperature": KeptResiduals(250, (0.02, 0.04, 0.06, 0.08, 0.1))},
)

TINY = replace(
    FULL,
    points=17,
    splits=usual_splits(32, 4, 8, 24, 12, 12),
    unlabelled=Split(20, 2000),
    principal_components=10,
    settings={
        **FULL.settings,
        "galerkin": 4,
        "shapes": 4,
        "seen": 3,
        "channels": 8,
        "modes": 4,
        "layers": 1,
        "period": 20,
        "frames_scored": FRAMES,
    },
    epochs=12,
    batch=8,
)

RECIPES = {"full": FULL, "tiny": TINY}
