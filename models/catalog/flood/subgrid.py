"""A coarse solver that knows the fine bed: volume–level tables in its cells, conveyance in its faces.

    cell:  v(η) = mean of max(η − z_i, 0) over its fine cells, inverted exactly (piecewise linear in the sorted beds)
    face:  A = mean of h_i,  K = mean of h_i^{5/3}/n_i,  h_i = max(max(η_L, η_R) − z_i, 0) over its fine faces
    q⁺ = 2q* / (1 + √(1 + 4 g Δt |q*| A/K²)),   q* = smoothed q − g A Δt Δη/Δx

which is the scheme of `reference.py` where the bed is even (then A/K² = n²/h^{7/3}). Source: van Ormondt, Leijnse,
de Goede, Nederhoff & van Dongeren (2025), subgrid corrections in SFINCS. A baseline; importing it imports numba.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from models.catalog.flood import kernel
from models.catalog.flood.kernel import BESIDE, CENTRE, DRY, ONE, TINY, TWO, ZERO, compile_kernel
from models.catalog.flood.reference import (
    COURANT,
    GRAVITY,
    INSTANT,
    LONGEST_STEP,
    SHALLOWEST,
    Terrain,
    breakpoints,
    rain_rate,
)

Cells = Float[np.ndarray, "y x"]
Table = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]
Grid = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class Tables(NamedTuple):
    """Sorted beds of each cell; bed and roughness of the fine faces of each coarse face (first line: walls)."""

    beds: Table
    face_x: Table
    face_y: Table
    roughness_x: Table
    roughness_y: Table


class State(NamedTuple):
    """Mean depth, level and highest level so far of the cells; two planes of discharge for each direction."""

    depth: Grid
    level: Grid
    highest: Grid
    share: Grid
    flux_x: Table
    flux_y: Table


def _fine_faces(values: np.ndarray, ratio: int, combine: np.ufunc, wall: float) -> np.ndarray:
    """`combine` of the two fine cells beside each fine face that lies on a coarse face along x, grouped by face."""
    rows, columns = values.shape
    right, left = values[:, ratio::ratio], values[:, ratio - 1 : -1 : ratio]
    lines = np.full((rows, columns // ratio), wall)
    lines[:, 1:] = combine(left, right)
    return lines.reshape(rows // ratio, ratio, columns // ratio).transpose(0, 2, 1).astype(np.float32)


def _tables(terrain: Terrain, ratio: int) -> Tables:
    z, n = terrain.elevation - terrain.elevation.min(), terrain.roughness
    rows, columns = z.shape[0] // ratio, z.shape[1] // ratio
    beds = z.reshape(rows, ratio, columns, ratio).transpose(0, 2, 1, 3).reshape(rows, columns, -1)

    def along_y(values: np.ndarray, combine: np.ufunc, wall: float) -> np.ndarray:
        return np.ascontiguousarray(_fine_faces(values.T, ratio, combine, wall).transpose(1, 0, 2))

    wall = float(kernel.WALL)
    half = np.float32(0.5)
    roughness_x, roughness_y = half * _fine_faces(n, ratio, np.add, 1.0), half * along_y(n, np.add, 1.0)
    face_x, face_y = _fine_faces(z, ratio, np.maximum, wall), along_y(z, np.maximum, wall)
    return Tables(np.sort(beds, axis=2).astype(np.float32), face_x, face_y, roughness_x, roughness_y)


@compile_kernel
def invert(level: Grid, depth: Grid, beds: Table) -> np.float32:
    """Level of each cell from its mean depth; returns the deepest point."""
    rows, columns, count = beds.shape
    deepest = ZERO
    for i in range(rows):
        for j in range(columns):
            volume, below, wet = depth[i, j] * np.float32(count), beds[i, j, 0], 1
            while wet < count and np.float32(wet) * beds[i, j, wet] - below < volume:
                below += beds[i, j, wet]
                wet += 1
            level[i, j] = (volume + below) / np.float32(wet)
            deepest = max(deepest, level[i, j] - beds[i, j, 0])
    return deepest


@compile_kernel
def discharge(
    old: Grid, new: Grid, level: Grid, face: Table, roughness: Table, down: int, across: int,
    four_g_dt: np.float32, pull: np.float32,
) -> None:  # fmt: skip
    """Momentum on the faces before each cell, along y (down = 1) or x (across = 1); arrays have one face more."""
    rows, columns, count = face.shape
    for i in range(down, rows):
        for j in range(across, columns):
            left, right, q = level[i - down, j - across], level[i, j], old[i, j]
            higher, area, conveyance = max(left, right), ZERO, ZERO
            for k in range(count):
                depth = higher - face[i, j, k]
                if depth > DRY:
                    area += depth
                    conveyance += depth * depth * kernel.reciprocal_cube_root(depth) / roughness[i, j, k]
            if area > ZERO:
                area, conveyance = area / np.float32(count), conveyance / np.float32(count)
                driven = CENTRE * q + BESIDE * (old[i - down, j - across] + old[i + down, j + across])
                driven -= pull * area * (right - left)
                resistance = four_g_dt * area / (conveyance * conveyance)
                new[i, j] = TWO * driven / (ONE + np.sqrt(ONE + resistance * abs(driven)))
            else:
                new[i, j] = ZERO


@compile_kernel
def balance(depth: Grid, share: Grid, along_x: Grid, along_y: Grid, rain: np.float32, ratio: np.float32) -> None:
    """Limit what leaves each cell to what it holds, then its mass; `rain` in m per step, `ratio` Δt/Δx."""
    rows, columns = depth.shape
    for i in range(rows):
        for j in range(columns):
            outgoing = max(along_x[i, j + 1], ZERO) + max(-along_x[i, j], ZERO)
            outgoing += max(along_y[i + 1, j], ZERO) + max(-along_y[i, j], ZERO)
            share[i, j] = min(ONE, (depth[i, j] + rain) / (outgoing * ratio + TINY))
    for i in range(rows):
        for j in range(columns):
            if j > 0:
                along_x[i, j] *= share[i, j - 1] if along_x[i, j] > ZERO else share[i, j]
            if i > 0:
                along_y[i, j] *= share[i - 1, j] if along_y[i, j] > ZERO else share[i, j]
    for i in range(rows):
        for j in range(columns):
            net = along_x[i, j] - along_x[i, j + 1] + along_y[i, j] - along_y[i + 1, j]
            depth[i, j] = max(depth[i, j] + (rain + ratio * net), ZERO)


@compile_kernel
def advance(state: State, tables: Tables, cell_size: float, rain: float, duration: float) -> None:
    """Run for `duration` seconds under constant `rain` (m s⁻¹); plane 0 of the fluxes is current before and after."""
    time, now = 0.0, 0
    deepest = invert(state.level, state.depth, tables.beds)
    while duration - time > INSTANT:
        size = min(LONGEST_STEP, COURANT * cell_size / np.sqrt(GRAVITY * max(float(deepest), SHALLOWEST)))
        size = min(size, duration - time)
        four_g_dt, pull = np.float32(4.0 * GRAVITY * size), np.float32(GRAVITY * size / cell_size)
        new_x, new_y = state.flux_x[1 - now], state.flux_y[1 - now]
        discharge(state.flux_x[now], new_x, state.level, tables.face_x, tables.roughness_x, 0, 1, four_g_dt, pull)
        discharge(state.flux_y[now], new_y, state.level, tables.face_y, tables.roughness_y, 1, 0, four_g_dt, pull)
        balance(state.depth, state.share, new_x, new_y, np.float32(size * rain), np.float32(size / cell_size))
        deepest = invert(state.level, state.depth, tables.beds)
        np.maximum(state.highest, state.level, state.highest)
        time, now = time + size, 1 - now
    if now == 1:
        state.flux_x[0], state.flux_y[0] = state.flux_x[1], state.flux_y[1]


def highest_level(terrain: Terrain, rain: Float[np.ndarray, " step"], ratio: int, stop: float) -> Cells:
    """Highest level (m) of every coarse cell, `ratio` fine cells wide, until `stop`."""
    tables = _tables(terrain, ratio)
    rows, columns = tables.beds.shape[:2]
    depth, level, share = np.zeros((3, rows, columns), np.float32)
    flux_x, flux_y = np.zeros((2, 2, rows + 1, columns + 1), np.float32)
    state = State(depth, level, np.zeros_like(level), share, flux_x, flux_y)
    time = 0.0
    for end in breakpoints(len(rain), np.array([stop])):
        advance(state, tables, ratio * terrain.cell_size, rain_rate(rain, time), end - time)
        time = end
    return state.highest.astype(np.float64) + float(terrain.elevation.min())
