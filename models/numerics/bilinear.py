"""Bilinear (Q1) functions on a square grid with a coefficient constant on each cell.

Nodal values (N+1)², cells N². On a cell, ∂ₓv is linear in y between the differences along its two x-edges, so with
d⁰, d¹ those differences and s(p, r) = (p² + pr + r²)/3, |||v|||² = Σ_K a_K [s(d⁰, d¹) + s(e⁰, e¹)] (h cancels in 2-D).
"""

import numpy as np
from jaxtyping import Float
from scipy import sparse

Nodes = Float[np.ndarray, "x y"]
Cells = Float[np.ndarray, "cell_x cell_y"]


def energy_squared(values: Nodes, coefficient: Cells) -> float:
    """|||v|||² = ∫ a |∇v|²."""
    along_x, along_y = np.diff(values, axis=0), np.diff(values, axis=1)
    square_x = along_x * along_x
    square_y = along_y * along_y
    cell = square_x[:, 1:] + square_x[:, :-1] + along_x[:, 1:] * along_x[:, :-1]
    cell += square_y[1:] + square_y[:-1] + along_y[1:] * along_y[:-1]
    return float(np.vdot(coefficient, cell)) / 3.0


def apply_stiffness(values: Nodes, coefficient: Cells) -> Nodes:
    """A v on all nodes (natural boundary), (Av)·v = |||v|||²."""
    result = np.zeros_like(values)
    along_x, along_y = np.diff(values, axis=0), np.diff(values, axis=1)
    mean = along_x[:, :-1] + along_x[:, 1:]
    edge = np.zeros_like(along_x)
    edge[:, :-1] += coefficient * (mean + along_x[:, :-1])
    edge[:, 1:] += coefficient * (mean + along_x[:, 1:])
    result[1:] += edge
    result[:-1] -= edge
    mean = along_y[:-1] + along_y[1:]
    edge = np.zeros_like(along_y)
    edge[:-1] += coefficient * (mean + along_y[:-1])
    edge[1:] += coefficient * (mean + along_y[1:])
    result[:, 1:] += edge
    result[:, :-1] -= edge
    result /= 6.0
    return result


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
