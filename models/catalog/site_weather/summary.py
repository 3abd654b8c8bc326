"""A day of weather in 42 numbers: levels, contrasts between stations, changes, variability, steadiness, season.

Pressures of stations at different heights differ as the temperature of the air between them says, and as the wind along
their line does; temperatures as the season and the wind do. So a shift that no single variable betrays makes one number
contradict the rest, and a sensor that repeats itself or jumps stands out of its own variability and its neighbours'.
"""

import numpy as np

from models.catalog.site_weather import reference
from models.catalog.site_weather.spec import STATIONS
from models.physical_model import Arrays, Summary

VARIABLES = ("wind speed", "eastward wind", "northward wind", "temperature", "pressure")  # of reference.variables
SPEED, TEMPERATURE = VARIABLES.index("wind speed"), VARIABLES.index("temperature")
CHANGING, STEPPING = VARIABLES[1:], ("wind speed", "temperature", "pressure")
SEASON = ("first annual cosine", "first annual sine", "second annual cosine", "second annual sine")
EDGE = 6  # hours at either end, whose difference is the change
TINY = 1e-6  # of a steady sensor, whose logarithm is taken

LABELS = (
    *(f"the mean of {name}" for name in VARIABLES),
    *(f"{name} at {station}, beside the other stations," for station in STATIONS[:-1] for name in VARIABLES),
    *(f"the change of {name}" for name in CHANGING),
    "the logarithm of the mean wind speed",
    "the variability of temperature",
    *(f"the hourly step of {name} at {station}" for station in STATIONS for name in STEPPING),
    *(f"the season ({name})" for name in SEASON),
)


def numbers(inputs: Arrays) -> np.ndarray:
    """The numbers of LABELS, (batch, 42)."""
    values = reference.variables(inputs)
    means = values.mean(axis=1)
    level = means.mean(axis=1)
    contrasts = (means - level[:, None])[:, :-1]
    change = values[:, -EDGE:].mean(axis=(1, 2)) - values[:, :EDGE].mean(axis=(1, 2))
    steps = np.sqrt(np.square(np.diff(values, axis=1)).mean(axis=1))
    parts = [
        level,
        contrasts.reshape(len(level), -1),
        change[:, [VARIABLES.index(name) for name in CHANGING]],
        np.log(level[:, [SPEED]] + TINY),
        np.log(values[..., TEMPERATURE].std(axis=1).mean(axis=1, keepdims=True) + TINY),
        np.log(steps[:, :, [VARIABLES.index(name) for name in STEPPING]] + TINY).reshape(len(level), -1),
        reference.harmonics(inputs["reference_time"].astype(np.float64))[:, 1 : 1 + len(SEASON)],
    ]
    return np.concatenate(parts, axis=1)


SUMMARY = Summary(LABELS, numbers)
