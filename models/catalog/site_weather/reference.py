"""What a forecast has to beat: climatology, persistence, damped persistence and ridge regression, fitted on 2000–2013.

All work on anomalies from a harmonic climatology (3 annual and 2 diurnal harmonics, products of the first ones); each
gives a Gaussian law whose standard deviation is that of its own residuals in the calendar month, by lead time and
station. Ridge regression takes the anomalies of (speed, u, v, T, p) at every station over 25 hours and the calendar: 514
numbers; it is the baseline that matters (science of statistical forecasting: Wilks, ch. 7).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from models.catalog.site_weather import sampler
from models.catalog.site_weather.spec import HISTORY, LEAD_TIMES
from models.physical_model import Arrays

DAY, YEAR = 24.0, 8766.0
PAST = np.arange(1.0 - HISTORY, 1.0)
AHEAD = np.arange(1.0, LEAD_TIMES.frames + 1.0)
TARGET_VARIABLES = (0, 3, 4)
FITTED = "2000-2013"
PENALTY = 1e-6  # per window, of standardised anomalies: only to keep collinear pressures apart
CHUNK = 4096

Hours = Float[np.ndarray, "*shape"]
Forecasts = Float[np.ndarray, "batch variable lead station"]


def harmonics(hours: Hours) -> Float[np.ndarray, "*shape 15"]:
    """Constant, 3 annual and 2 diurnal harmonics, products of the first annual and the first diurnal ones."""
    day, year = (2 * np.pi * np.mod(hours, p) / p for p in (DAY, YEAR))
    annual = [f(k * year) for k in (1, 2, 3) for f in (np.cos, np.sin)]
    diurnal = [f(k * day) for k in (1, 2) for f in (np.cos, np.sin)]
    products = [a * d for a in annual[:2] for d in diurnal[:2]]
    return np.stack([np.ones_like(day), *annual, *diurnal, *products], axis=-1)


def fit_harmonics(hours: Float[np.ndarray, " hour"], values: Float[np.ndarray, "hour *series"]) -> np.ndarray:
    """Least-squares coefficients (15, *series)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    solution: np.ndarray = np.linalg.lstsq(harmonics(hours.astype(np.float64)), flat)[0]
    return solution.reshape(-1, *values.shape[1:])


def variables(inputs: Arrays) -> Float[np.ndarray, "batch hour station variable"]:
    """Speed, u, v, temperature, pressure."""
    speed, angle = inputs["wind_speed"].astype(np.float64), np.deg2rad(inputs["wind_direction"].astype(np.float64))
    parts = [
        speed,
        -speed * np.sin(angle),
        -speed * np.cos(angle),
        inputs["air_temperature"],
        inputs["surface_pressure"],
    ]
    return np.asarray(np.stack(parts, axis=-1), dtype=np.float64)


@dataclass(frozen=True)
class Baselines:
    """Everything fitted: climatology, units, damping, ridge regression, and month-wise standard deviations by label."""

    climatology: np.ndarray
    unit: np.ndarray
    damping: np.ndarray
    ridge: np.ndarray
    deviations: dict[str, np.ndarray]

    def anomalies(self, inputs: Arrays) -> Float[np.ndarray, "batch hour station variable"]:
        """Standardised anomalies of the history."""
        hours = inputs["reference_time"].astype(np.float64)[:, None] + PAST
        return np.asarray((variables(inputs) - np.tensordot(harmonics(hours), self.climatology, 1)) / self.unit)

    def normal(self, hours: Float[np.ndarray, " batch"]) -> Forecasts:
        """Climatology at the valid times."""
        found = np.tensordot(harmonics(hours.astype(np.float64)[:, None] + AHEAD), self.climatology, 1)
        return np.moveaxis(found[..., TARGET_VARIABLES], -1, 1)

    def features(self, inputs: Arrays) -> Float[np.ndarray, "batch 514"]:
        """Anomalies, flattened by hour, station, variable; calendar harmonics."""
        anomaly = self.anomalies(inputs)
        calendar = harmonics(inputs["reference_time"].astype(np.float64))[:, 1:]
        return np.concatenate([anomaly.reshape(len(anomaly), -1), calendar], axis=1)

    def means(self, inputs: Arrays) -> dict[str, Forecasts]:
        """The four forecasts."""
        normal = self.normal(inputs["reference_time"])
        unit = self.unit[:, TARGET_VARIABLES].T[None, :, None, :]
        features = self.features(inputs)
        now = features[:, (HISTORY - 1) * self.unit.size : HISTORY * self.unit.size].reshape(-1, *self.unit.shape)
        now = np.moveaxis(now[..., TARGET_VARIABLES], -1, 1)[:, :, None, :]
        ridge = (features @ self.ridge).reshape(normal.shape)
        return {
            "climatology": normal,
            "persistence": np.broadcast_to(_last(inputs), normal.shape),
            "damped persistence": normal + unit * self.damping * now,
            "ridge regression": normal + unit * ridge,
        }

    def laws(self, inputs: Arrays) -> dict[str, tuple[Forecasts, Forecasts]]:
        """Mean and standard deviation of each forecast."""
        month = months(inputs["reference_time"])
        return {label: (mean, self.deviations[label][month]) for label, mean in self.means(inputs).items()}


