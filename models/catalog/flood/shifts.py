"""What is not the training law, fixed beforehand: how well the validity test sees it is measured, nothing is fitted to it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from models.catalog.flood import sampler
from models.physical_model import Arrays

HEIGHT = 50.0  # m, of a tower or a pit of one cell
NOISE = 2.0  # m, of every cell by itself
Change = Callable[[np.ndarray], np.ndarray]


def _changed(name: str, change: Change, seed: int, index: int, points: int) -> Arrays:
    inputs = sampler.draw(seed, index, points)
    return inputs | {name: change(inputs[name])}


def _relief(factor: float, bed: np.ndarray) -> np.ndarray:
    return np.asarray(bed.mean() + factor * (bed - bed.mean()))


def _raised(height: float, bed: np.ndarray) -> np.ndarray:
    changed = bed.copy()
    changed[len(bed) // 3, len(bed) // 2] += height
    return changed


def _noisy(bed: np.ndarray) -> np.ndarray:
    return np.asarray(bed + NOISE * np.random.default_rng(0).standard_normal(bed.shape))


def _burst(rain: np.ndarray) -> np.ndarray:
    """All of the storm in its third step."""
    changed = np.zeros_like(rain)
    changed[2] = rain.sum()
    return changed


def _scattered(roughness: np.ndarray) -> np.ndarray:
    """The same values, each cell by itself."""
    return np.asarray(np.random.default_rng(0).permutation(roughness.ravel()).reshape(roughness.shape))


def _family(family: str, seed: int, index: int, points: int) -> Arrays:
    return sampler.draw(seed, index, points, family)


SHIFTS: Mapping[str, Callable[[int, int, int], Arrays]] = {
    "relief × 2": partial(_changed, "elevation", partial(_relief, 2.0)),
    "relief × 0.5": partial(_changed, "elevation", partial(_relief, 0.5)),
    "terrain smoothed over 3 cells": partial(_changed, "elevation", partial(gaussian_filter, sigma=3.0)),
    "noise of 2 m": partial(_changed, "elevation", _noisy),
    "tower of 50 m": partial(_changed, "elevation", partial(_raised, HEIGHT)),
    "pit of 50 m": partial(_changed, "elevation", partial(_raised, -HEIGHT)),
    "rain × 2": partial(_changed, "rain", lambda rain: 2.0 * rain),
    "storm of one step": partial(_changed, "rain", _burst),
    "scattered roughness": partial(_changed, "roughness", _scattered),
} | {
    family: partial(_family, family)
    for family in ("steep", "flat", "heavy_rain", "rough", "jacksboro_east", "trinidad")
}
