"""Reference solver for floods: the local inertial equations on a staggered grid, explicit in time.

    h_f = max(η_L, η_R) − max(z_L, z_R),   η = h + z,   q = 0 where h_f ≤ 1 mm
    q* = θq + (1−θ)(q₋ + q₊)/2 − g h_f Δt (η_R − η_L)/Δx,   θ = 0.9
    q⁺ + g Δt n²|q⁺|q⁺ / h_f^{7/3} = q*,   so   q⁺ = 2q* / (1 + √(1 + 4 g Δt n²|q*| / h_f^{7/3}))
    h⁺ = h + Δt (r − ∇·q⁺),   Δt = min(30 s, 0.6 Δx / √(g max h))

depth: (y, x) at cell centres; discharge per width: along x at (y, x+1) faces, along y at (y+1, x) faces. q₋, q₊ are the
neighbours along the discharge. Each flux that leaves a cell is scaled so that no cell gives more than it holds, hence
depth ≥ 0 and mass is kept to round-off. First order. Levels are differences to the left cell, so altitude costs no digits.

Two departures from de Almeida, Bates, Freer & Souvignet (2012), eq. 10. Friction is fully implicit: their denominator
1 + g Δt n²|q|/h_f^{7/3} makes a film on a slope oscillate from step to step, and water run off too fast. And the Courant
number is 0.6, not 0.7: the checkerboard of a square grid has the step matrix with trace 1.8 − 8C² and determinant 0.8
(θ = 0.9, no friction), which is stable only for 8C² ≤ 3.6, C ≤ 0.67.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from models.catalog.flood.spec import CELL_SIZE, LEAD_TIMES, RAIN_STEP
from models.physical_model import Arrays

GRAVITY = 9.81
THETA = 0.9
DRY = 1e-3
COURANT = 0.6
LONGEST_STEP = 30.0
SHALLOWEST = 0.01  # least depth in the time step, so that a film does not ask for an infinite one
MILLIMETRES_PER_HOUR = 1e-3 / 3600.0
INSTANT = 1e-6  # seconds below which two times are the same

Cells = Float[np.ndarray, "y x"]
Edges = Callable[[float, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Terrain:
    """Bed elevation (m) and Manning's roughness of square cells."""

    elevation: Cells
    roughness: Cells
    cell_size: float = CELL_SIZE


@dataclass(frozen=True)
class Flow:
    """Depth (m) of the cells and discharge per width (m² s⁻¹) through all faces."""

    depth: Cells
    along_x: Float[np.ndarray, "y x+1"]
    along_y: Float[np.ndarray, "y+1 x"]


@dataclass(frozen=True)
class Simulation:
    """Answer of a run; `mass_error` is water gained from nothing, relative to all water that was ever there."""

    maximum_depth: Cells
    depth: Float[np.ndarray, "time y x"]
    mass_error: float
    steps: int


