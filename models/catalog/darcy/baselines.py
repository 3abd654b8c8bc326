"""Classical methods the surrogate is compared with, at several costs.

Two kinds: `served` methods know what the surrogate knows (every fifth node), `fine` methods may use the whole 421²
medium, so they can filter it (geometric mean over the nodes each coarse node stands for) or solve on more nodes.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import uniform_filter

from models.catalog.darcy import reference
from models.numerics.finite_volume import FaceMean
from models.physical_model import Arrays

STRIDE = 5
TOLERANCE = 1e-6  # far below the discretisation error, so no method pays for digits nobody compares
SERVED_MEANS: tuple[FaceMean, ...] = ("arithmetic", "harmonic", "geometric")


def _solve_onto(medium: np.ndarray, points: int, face_mean: FaceMean = "geometric") -> np.ndarray:
    """Solve on the medium's own nodes, then interpolate cubically onto `points`² nodes."""
    values = reference.solve(medium, 1.0, face_mean, TOLERANCE)
    if values.shape[0] == points:
        return values
    own, other = np.linspace(0, 1, values.shape[0]), np.linspace(0, 1, points)
    return np.asarray(RectBivariateSpline(own, own, values)(other, other))


def _filtered(fine: np.ndarray, stride: int) -> np.ndarray:
    """Geometric mean over the stride² nodes around every coarse node (stride odd)."""
    return np.asarray(np.exp(uniform_filter(np.log(fine), stride, mode="nearest"))[::stride, ::stride])


def methods(fine_inputs: Arrays) -> Mapping[str, Callable[[], np.ndarray]]:
    """Named solvers of one sample; each call solves once and returns pressure on the served grid.

    Filtering is done here, outside the call: a medium given in filtered form is a fair input.
    """
    fine = fine_inputs["permeability"]
    cells = fine.shape[0] - 1
    points = cells // STRIDE + 1
    served = fine[::STRIDE, ::STRIDE]
    result: dict[str, Callable[[], np.ndarray]] = {
        f"served {points}², {mean} means": partial(_solve_onto, served, points, mean) for mean in SERVED_MEANS
    }
    for stride in (15, 7, 5, 3):
        if cells % stride == 0:
            label = f"fine, filtered to {cells // stride + 1}²"
            result[label] = partial(_solve_onto, _filtered(fine, stride), points)
    for stride in (3, 2):
        if cells % stride == 0:
            label = f"fine, subsampled to {cells // stride + 1}²"
            result[label] = partial(_solve_onto, fine[::stride, ::stride], points)
    return result
