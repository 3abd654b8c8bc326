"""Classical methods the surrogate is compared with, given what it is given.

"same grid" is the compiled reference itself: no error, the time to beat. The coarse solvers run on cells two or four
times as wide (a quarter or a sixteenth of the cells, about half or a quarter of the steps). Their answer comes back to
20 m either as depth, or as water level cut by the fine bed; the sub-grid solver knows the fine bed while it runs.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float

from models.catalog.flood import compiled, features
from models.catalog.flood.reference import DRY, Terrain, terrain_of
from models.catalog.flood.spec import CELL_SIZE, LEAD_TIMES
from models.physical_model import Arrays

Cells = Float[np.ndarray, "y x"]
Method = Callable[[], np.ndarray]
RATIOS = (2, 4)


def block_mean(values: Cells, ratio: int) -> Float[np.ndarray, "coarse_y coarse_x"]:
    """Mean over ratio × ratio cells."""
    rows, columns = values.shape
    return np.asarray(values.reshape(rows // ratio, ratio, columns // ratio, ratio).mean(axis=(1, 3)))


def repeat(values: Float[np.ndarray, "coarse_y coarse_x"], ratio: int) -> Cells:
    """Each coarse value on its ratio × ratio cells."""
    return np.asarray(np.kron(values, np.ones((ratio, ratio))))


def _same_grid(terrain: Terrain, rain: np.ndarray) -> np.ndarray:
    return compiled.simulate(terrain, rain, LEAD_TIMES.values).maximum_depth


def _coarse_terrain(terrain: Terrain, ratio: int) -> Terrain:
    return Terrain(block_mean(terrain.elevation, ratio), block_mean(terrain.roughness, ratio), ratio * CELL_SIZE)


def _coarse_depth(terrain: Terrain, rain: np.ndarray, ratio: int) -> np.ndarray:
    return repeat(_same_grid(_coarse_terrain(terrain, ratio), rain), ratio)


def _coarse_level(terrain: Terrain, rain: np.ndarray, ratio: int) -> np.ndarray:
    """Level minus fine bed; a coarse cell that stays dry has no level."""
    coarse = _coarse_terrain(terrain, ratio)
    depth = _same_grid(coarse, rain)
    level = repeat(np.where(depth > DRY, coarse.elevation + depth, -np.inf), ratio)
    return np.asarray(np.maximum(level - terrain.elevation, 0.0))


def _subgrid(terrain: Terrain, rain: np.ndarray, ratio: int) -> np.ndarray:
    from models.catalog.flood import subgrid

    level = subgrid.highest_level(terrain, rain, ratio, LEAD_TIMES.stop)
    return np.asarray(np.maximum(repeat(level, ratio) - terrain.elevation, 0.0))


def _standing(inputs: Arrays) -> np.ndarray:
    batch = {name: values[None] for name, values in inputs.items()}
    return np.asarray(features.of(batch)["standing_depth"][0], dtype=np.float64)


def methods(inputs: Arrays) -> Mapping[str, Method]:
    """Named methods of one event; each call gives the maximum depth once. Numba compiles at the very first call."""
    terrain, rain = terrain_of(inputs), inputs["rain"].astype(np.float64)
    result: dict[str, Method] = {
        "same grid": partial(_same_grid, terrain, rain),
        "filled depressions": partial(_standing, inputs),
    }
    for ratio in RATIOS:
        if terrain.elevation.shape[0] % ratio == 0:
            result[f"coarse ×{ratio}, depth"] = partial(_coarse_depth, terrain, rain, ratio)
            result[f"coarse ×{ratio}, level"] = partial(_coarse_level, terrain, rain, ratio)
            result[f"coarse ×{ratio}, sub-grid tables"] = partial(_subgrid, terrain, rain, ratio)
    return result
