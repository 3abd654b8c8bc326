"""Classical methods the surrogate is compared with: the reference's own scheme on few points.

The initial velocity is cut to the modes of the coarse grid, the answer at the last time is interpolated
trigonometrically. The step is the longest that neither stability nor accuracy forbids.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float

from models.catalog.burgers import reference
from models.catalog.burgers.spec import LEAD_TIMES
from models.physical_model import Arrays

POINTS = (32, 64, 128, 256)
COURANT = 1.4  # half of what is stable
LONGEST_STEP = 0.05

Batch = Float[np.ndarray, "batch x"]


def spectral(initial: Batch, viscosity: Float[np.ndarray, " batch"], grid: int) -> Batch:
    """Velocity at the last time on the given nodes, solved on `grid` points."""
    speed = max(float(np.abs(initial).max()), 1e-300)
    step = min(LONGEST_STEP, COURANT / (2 * np.pi * (grid / 3) * speed))
    last = np.array([LEAD_TIMES.stop])
    return np.asarray(reference.integrate(initial, viscosity, last, grid, step)[:, -1])


def _one(initial: Batch, viscosity: Float[np.ndarray, " batch"], grid: int) -> Float[np.ndarray, " x"]:
    return np.asarray(spectral(initial, viscosity, grid)[0])


def methods(fine_inputs: Arrays) -> Mapping[str, Callable[[], np.ndarray]]:
    """Named solvers of one sample; each call solves once and returns velocity at the last time on the served grid."""
    initial = fine_inputs["initial_velocity"].astype(np.float64)[None]
    viscosity = np.reshape(fine_inputs["viscosity"], 1).astype(np.float64)
    return {
        f"spectral, {grid} points": partial(_one, initial, viscosity, grid)
        for grid in POINTS
        if grid <= initial.shape[1]
    }