def _last(inputs: Arrays) -> Forecasts:
    """The last hour's values, before any lead time."""
    return np.stack([inputs[name][:, -1].astype(np.float64) for name in sampler.TARGETS], axis=1)[:, :, None, :]


def months(hours: Float[np.ndarray, " batch"]) -> np.ndarray:
    """Calendar month, 0 to 11."""
    return np.asarray(hours.astype("datetime64[h]").astype("datetime64[M]").astype(int) % 12)


def _windows(period: str) -> Iterator[tuple[Arrays, Forecasts]]:
    """All windows of a period, a few thousand at a time: inputs and what followed."""
    count = sampler.windows(period)
    for first in range(0, count, CHUNK):
        pairs = [sampler.pair(0, index, 4, period) for index in range(first, min(first + CHUNK, count))]
        inputs = {name: np.stack([pair[0][name] for pair in pairs]) for name in pairs[0][0]}
        yield inputs, np.stack([np.stack([pair[1][name] for name in sampler.TARGETS]) for pair in pairs])


def fit(period: str = FITTED) -> Baselines:
    """Fit all of them on a period, in passes over its windows.

    Raises series.DataMissing.
    """
    begun = _climatology(period)
    size = HISTORY * begun.unit.size + harmonics(np.zeros(1)).shape[1] - 1
    square, product, count = np.zeros((size, size)), 0.0, 0
    shape = (len(TARGET_VARIABLES), LEAD_TIMES.frames, begun.unit.shape[0])
    persisted, power = np.zeros(shape), np.zeros((shape[0], 1, shape[2]))
    for inputs, truth in _windows(period):
        features = begun.features(inputs)
        target = (truth - begun.normal(inputs["reference_time"])) / begun.unit[:, TARGET_VARIABLES].T[None, :, None, :]
        square += features.T @ features
        product = product + features.T @ target.reshape(len(target), -1)
        now = (_last(inputs) - begun.normal(inputs["reference_time"] - 1.0)[:, :, :1]) / begun.unit[
            :, TARGET_VARIABLES
        ].T[None, :, None, :]
        persisted, power = persisted + (now * target).sum(0), power + np.square(now).sum(0)
        count += len(target)
    ridge = np.linalg.solve(square + PENALTY * count * np.eye(size), product)
    fitted = Baselines(begun.climatology, begun.unit, persisted / power, ridge, {})
    return _with_deviations(fitted, period)


def _climatology(period: str) -> Baselines:
    """Harmonics and standard deviations of the anomalies, from the hours of the period."""
    now, hours = [], []
    for inputs, _ in _windows(period):
        now.append(variables({k: v[:, -1:] for k, v in inputs.items() if v.ndim == 3})[:, 0])
        hours.append(inputs["reference_time"])
    values, times = np.concatenate(now), np.concatenate(hours)
    coefficients = fit_harmonics(times, values)
    anomaly = values - np.tensordot(harmonics(times.astype(np.float64)), coefficients, 1)
    return Baselines(coefficients, anomaly.std(axis=0), np.empty(0), np.empty(0), {})


def _with_deviations(fitted: Baselines, period: str) -> Baselines:
    """Month-wise standard deviations of every forecast's residuals, for every second chunk of the period."""
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros(12)
    for number, (inputs, truth) in enumerate(_windows(period)):
        if number % 2:
            continue
        month = months(inputs["reference_time"])
        counts += np.bincount(month, minlength=12)
        for label, mean in fitted.means(inputs).items():
            total = sums.setdefault(label, np.zeros((12, *mean.shape[1:])))
            np.add.at(total, month, np.square(truth - mean))
    deviations = {label: np.sqrt(total / counts[:, None, None, None]) for label, total in sums.items()}
    return Baselines(fitted.climatology, fitted.unit, fitted.damping, fitted.ridge, deviations)


@cache
def fitted() -> Baselines:
    """The baselines of 2000–2013, fitted once per process (about half a minute)."""
    return fit()
