"""The compiled reference: the scheme of `reference.py` in float32, closed edges, one thread.

It makes the training truth and is the classical method the surrogate is timed against, so it is as fast as we could
make it: no temporaries, flat arrays, every loop vectorised. Numba is imported, and compiles, when first used.
"""

import numpy as np
from jaxtyping import Float

from models import ticket
from models.catalog.flood.reference import GRAVITY, Cells, Simulation, Terrain, breakpoints, rain_rate, terrain_of
from models.catalog.flood.spec import LEAD_TIMES
from models.physical_model import Arrays


def _face_planes(terrain: Terrain, wall: float) -> tuple[np.ndarray, np.ndarray]:
    """Bed rises and g n² of faces along x and y; the face lies before its cell, the first of each line is a wall."""
    rows, columns = terrain.elevation.shape
    rises = np.full((2, rows + 2, columns), wall)
    frictions = np.ones((2, rows + 2, columns))
    n, z = terrain.roughness, terrain.elevation
    rises[0, 1:-1, 1:], rises[1, 2:-1] = np.diff(z, axis=1), np.diff(z, axis=0)
    frictions[0, 1:-1, 1:] = GRAVITY * (0.5 * (n[:, 1:] + n[:, :-1])) ** 2
    frictions[1, 2:-1] = GRAVITY * (0.5 * (n[1:] + n[:-1])) ** 2
    return rises.reshape(2, -1).astype(np.float32), frictions.reshape(2, -1).astype(np.float32)


def simulate(terrain: Terrain, rain: Float[np.ndarray, " step"], times: Float[np.ndarray, " time"]) -> Simulation:
    """As `reference.simulate`, from dry, closed edges. Raises what ends the request."""
    from models.catalog.flood import kernel

    rows, columns = terrain.elevation.shape
    rises, frictions = _face_planes(terrain, float(kernel.WALL))
    depth, maximum, shares = (np.full((rows + 2) * columns, value, np.float32) for value in (0, 0, 1))
    flux_x, flux_y = np.zeros((2, 2, depth.size), np.float32)

    def cells(flat: np.ndarray) -> Cells:
        return flat.reshape(rows + 2, columns)[1:-1].astype(np.float64)

    frames, time, steps, fallen = [], 0.0, 0, 0.0
    for end in breakpoints(len(rain), times):
        ticket.current().check()
        rate, duration = rain_rate(rain, time), end - time
        steps += kernel.advance(depth, maximum, flux_x, flux_y, rises, frictions, shares, columns,
                                terrain.cell_size, rate, duration)  # fmt: skip
        fallen, time = fallen + rate * duration, end
        if end in times:
            frames.append(cells(depth))
    gained = fallen * rows * columns
    return Simulation(cells(maximum), np.stack(frames), (frames[-1].sum() - gained) / max(gained, 1e-300), int(steps))


def solve(inputs: Arrays) -> Arrays:
    """The served outputs."""
    result = simulate(terrain_of(inputs), inputs["rain"].astype(np.float64), LEAD_TIMES.values)
    return {"maximum_depth": result.maximum_depth, "depth": result.depth}
