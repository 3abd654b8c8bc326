"""Constant-coefficient Poisson solves on a square with Dirichlet boundary, by fast sine transforms.

Two layouts of unknowns occur: interior nodes (DST-I) and cell centres with φ = 0 on the boundary faces (DST-II).
Both diagonalise their five-point Laplacian with eigenvalues built from ℓ_k = 4 sin²(πk/2N), N cells per side.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.fft import dctn, dstn, idstn


def second_difference_eigenvalues(cells: int, modes: np.ndarray) -> Float[np.ndarray, " mode"]:
    """ℓ_k = 4 sin²(πk/2N) for the given mode numbers k on N `cells`."""
    values: Float[np.ndarray, " mode"] = 4.0 * np.sin(np.pi * modes / (2 * cells)) ** 2
    return values


@lru_cache(maxsize=16)
def _inverse_five_point_nodes(cells: int) -> np.ndarray:
    eigenvalues = second_difference_eigenvalues(cells, np.arange(1, cells))
    return np.asarray(1.0 / (eigenvalues[:, None] + eigenvalues[None, :]) / (2 * cells) ** 2)


@lru_cache(maxsize=16)
def _inverse_bilinear_nodes(cells: int) -> np.ndarray:
    eigenvalues = second_difference_eigenvalues(cells, np.arange(1, cells))
    return np.asarray(1.0 / bilinear_symbol(eigenvalues) / (2 * cells) ** 2)


@lru_cache(maxsize=16)
def _inverse_five_point_cells(cells: int) -> np.ndarray:
    eigenvalues = second_difference_eigenvalues(cells, np.arange(1, cells + 1))
    return np.asarray(-1.0 / (eigenvalues[:, None] + eigenvalues[None, :]) / cells**2)


@lru_cache(maxsize=16)
def _inverse_bilinear_neumann(cells: int) -> np.ndarray:
    symbol = bilinear_symbol(second_difference_eigenvalues(cells, np.arange(cells + 1)))
    symbol[0, 0] = 1.0
    inverse = 1.0 / symbol / (2 * cells) ** 2
    inverse[0, 0] = 0.0
    return np.asarray(inverse)


@lru_cache(maxsize=16)
def _neumann_weights(cells: int) -> np.ndarray:
    ends = np.ones(cells + 1)
    ends[[0, -1]] = 0.5
    return np.asarray(1.0 / (ends[:, None] * ends[None, :]))


def bilinear_symbol(eigenvalues: Float[np.ndarray, " mode"]) -> Float[np.ndarray, "mode mode"]:
    """Eigenvalues ℓ_k(1−ℓ_m/6) + ℓ_m(1−ℓ_k/6) of the bilinear (Q1) stiffness matrix with a = 1."""
    mass = 1.0 - eigenvalues / 6.0
    symbol: Float[np.ndarray, "mode mode"] = eigenvalues[:, None] * mass + mass[:, None] * eigenvalues
    return symbol


def solve_five_point_nodes(load: Float[np.ndarray, "x y"]) -> Float[np.ndarray, "x y"]:
    """Solve L z = load on the (N−1)² interior nodes; L has 4 on the diagonal, −1 beside it."""
    inverse = _inverse_five_point_nodes(load.shape[0] + 1)
    return np.asarray(dstn(inverse * dstn(load, type=1), type=1, overwrite_x=True))


def solve_bilinear_nodes(load: Float[np.ndarray, "x y"]) -> Float[np.ndarray, "x y"]:
    """Solve K z = load on the (N−1)² interior nodes; K is the Q1 stiffness matrix with a = 1."""
    inverse = _inverse_bilinear_nodes(load.shape[0] + 1)
    return np.asarray(dstn(inverse * dstn(load, type=1), type=1, overwrite_x=True))


def solve_five_point_cells(load: Float[np.ndarray, "*time x y"], width: float) -> Float[np.ndarray, "*time x y"]:
    """Solve Δ_h φ = load on N² cells of the given width, φ = 0 on boundary faces."""
    cells, axes = load.shape[-1], (-2, -1)
    inverse = _inverse_five_point_cells(cells) * (cells * width) ** 2
    return np.asarray(idstn(inverse * dstn(load, type=2, axes=axes), type=2, axes=axes, overwrite_x=True))


def solve_bilinear_neumann(load: Float[np.ndarray, "x y"]) -> Float[np.ndarray, "x y"]:
    """Apply the pseudo-inverse of the Q1 stiffness matrix (a = 1, natural boundary) on all (N+1)² nodes."""
    cells = load.shape[0] - 1
    transformed = dctn(load * _neumann_weights(cells), type=1, overwrite_x=True)
    return np.asarray(dctn(_inverse_bilinear_neumann(cells) * transformed, type=1, overwrite_x=True))
