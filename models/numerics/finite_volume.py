"""Five-point finite volumes for −div(a ∇u) = f on the nodes of a square grid, u = 0 on the boundary.

    Σ_faces a_face (u_P − u_neighbour) = h² f_P       (N−1)² interior nodes, spacing h = 1/N

The coefficient lives at the nodes; the mean taken on a face decides which medium the scheme sees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded

from models.numerics import conjugate_gradients
from models.numerics.sine_transform import solve_five_point_nodes

FaceMean = Literal["arithmetic", "geometric", "harmonic"]

_MEANS: dict[FaceMean, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "arithmetic": lambda p, q: 0.5 * (p + q),
    "geometric": lambda p, q: np.sqrt(p * q),
    "harmonic": lambda p, q: 2.0 * p * q / (p + q),
}


@dataclass(frozen=True)
class FivePoint:
    """The five-point operator: face coefficients along x and y, and their sum on the diagonal."""

    along_x: Float[np.ndarray, "faces_x inner_y"]
    along_y: Float[np.ndarray, "inner_x faces_y"]
    diagonal: Float[np.ndarray, "inner_x inner_y"]

    def apply(self, values: Float[np.ndarray, "inner_x inner_y"]) -> Float[np.ndarray, "inner_x inner_y"]:
        """A u on interior nodes; the boundary values are zero."""
        result = self.diagonal * values
        result[1:] -= self.along_x[1:-1] * values[:-1]
        result[:-1] -= self.along_x[1:-1] * values[1:]
        result[:, 1:] -= self.along_y[:, 1:-1] * values[:, :-1]
        result[:, :-1] -= self.along_y[:, 1:-1] * values[:, 1:]
        return np.asarray(result)


def assemble(coefficient: Float[np.ndarray, "x y"], face_mean: FaceMean) -> FivePoint:
    """Five-point operator of a nodal coefficient (N+1)²."""
    mean = _MEANS[face_mean]
    along_x = mean(coefficient[1:, 1:-1], coefficient[:-1, 1:-1])
    along_y = mean(coefficient[1:-1, 1:], coefficient[1:-1, :-1])
    return FivePoint(along_x, along_y, along_x[1:] + along_x[:-1] + along_y[:, 1:] + along_y[:, :-1])


def solve_iteratively(
    matrix: FivePoint, load: Float[np.ndarray, "inner_x inner_y"], relative_tolerance: float
) -> Float[np.ndarray, "inner_x inner_y"]:
    """PCG with the constant-coefficient sine-transform solve: about (√κ/2)·ln(2/tol) steps, κ = a_max/a_min."""
    return conjugate_gradients.solve(matrix.apply, solve_five_point_nodes, load, relative_tolerance, 2000)


def solve_directly(
    matrix: FivePoint, load: Float[np.ndarray, "inner_x inner_y"]
) -> Float[np.ndarray, "inner_x inner_y"]:
    """Banded Cholesky (LAPACK pbsv), m⁴ operations for m² unknowns whatever the contrast."""
    inner = load.shape[0]
    bands = np.zeros((inner + 1, inner * inner))
    bands[0] = matrix.diagonal.ravel()
    below = -matrix.along_y[:, 1:]
    below[:, -1] = 0.0
    bands[1] = below.ravel()
    bands[inner] = -matrix.along_x[1:].ravel()
    solution = solveh_banded(bands, load.ravel(), lower=True, overwrite_ab=True, check_finite=False)
    return np.asarray(solution.reshape(load.shape))
