"""Symmetric nine-point operators on the interior nodes of a square grid, assembled from 4×4 element matrices.

Corners of a cell are numbered (0,0), (1,0), (0,1), (1,1) in (x, y). Element matrices A_K have shape (4, 4, N, N) and map
constants to zero. Solving is banded Cholesky: m⁴ operations for m² unknowns, whatever the contrast.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded

Elements = Float[np.ndarray, "4 4 cell_x cell_y"]
Inner = Float[np.ndarray, "inner_x inner_y"]

CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
BILINEAR = np.array([[4, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]]) / 6.0
"""Q1 stiffness of a square cell with a = 1."""
_MODES = np.array([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5], np.sqrt(1.5) * np.array([0.5, -0.5, -0.5, 0.5])])
"""Modes in which BILINEAR is the identity on the complement of the constants: its eigenvalues are 1, 1 and 2/3."""


@dataclass(frozen=True)
class NinePoint:
    """Weights of the neighbours, [dx + 1, dy + 1] first, at every interior node."""

    weights: Float[np.ndarray, "3 3 inner_x inner_y"]

    def apply(self, values: Inner) -> Inner:
        """A u on interior nodes; the boundary values are zero."""
        rows, columns = values.shape
        padded, result = np.pad(values, 1), np.zeros_like(values)
        for x in range(3):
            for y in range(3):
                result += self.weights[x, y] * padded[x : x + rows, y : y + columns]
        return result

    def energy(self, values: Inner) -> float:
        """(uᵀA u)^½."""
        return float(np.sqrt(max(np.vdot(values, self.apply(values)), 0.0)))

    def solve(self, load: Inner) -> Inner:
        """A⁻¹ load."""
        inner = load.shape[0]
        bands = np.zeros((inner + 2, inner * inner))
        right, above_left, above, above_right = (self.weights[i].copy() for i in ((1, 2), (2, 0), (2, 1), (2, 2)))
        right[:, -1] = above_right[:, -1] = above_left[:, 0] = 0.0  # neighbours across the end of a line
        for row, weights in (
            (0, self.weights[1, 1]), (1, right), (inner - 1, above_left), (inner, above), (inner + 1, above_right),
        ):  # fmt: skip
            bands[row] += weights.ravel()
        solution = solveh_banded(bands, load.ravel(), lower=True, overwrite_ab=True, check_finite=False)
        return np.asarray(solution.reshape(load.shape))


def assemble(elements: Elements) -> NinePoint:
    """The sum of all element matrices on the interior nodes."""
    cells = elements.shape[2]
    weights = np.zeros((3, 3, cells + 1, cells + 1))
    for p, (i, j) in enumerate(CORNERS):
        for q, (k, m) in enumerate(CORNERS):
            weights[1 + k - i, 1 + m - j, i : i + cells, j : j + cells] += elements[p, q]
    return NinePoint(np.ascontiguousarray(weights[:, :, 1:-1, 1:-1]))


def assemble_load(loads: Float[np.ndarray, "4 cell_x cell_y"]) -> Inner:
    """The sum of all element loads on the interior nodes."""
    cells = loads.shape[1]
    total = np.zeros((cells + 1, cells + 1))
    for load, (i, j) in zip(loads, CORNERS, strict=True):
        total[i : i + cells, j : j + cells] += load
    return total[1:-1, 1:-1]


def spectral_limits(elements: Elements) -> tuple[float, float]:
    """μ, L with μM ≤ A ≤ LM, M the Q1 stiffness with a = 1: the extremes over all cells, hence proven for the sum."""
    reduced = np.einsum("ia,abxy,jb->xyij", _MODES, elements, _MODES).reshape(-1, 3, 3)
    values = np.linalg.eigvalsh(reduced)
    return float(values[:, 0].min()), float(values[:, -1].max())
