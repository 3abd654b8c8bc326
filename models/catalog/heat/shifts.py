"""What is not the training law, fixed beforehand: how well the validity test sees it is measured, nothing is fitted to it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from models.catalog.heat import sampler
from models.physical_model import Arrays

NOISE = 0.05  # relative, of every node by itself
SMOOTHED = 2.0  # nodes
WITHIN = ("smooth", "contrast_4", "contrast_12")  # the training law and parts of it
Change = Callable[[np.ndarray], np.ndarray]


def _changed(name: str, change: Change, seed: int, index: int, points: int) -> Arrays:
    inputs = sampler.draw(seed, index, points)
    return inputs | {name: change(inputs[name]).astype(np.float32)}


def _noisy(medium: np.ndarray) -> np.ndarray:
    return np.asarray(medium * np.exp(NOISE * np.random.default_rng(0).standard_normal(medium.shape)))


def _spiked(values: np.ndarray) -> np.ndarray:
    """One node a standard deviation higher."""
    changed = values.copy()
    changed[len(values) // 3, len(values) // 2] += values.std()
    return changed


def _raised(initial: np.ndarray) -> np.ndarray:
    """Half a standard deviation warmer, but on the boundary."""
    return np.asarray(initial + 0.5 * initial.std() * (initial != 0.0))


def _family(family: str, seed: int, index: int, points: int) -> Arrays:
    return sampler.draw(seed, index, points, family)


SHIFTS: Mapping[str, Callable[[int, int, int], Arrays]] = {
    "diffusivity × 2": partial(_changed, "diffusivity", lambda medium: 2.0 * medium),
    "diffusivity with noise of 5 %": partial(_changed, "diffusivity", _noisy),
    "diffusivity smoothed over 2 nodes": partial(_changed, "diffusivity", partial(gaussian_filter, sigma=SMOOTHED)),
    "initial temperature × 1.5": partial(_changed, "initial_temperature", lambda initial: 1.5 * initial),
    "initial temperature × 0.67": partial(_changed, "initial_temperature", lambda initial: initial / 1.5),
    "initial temperature + ½ deviation": partial(_changed, "initial_temperature", _raised),
    "hot spot": partial(_changed, "initial_temperature", _spiked),
} | {family: partial(_family, family) for family in sampler.FAMILIES if family not in WITHIN}
