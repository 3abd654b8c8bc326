"""Problems with known answers, for the fits on which the baselines rest."""

import numpy as np

from models.catalog.site_weather import reference
from models.physical_model import Case

DAYS = (400, 800, 1600)


def _times(days: int) -> np.ndarray:
    return 300_000.0 + np.arange(0.0, 24.0 * days, 5.0)


def _seasons(days: int) -> np.ndarray:
    """A signal in the span of the harmonics: seasons, days, and days that change with the season."""
    weights = np.linspace(3.0, -1.0, 15)
    return np.asarray(reference.harmonics(_times(days)) @ weights)


def _recovered(days: int) -> np.ndarray:
    times, values = _times(days), _seasons(days)
    return np.asarray(reference.harmonics(times) @ reference.fit_harmonics(times, values))


CASES = (
    Case("harmonic climatology", _recovered, _seasons, DAYS, 1e-9, None,
         "a signal in the span is its own least-squares fit, to the rounding of 15 normal modes"),
)  # fmt: skip
