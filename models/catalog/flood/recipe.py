"""How the flood surrogates are trained. Seeds: one stream per split, so the splits are disjoint, by terrain too."""

from dataclasses import replace

from models.physical_model import KeptResiduals, Recipe, Split, usual_splits

FULL = Recipe(
    points=64,
    splits=usual_splits(6000, 100, 300, 1000, 1000, 1000),
    unlabelled=Split(20, 3000),
    principal_components=40,
    architecture="conv_unet",
    settings={
        "channels_1": 40,
        "channels_2": 64,
        "channels_3": 96,
        "blocks": 1,
        "bottom_blocks": 3,
        "scale_weight": 0.02,
    },
    members=3,
    epochs=16,
    batch=8,
    window=6000,
    residuals={"maximum_depth": KeptResiduals(500)},
)

FULL_128 = replace(
    FULL,
    points=128,
    splits=usual_splits(1200, 50, 150, 1000, 2000, 1000),
    epochs=2,
    warm_up=0.2,
    muon_rate=0.004,
    adam_rate=1e-3,
    initial="full",
    bundle="flood_128",
    residuals={"maximum_depth": KeptResiduals(250)},
)
"""Starts from the weights of 64²: the network is convolutional, and its levels reach across either grid."""

TINY = replace(
    FULL,
    points=16,
    splits=usual_splits(24, 8, 8, 24, 12, 12),
    unlabelled=Split(20, 2000),
    principal_components=10,
    settings={
        "channels_1": 8,
        "channels_2": 12,
        "channels_3": 16,
        "blocks": 1,
        "bottom_blocks": 1,
        "scale_weight": 0.02,
    },
    members=2,
    epochs=4,
)

RECIPES = {"full": FULL, "full_128": FULL_128, "tiny": TINY}
