"""What is not the training law, fixed beforehand: how well the validity test sees it is measured, nothing is fitted to it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from models.catalog.site_weather import sampler
from models.physical_model import Arrays

PERIOD = "2015-2017"
STATION, HOUR = 1, 12  # where a sensor fails


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray], seed: int, index: int, points: int) -> Arrays:
    inputs = sampler.draw(seed, index, points, PERIOD)
    return inputs | {name: change(inputs[name]).astype(np.float32)}


def _frozen(values: np.ndarray) -> np.ndarray:
    """One station repeats its first hour."""
    changed = values.copy()
    changed[:, STATION] = values[0, STATION]
    return changed


def _spiked(size: float, values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[HOUR, STATION] += size
    return changed


def _swapped(values: np.ndarray) -> np.ndarray:
    """Stations in another order."""
    return np.asarray(values[:, ::-1])


SHIFTS: Mapping[str, Callable[[int, int, int], Arrays]] = {
    "temperature + 8 K": partial(_changed, "air_temperature", lambda values: values + 8.0),
    "pressure + 25 hPa": partial(_changed, "surface_pressure", lambda values: values + 25.0),
    "wind × 2": partial(_changed, "wind_speed", lambda values: 2.0 * values),
    "temperature spike of 6 K": partial(_changed, "air_temperature", partial(_spiked, 6.0)),
    "pressure spike of 5 hPa": partial(_changed, "surface_pressure", partial(_spiked, 5.0)),
    "frozen temperature": partial(_changed, "air_temperature", _frozen),
    "frozen pressure": partial(_changed, "surface_pressure", _frozen),
    "frozen wind": partial(_changed, "wind_speed", _frozen),
    "temperatures of stations swapped": partial(_changed, "air_temperature", _swapped),
}
