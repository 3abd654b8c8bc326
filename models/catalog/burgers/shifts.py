"""What is not the training law, fixed beforehand: how well the validity test sees it is measured, nothing is fitted to it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from models.catalog.burgers import sampler
from models.physical_model import Arrays

DEVIATION = 0.2  # of u₀ under the training law


def _changed(change: Callable[[np.ndarray], np.ndarray], seed: int, index: int, points: int) -> Arrays:
    inputs = sampler.draw(seed, index, points)
    return inputs | {"initial_velocity": change(inputs["initial_velocity"]).astype(np.float32)}


def _spiked(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[len(values) // 3] += 2.5 * DEVIATION
    return changed


def _halved(values: np.ndarray) -> np.ndarray:
    """Two periods where there was one."""
    return np.asarray(np.tile(values[::2], 2))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Modes above the second a hundred times weaker."""
    spectrum = np.fft.rfft(values)
    spectrum[3:] *= 0.01
    return np.fft.irfft(spectrum, len(values))


def _family(family: str, seed: int, index: int, points: int) -> Arrays:
    return sampler.draw(seed, index, points, family)


SHIFTS: Mapping[str, Callable[[int, int, int], Arrays]] = {
    "amplitude × 1.5": partial(_changed, lambda values: 1.5 * values),
    "amplitude × 0.67": partial(_changed, lambda values: values / 1.5),
    "mean + ½ deviation": partial(_changed, lambda values: values + 0.5 * DEVIATION),
    "length × 0.5": partial(_changed, _halved),
    "smoother": partial(_changed, _smoothed),
    "spike": partial(_changed, _spiked),
} | {family: partial(_family, family) for family in sampler.FAMILIES if family != "pino"}
