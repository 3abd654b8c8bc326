"""Bilinear (Q1) functions on a square grid with a coefficient constant on each cell.

Nodal values (N+1)², cells N². On a cell, ∂ₓv is linear in y between the differences d⁰, d¹ along its two x-edges, ∂_yv in x
between e⁰, e¹, and d¹ − d⁰ = e¹ − e⁰. So |||v|||² = Σ_K a_K [d̄² + ē² + (d¹ − d⁰)²/6], means barred (h cancels in 2-D).
"""

import numpy as np
from jaxtyping import Float
from scipy import sparse

Nodes = Float[np.ndarray, "x y"]
Cells = Float[np.ndarray, "cell_x cell_y"]


def gradient(values: Float[np.ndarray, "*time x y"]) -> Float[np.ndarray, "part *time cell_x cell_y"]:
    """h ∂ₓv and h ∂_yv averaged over each cell, and their common variation: Σ of the squares = ∫_K |∇v|² (h cancels)."""
    cells = (values.shape[-2] - 1, values.shape[-1] - 1)
    parts = np.empty((3, *values.shape[:-2], *cells))
    half = 0.5 * values
    sums, differences = half[..., 1:] + half[..., :-1], half[..., 1:] - half[..., :-1]
    np.subtract(sums[..., 1:, :], sums[..., :-1, :], out=parts[0])
    np.add(differences[..., 1:, :], differences[..., :-1, :], out=parts[1])
    np.subtract(differences[..., 1:, :], differences[..., :-1, :], out=parts[2])
    parts[2] *= 2.0 / np.sqrt(6.0)
    return parts


def energy_squared(values: Nodes, coefficient: Cells) -> float:
    """|||v|||² = ∫ a |∇v|²."""
    parts = gradient(values)
    parts *= parts
    return float(np.vdot(coefficient, parts[0] + parts[1] + parts[2]))


def gradient_adjoint(parts: Float[np.ndarray, "part cell_x cell_y"]) -> Nodes:
    """Gᵀp for G the `gradient`: Gᵀp · v = p · Gv."""
    along_x, along_y, twist = parts
    twist = twist * (2.0 / np.sqrt(6.0))
    cells_x, cells_y = along_x.shape
    beside, across = np.zeros((cells_x + 1, cells_y)), np.zeros((cells_x + 1, cells_y))
    beside[1:] = along_x
    beside[:-1] -= along_x
    across[1:] = along_y + twist
    across[:-1] += along_y
    across[:-1] -= twist
    result = np.zeros((cells_x + 1, cells_y + 1))
    np.add(beside, across, out=result[:, 1:])
    result[:, :-1] += beside
    result[:, :-1] -= across
    result *= 0.5
    return result


def apply_stiffness(values: Nodes, coefficient: Cells) -> Nodes:
    """A v on all nodes (natural boundary), (Av)·v = |||v|||²."""
    parts = gradient(values)
    parts *= coefficient
    return gradient_adjoint(parts)


def cell_load(source: Cells) -> Nodes:
    """b_i = (f, φ_i) for f constant on each cell of the unit square: a quarter of each cell to each corner."""
    quarter = source / (4.0 * source.shape[0] * source.shape[1])
    load = np.zeros((source.shape[0] + 1, source.shape[1] + 1))
    load[:-1, :-1] += quarter
    load[1:, :-1] += quarter
    load[:-1, 1:] += quarter
    load[1:, 1:] += quarter
    return load


def prolong(values: Nodes) -> Float[np.ndarray, "fine_x fine_y"]:
    """The same function on cells of half the width (Q1 nests)."""
    points = 2 * values.shape[0] - 1
    fine = np.empty((points, points))
    fine[::2, ::2] = values
    fine[1::2, ::2] = 0.5 * (values[1:] + values[:-1])
    fine[:, 1::2] = 0.5 * (fine[:, 2::2] + fine[:, :-1:2])
    return fine


def mass_matrix(cells: int) -> sparse.csr_matrix:
    """(M w)·w = ‖w‖² on the interior nodes, (N−1)² in row-major order."""
    width, count = 1.0 / cells, cells - 1
    line = sparse.diags([width / 6.0, 4.0 * width / 6.0, width / 6.0], [-1, 0, 1], shape=(count, count))
    return sparse.csr_matrix(sparse.kron(line, line))


def stiffness_matrix(coefficient: Cells) -> sparse.csr_matrix:
    """(A w)·w = |||w|||² on the interior nodes: a_K times 2/3 on the diagonal, −1/6 beside it, −1/3 across."""
    cells = coefficient.shape[0]
    node = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    corners = [node[x : cells + x, y : cells + y].ravel() for x in (0, 1) for y in (0, 1)]
    weight = np.array([[4, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]]) / 6.0
    rows = np.concatenate([corners[i] for i in range(4) for _ in range(4)])
    columns = np.concatenate([corners[j] for _ in range(4) for j in range(4)])
    entries = np.concatenate([weight[i, j] * coefficient.ravel() for i in range(4) for j in range(4)])
    full = sparse.csr_matrix((entries, (rows, columns)), shape=(node.size, node.size))
    inner = node[1:-1, 1:-1].ravel()
    return sparse.csr_matrix(full[inner][:, inner])
