"""Nodal data as functions: a coefficient constant on each node's control volume, and the interpolation that fits it.

On cells of half the spacing every cell belongs to one node, so the coefficient is constant on each of them and nothing
is averaged. An interpolation that keeps the flux a ∂v continuous between nodes of different coefficient has most of the
error of the plain bilinear one removed; where the coefficient is constant the two are equal.
"""

import numpy as np
from jaxtyping import Float

from models.numerics.bilinear import Cells


def control_volumes(nodal: Float[np.ndarray, "x y"]) -> Cells:
    """Values at (N+1)² nodes as cell values on (2N)² half cells, each of which belongs to one node."""
    return np.asarray(nodal.repeat(2, axis=0)[1:-1].repeat(2, axis=1)[:, 1:-1])


def interpolate(
    values: Float[np.ndarray, "*time x y"], coefficient: Float[np.ndarray, "x y"]
) -> Float[np.ndarray, "*time fine_x fine_y"]:
    """V on the half cells: the nodal values, flux-continuous means on edges, least energy at cell centres."""
    points = 2 * values.shape[-1] - 1
    weighted = coefficient * values
    fine = np.empty((*values.shape[:-2], points, points))
    fine[..., ::2, ::2] = values
    fine[..., 1::2, ::2] = (weighted[..., 1:, :] + weighted[..., :-1, :]) / (coefficient[1:] + coefficient[:-1])
    fine[..., ::2, 1::2] = (weighted[..., 1:] + weighted[..., :-1]) / (coefficient[:, 1:] + coefficient[:, :-1])
    side_x, side_y = fine[..., 1::2, ::2], fine[..., ::2, 1::2]
    total, sum_ = np.zeros((points // 2,) * 2), np.zeros((*values.shape[:-2], points // 2, points // 2))
    for x in (slice(None, -1), slice(1, None)):
        for y in (slice(None, -1), slice(1, None)):
            total += coefficient[x, y]
            sum_ += 2.0 * weighted[..., x, y] + coefficient[x, y] * (side_x[..., :, y] + side_y[..., x, :])
    fine[..., 1::2, 1::2] = sum_ / (4.0 * total)
    return fine
