"""Forecasts of wind, temperature and pressure at four sites, learned from seventeen years of reanalysis."""

from models.catalog.site_weather import bound, cases, recipe, sampler, scores, shifts, spec, summary
from models.physical_model import Bound, PhysicalModel

NOTES = """**What is learned and what is not.** A ridge regression on 25 hours of anomalies carries most of the skill; the network
corrects its mean and gives the spread. Fitted on 2000–2012, choices made on 2013, bands calibrated on 2014, every figure
here from 2015–2017. Where the ridge regression alone was better on 2013, by variable and lead time, it is what is served.
One year of hourly windows is strongly dependent: coverage comes with an interval from resampled weeks, and a year unlike
2014 may cover less. The four points are neighbours of one region; nothing transfers to other places."""


def _truth(points: int) -> str:
    return bound.TRUTH


physical_model = PhysicalModel(
    name="site_weather",
    title="Wind, temperature and pressure at four sites, 1 to 24 hours ahead",
    domain="environment",
    time="forecast",
    equation="law of x(t + τ) given x(t − 24 h … t), τ = 1 … 24 h",
    description=" ".join((spec.__doc__ or "").split()),
    licence="NASA MERRA-2 reanalysis, open data, as shipped by the package brightwind (MIT).",
    truth=_truth,
    inputs=spec.inputs,
    outputs=spec.outputs,
    families=sampler.FAMILIES,
    training_family="2000-2012",
    held_out=("2015-2017",),
    draw=sampler.draw,
    pair=sampler.pair,
    cases=cases.CASES,
    recipes=recipe.RECIPES,
    shifts=shifts.SHIFTS,
    summary=summary.SUMMARY,
    statements=bound.statements,
    bounds=tuple(Bound(name, "sup", "none") for name in ("wind_speed", "air_temperature", "surface_pressure")),
    lead_times=spec.LEAD_TIMES,
    thresholds={"wind_speed": (5.0, 10.0, 15.0), "air_temperature": (0.0,)},
    blocks=sampler.week,
    scores=scores.scores,
    comparison=scores.comparison,
    headline=scores.HEADLINE,
    notes=NOTES,
)