def closed(time: float, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """No discharge through the first and the last column of faces."""
    return np.zeros(len(depth)), np.zeros(len(depth))


def at_rest(depth: Cells) -> Flow:
    """Water that does not move."""
    rows, columns = depth.shape
    return Flow(depth, np.zeros((rows, columns + 1)), np.zeros((rows + 1, columns)))


def time_step(depth: Cells, cell_size: float) -> float:
    """The stable step of the deepest cell's gravity wave."""
    deepest = max(float(depth.max()), SHALLOWEST)
    return min(LONGEST_STEP, COURANT * cell_size / float(np.sqrt(GRAVITY * deepest)))


def _inner_discharge(previous: np.ndarray, depth: np.ndarray, terrain: Terrain, dt: float) -> np.ndarray:
    """Momentum on the inner faces along the last axis; all arrays are oriented that way."""
    left, right = depth[:, :-1], depth[:, 1:]
    rise = np.diff(terrain.elevation, axis=1)
    roughness = 0.5 * (terrain.roughness[:, :-1] + terrain.roughness[:, 1:])
    flow_depth = np.maximum(left, right + rise) - np.maximum(0.0, rise)
    wet = flow_depth > DRY
    flow_depth = np.where(wet, flow_depth, 1.0)
    smoothed = THETA * previous[:, 1:-1] + 0.5 * (1.0 - THETA) * (previous[:, :-2] + previous[:, 2:])
    driven = smoothed - GRAVITY * dt * flow_depth * (right - left + rise) / terrain.cell_size
    friction = GRAVITY * dt * roughness**2 / (flow_depth**2 * np.cbrt(flow_depth))
    return np.where(wet, 2.0 * driven / (1.0 + np.sqrt(1.0 + 4.0 * friction * np.abs(driven))), 0.0)


def _transposed(terrain: Terrain) -> Terrain:
    return Terrain(terrain.elevation.T, terrain.roughness.T, terrain.cell_size)


def _limited(along_x: np.ndarray, along_y: np.ndarray, available: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale what leaves each cell to the `available` discharge: (h/Δt + r) Δx."""
    outgoing = np.maximum(along_x[:, 1:], 0.0) - np.minimum(along_x[:, :-1], 0.0)
    outgoing += np.maximum(along_y[1:], 0.0) - np.minimum(along_y[:-1], 0.0)
    share = np.where(outgoing > available, available / np.where(outgoing > 0.0, outgoing, 1.0), 1.0)
    share = np.pad(share, 1, constant_values=1.0)
    limited_x = along_x * np.where(along_x > 0.0, share[1:-1, :-1], share[1:-1, 1:])
    limited_y = along_y * np.where(along_y > 0.0, share[:-1, 1:-1], share[1:, 1:-1])
    return limited_x, limited_y


def step(terrain: Terrain, flow: Flow, rain: float, dt: float, edges: tuple[np.ndarray, np.ndarray]) -> Flow:
    """One step of `dt` seconds; `rain` in m s⁻¹, `edges` the discharges through the first and last column of faces."""
    along_x, along_y = np.zeros_like(flow.along_x), np.zeros_like(flow.along_y)
    along_x[:, 0], along_x[:, -1] = edges
    along_x[:, 1:-1] = _inner_discharge(flow.along_x, flow.depth, terrain, dt)
    along_y[1:-1] = _inner_discharge(flow.along_y.T, flow.depth.T, _transposed(terrain), dt).T
    available = (flow.depth / dt + rain) * terrain.cell_size
    along_x, along_y = _limited(along_x, along_y, available)
    divergence = (np.diff(along_x, axis=1) + np.diff(along_y, axis=0)) / terrain.cell_size
    # the limiter leaves a cell empty only up to round-off
    depth = np.maximum(flow.depth + dt * (rain - divergence), 0.0)
    return Flow(depth, along_x, along_y)


def breakpoints(rain_steps: int, times: Float[np.ndarray, " time"]) -> list[float]:
    """Ends of the intervals of constant rain up to the last time, with the output times among them."""
    ends = RAIN_STEP * np.arange(1, rain_steps + 1)
    return sorted({float(t) for t in (*ends[ends < times[-1]], *times)})


def rain_rate(rain: Float[np.ndarray, " step"], time: float) -> float:
    """Rain in m s⁻¹ just after `time`, none after the last step."""
    index = int((time + INSTANT) // RAIN_STEP)
    return float(rain[index]) * MILLIMETRES_PER_HOUR if index < len(rain) else 0.0


def simulate(
    terrain: Terrain,
    rain: Float[np.ndarray, " step"],
    times: Float[np.ndarray, " time"],
    edges: Edges = closed,
    initial_depth: Cells | None = None,
) -> Simulation:
    """Depth at ascending `times` (s) and its maximum; `rain` in mm/h, one value per 900 s."""
    flow = at_rest(np.zeros_like(terrain.elevation) if initial_depth is None else initial_depth)
    maximum, frames, count, time = flow.depth, [], 0, 0.0
    start, gained, area = float(flow.depth.sum()), 0.0, flow.depth.size
    for end in breakpoints(len(rain), times):
        rate = rain_rate(rain, time)
        while end - time > INSTANT:
            dt = min(time_step(flow.depth, terrain.cell_size), end - time)
            flow = step(terrain, flow, rate, dt, edges(time, flow.depth))
            inflow = float(flow.along_x[:, 0].sum() - flow.along_x[:, -1].sum())
            gained += dt * (rate * area + inflow / terrain.cell_size)
            maximum, count, time = np.maximum(maximum, flow.depth), count + 1, time + dt
        if np.any(np.abs(times - end) < INSTANT):
            frames.append(flow.depth)
    excess = float(flow.depth.sum()) - start - gained
    return Simulation(maximum, np.stack(frames), excess / max(start + gained, 1e-300), count)


def terrain_of(inputs: Arrays) -> Terrain:
    """The served terrain in float64."""
    return Terrain(inputs["elevation"].astype(np.float64), inputs["roughness"].astype(np.float64))


def solve(inputs: Arrays) -> Arrays:
    """The served outputs."""
    result = simulate(terrain_of(inputs), inputs["rain"].astype(np.float64), LEAD_TIMES.values)
    return {"maximum_depth": result.maximum_depth, "depth": result.depth}
