"""Accuracy of trajectories: ‖p − u‖₂/‖u‖₂ with the norm over space and all times after 0 jointly, by viscosity.

The frame at time 0 is given, so it is not scored. The published tables are at one viscosity each: compare with the bin
that holds it.
"""

import numpy as np
from jaxtyping import Float

from models.numerics.metrics import relative_l2
from models.physical_model import Arrays

BINS = {
    "ν < 0.001": (0.0, 0.999e-3),  # float32 has no exact 0.001
    "ν in [0.001, 0.002]": (0.999e-3, 2e-3),
    "ν in [0.002, 0.01]": (2e-3, 1e-2),
    "ν ≥ 0.01": (1e-2, np.inf),
}


def _binned(
    label: str, errors: Float[np.ndarray, " batch"], viscosity: Float[np.ndarray, " batch"]
) -> dict[str, float]:
    result = {label: float(errors.mean())}
    for name, (low, high) in BINS.items():
        inside = (viscosity >= low) & (viscosity < high)
        if inside.any():
            result[f"{label}, {name}"] = float(errors[inside].mean())
    return result


def scores(inputs: Arrays, means: Arrays, deviations: Arrays, truths: Arrays) -> dict[str, float]:
    """All figures of a split; velocity is (batch, time, x), viscosity (batch,)."""
    viscosity = inputs["viscosity"].astype(np.float64)
    answer, truth = means["velocity"], truths["velocity"]
    whole = relative_l2(answer[:, 1:], truth[:, 1:])
    result = _binned("relative L2, all times", whole, viscosity)
    result |= _binned("relative L2, last time", relative_l2(answer[:, -1], truth[:, -1]), viscosity)
    return result | {"relative L2, all times, worst": float(whole.max())}
