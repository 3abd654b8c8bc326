"""Scores of the forecast laws: CRPS of the Gaussian law with the answer's mean and standard deviation, RMSE, skill."""

import numpy as np

from models.catalog.site_weather import reference
from models.catalog.site_weather.sampler import TARGETS
from models.numerics.scores import gaussian_crps
from models.physical_model import Arrays

LEADS = (1, 3, 6, 12, 24)
HEADLINE = ("CRPS wind_speed 6 h, m/s", "CRPS air_temperature 6 h, K", "CRPS surface_pressure 6 h, hPa")
UNITS = {"wind_speed": "m/s", "air_temperature": "K", "surface_pressure": "hPa"}


def scores(inputs: Arrays, means: Arrays, deviations: Arrays, truths: Arrays) -> dict[str, float]:
    """CRPS and RMSE by variable and lead time, averaged over stations and windows."""
    found: dict[str, float] = {}
    for name in TARGETS:
        crps = gaussian_crps(means[name], deviations[name], truths[name]).mean(axis=(0, 2))
        error = np.sqrt(np.square(means[name].astype(np.float64) - truths[name]).mean(axis=(0, 2)))
        found |= {f"CRPS {name} {lead} h, {UNITS[name]}": float(crps[lead - 1]) for lead in LEADS}
        found |= {f"RMSE {name} {lead} h, {UNITS[name]}": float(error[lead - 1]) for lead in LEADS}
    return found


def comparison(inputs: Arrays, means: Arrays, deviations: Arrays, truths: Arrays) -> dict[str, dict[str, float]]:
    """CRPS of the surrogate and of every baseline, by variable and lead time.

    Raises series.DataMissing.
    """
    laws = reference.fitted().laws(inputs)
    found: dict[str, dict[str, float]] = {}
    for number, name in enumerate(TARGETS):
        columns = {
            label: gaussian_crps(mean[:, number], deviation[:, number], truths[name]).mean(axis=(0, 2))
            for label, (mean, deviation) in laws.items()
        }
        columns["surrogate"] = gaussian_crps(means[name], deviations[name], truths[name]).mean(axis=(0, 2))
        for lead in range(1, truths[name].shape[1] + 1):
            row = {label: float(values[lead - 1]) for label, values in columns.items()}
            found[f"CRPS {name} {lead} h, {UNITS[name]}"] = row
    return found
