"""Scores of weather forecasts, by variable and lead time, and the three forecasts that need no model.

    w_j ∝ sin φ_{j+½} − sin φ_{j−½},  mean 1                         area weights, bounds midway between latitudes
    RMSE = (⟨ Σ w (p − u)² / n ⟩_time)^½                             as in WeatherBench 2
    ACC = ⟨ Σ w p' u' / (Σ w p'² Σ w u'²)^½ ⟩_time                   anomalies from the climatology of the valid time

The climatology is that of the fitted period by day of year and hour, smoothed over 61 days with triangular weights.
Persistence: the initial state. Damped persistence: climatology plus the initial anomaly times its regression
coefficient at that lead time, from the fitted period.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.physical_model import Arrays

REACH = 30  # days to each side
HOURS_PER_DAY = 24
DAYS = 366


def area_weights(latitude: np.ndarray) -> np.ndarray:
    """Weights of mean 1 for ascending latitudes in degrees; outer bounds half a step outside, at most at the poles."""
    middle = (latitude[1:] + latitude[:-1]) / 2.0
    outer = latitude[0] - (middle[0] - latitude[0]), latitude[-1] + (latitude[-1] - middle[-1])
    bounds = np.clip(np.concatenate([outer[:1], middle, outer[1:]]), -90.0, 90.0)
    weights = np.diff(np.sin(np.deg2rad(bounds)))
    return np.asarray(weights / weights.mean())


def area_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area mean over the last two axes, latitude and longitude."""
    return np.asarray((values * weights[:, None]).mean(axis=(-2, -1)))


def rmse(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root mean square error by lead time, from (time, lead time, latitude, longitude)."""
    error = forecast.astype(np.float64) - truth
    return np.asarray(np.sqrt(area_mean(np.square(error), weights).mean(axis=0)))


def anomaly_correlation(forecast: np.ndarray, truth: np.ndarray, normal: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """ACC by lead time, from (time, lead time, latitude, longitude)."""
    p, u = forecast.astype(np.float64) - normal, truth.astype(np.float64) - normal
    size = np.sqrt(area_mean(np.square(p), weights) * area_mean(np.square(u), weights))
    return np.asarray((area_mean(p * u, weights) / np.maximum(size, 1e-30)).mean(axis=0))


def calendar(hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Day of year from 0 and hour of day, of hours since 1970."""
    dates = np.datetime64("1970-01-01T00", "h") + np.asarray(np.round(hours), dtype=np.int64)
    days = dates.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(int), (dates - days).astype(int)


class Climatology:
    """Smoothed means of one variable by day of year and hour of day: (day, slot, latitude, longitude)."""

    def __init__(
        self, pieces: Iterable[tuple[np.ndarray, np.ndarray]], shape: tuple[int, ...], step_hours: int
    ) -> None:
        """From pieces of (hours since 1970, values)."""
        self._step = min(step_hours, HOURS_PER_DAY)
        slots = HOURS_PER_DAY // self._step
        sums, counts = np.zeros((DAYS, slots, *shape)), np.zeros((DAYS, slots))
        for hours, values in pieces:
            day, hour = calendar(hours)
            np.add.at(sums, (day, hour // self._step), values)
            np.add.at(counts, (day, hour // self._step), 1.0)
        self._means = _smoothed(sums, counts).astype(np.float32)

    def at(self, hours: np.ndarray) -> np.ndarray:
        """Normal values at some hours since 1970, (*hours, latitude, longitude)."""
        day, hour = calendar(hours)
        return self._means[day, hour // self._step]


def _smoothed(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weighted running means round the year; the mean of the hour, or of all, where there is nothing within reach."""
    total, number = np.zeros_like(sums), np.zeros_like(counts)
    for shift in range(-REACH, REACH + 1):
        weight = 1.0 - abs(shift) / (REACH + 1)
        total += weight * np.roll(sums, shift, axis=0)
        number += weight * np.roll(counts, shift, axis=0)
    every = sums.sum(axis=(0, 1)) / max(1.0, counts.sum())
    grid = (slice(None), slice(None), *(None,) * (sums.ndim - 2))
    found = total / np.maximum(number, 1e-12)[grid]
    return np.where((number > 0)[grid], found, every)


@dataclass(frozen=True)
class Judge:
    """Scores with the climatology and regression coefficients of the fitted period, which are computed when first needed.

    `fields` are names and units; `normals` gives the climatology of each; `samples` some windows of the fitted period.
    """

    fields: Mapping[str, str]
    leads: tuple[int, ...]
    weights: np.ndarray
    normals: Callable[[], Mapping[str, Climatology]]
    samples: Callable[[], tuple[Arrays, Arrays]]

    @cached_property
    def climatology(self) -> Mapping[str, Climatology]:
        """Climatologies by field."""
        return self.normals()

    @cached_property
    def damping(self) -> dict[str, np.ndarray]:
        """Regression of the anomaly at each lead time on the initial one, by field."""
        inputs, truths = self.samples()
        found = {}
        for name in self.fields:
            first, later = self._anomalies(name, inputs, truths)
            square = area_mean(np.square(first), self.weights).mean()
            found[name] = area_mean(first * later, self.weights).mean(axis=0) / max(float(square), 1e-30)
        return found

    def _normal(self, name: str, inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Climatology at the initial times (time, 1, …) and at the valid ones (time, lead time, …)."""
        hours = np.asarray(inputs["reference_time"], dtype=np.float64)[:, None]
        of = self.climatology[name]
        return of.at(hours), of.at(hours + np.array(self.leads))

    def _anomalies(self, name: str, inputs: Arrays, truths: Arrays) -> tuple[np.ndarray, np.ndarray]:
        now, ahead = self._normal(name, inputs)
        return inputs[name][:, None].astype(np.float64) - now, truths[name].astype(np.float64) - ahead

    def scores(self, inputs: Arrays, means: Arrays, _deviations: Arrays, truths: Arrays) -> dict[str, float]:
        """RMSE, ACC and bias of each field at each lead time."""
        found: dict[str, float] = {}
        for name in self.fields:
            _, normal = self._normal(name, inputs)
            error = means[name].astype(np.float64) - truths[name]
            figures = {
                "RMSE": rmse(means[name], truths[name], self.weights),
                "ACC": anomaly_correlation(means[name], truths[name], normal, self.weights),
                "bias": area_mean(error, self.weights).mean(axis=0),
            }
            for label, values in figures.items():
                found |= self._named(label, name, values)
        return found

    def _named(self, label: str, name: str, values: np.ndarray) -> dict[str, float]:
        unit = "" if label == "ACC" else f", {self.fields[name]}"
        return {f"{label} {name} {lead} h{unit}": float(v) for lead, v in zip(self.leads, values, strict=True)}

    def comparison(
        self, inputs: Arrays, means: Arrays, _deviations: Arrays, truths: Arrays
    ) -> dict[str, dict[str, float]]:
        """RMSE of persistence, climatology, damped persistence and the surrogate, by score."""
        found: dict[str, dict[str, float]] = {}
        for name in self.fields:
            now, ahead = self._normal(name, inputs)
            first = inputs[name][:, None].astype(np.float64)
            damped = ahead + self.damping[name][:, None, None] * (first - now)
            forecasts = {"persistence": first + 0.0 * ahead, "climatology": ahead, "damped persistence": damped}
            forecasts["surrogate"] = means[name]
            for label, forecast in forecasts.items():
                for score, value in self._named("RMSE", name, rmse(forecast, truths[name], self.weights)).items():
                    found.setdefault(score, {})[label] = value
        return found
