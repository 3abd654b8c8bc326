"""Accuracy of trajectories: ‖p − u‖₂/‖u‖₂ over space and all lead times, at the last one, and by contrast of the medium."""

import numpy as np

from models.numerics.metrics import relative_l2
from models.physical_model import Arrays

BINS = {"contrast below 4": (0.0, 4.0), "contrast 4 and above": (4.0, np.inf)}


def scores(inputs: Arrays, means: Arrays, deviations: Arrays, truths: Arrays) -> dict[str, float]:
    """All figures of a split; temperature is (batch, time, x, y), diffusivity (batch, x, y)."""
    answer, truth = means["temperature"], truths["temperature"]
    whole, last = relative_l2(answer, truth), relative_l2(answer[:, -1], truth[:, -1])
    result = {"relative L2, all lead times": float(whole.mean()), "relative L2, last lead time": float(last.mean())}
    medium = inputs["diffusivity"].reshape(len(whole), -1)
    contrast = medium.max(axis=1) / medium.min(axis=1)
    for label, (low, high) in BINS.items():
        inside = (contrast >= low) & (contrast < high)
        if inside.any():
            result[f"relative L2, all lead times, {label}"] = float(whole[inside].mean())
    return result
