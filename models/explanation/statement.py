"""The interval of a quantity of interest: conformal from stored residuals, or what the calibrated band leaves possible.

    u ∈ [l, h] everywhere   ⟹   min J ≤ J(u) ≤ max J over all fields between l and h

Linear quantities of outputs whose calibration residuals ship have an interval of their own (`models.residuals`). All
others follow from the simultaneous band, and are wider. Bands that hold at each of k lead times by itself are taken at
the level 1 − (1 − level)/k, so that all of them hold at once (Bonferroni).
"""

from dataclasses import dataclass

import numpy as np

from models.errors import NotOffered, UnsupportedLevel
from models.explanation.quantities import Quantity
from models.physical_model import Arrays
from models.residuals import Residuals
from models.statements import Statement, nothing
from models.surrogate import Prediction, Question, Surrogate
from models.uncertainty import Stored

Ends = tuple[float, float]


@dataclass(frozen=True)
class Interval:
    """Lower and upper end, None where nothing is claimed, and the statement that says so."""

    ends: Ends | None
    statement: Statement


def lead_time(surrogate: Surrogate, sample: Arrays, quantity: Quantity) -> float | None:
    """The one lead time of a quantity; None for windows and steady models."""
    known, times = surrogate.lead_times, quantity.moments.times
    if known is None or known.input is None:
        return None if isinstance(quantity.lead_time, tuple) else quantity.lead_time
    if times is None:
        return float(sample[known.input])
    return float(times[0]) if len(times) == 1 else None


def interval(
    surrogate: Surrogate, sample: Arrays, prediction: Prediction, quantity: Quantity, value: float, level: float,
    in_domain: bool,
) -> Interval:  # fmt: skip
    """That of the exact form, whose `value` it is; of `prediction` one row per lead time that the graph is asked at."""
    truth, name = str(surrogate.manifest.document["truth"]), quantity.field.name
    missing = None if in_domain else "out of domain"
    if name not in surrogate.calibrations:
        missing = "the bundle has no calibration set"
    if missing is not None:
        return Interval(None, nothing(name, "interval", truth, missing, level))
    try:
        ends, assumptions = _from_residuals(surrogate, sample, prediction, quantity, value, level) or _from_band(
            surrogate, prediction, quantity, level
        )
    except UnsupportedLevel as error:
        return Interval(None, nothing(name, "interval", truth, f"too few calibration cases: {error}", level))
    half = max(value - ends[0], ends[1] - value)
    scope = "exact_value" if quantity.has_smooth_form else None
    return Interval(ends, Statement(name, "interval", half, "statistical", level, truth, assumptions, scope=scope))


def _from_residuals(
    surrogate: Surrogate, sample: Arrays, prediction: Prediction, quantity: Quantity, value: float, level: float
) -> tuple[Ends, tuple[str, ...]] | None:
    """J ± q ∫|w| s, no further than possible values of the field go, and what it assumes; None without residuals."""
    found = _stored(surrogate, sample, quantity)
    if found is None:
        return None
    kept, stored = found
    weights, scales = quantity.field_weights, prediction.own_scale[:1]
    if stored.residuals.ndim == weights.ndim:  # those of one lead time: the case takes the place of that axis
        place = quantity.moments.weights.argmax()
        weights, scales = weights[place], scales[:, place]
    try:
        half = float(kept.half_widths(stored, weights, scales, level)[0])
    except UnsupportedLevel:
        return None
    dependent = "" if kept.blocks in (None, kept.count) else f" in {kept.blocks} independent blocks"
    reason = f"request exchangeable with {kept.count} calibration inputs{dependent}; the quantity was not chosen from residuals"
    return _possible(quantity, weights, value - half, value + half), (reason,)


def _stored(surrogate: Surrogate, sample: Arrays, quantity: Quantity) -> tuple[Residuals, Stored] | None:
    """Calibration residuals of a linear quantity, where they ship."""
    kept = surrogate.residuals(quantity.field.name) if quantity.is_linear else None
    stored = None if kept is None else kept.at(lead_time(surrogate, sample, quantity))
    return None if kept is None or stored is None else (kept, stored)


def through_band(
    surrogate: Surrogate, prediction: Prediction, quantity: Quantity, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest J of the fields in the simultaneous band, of every row.

    Raises NotOffered without a calibration, UnsupportedLevel.
    """
    band = surrogate.band(quantity.field.name, prediction, Question(level=_each(quantity, level)))
    if band is None:
        raise NotOffered(f"an interval of {quantity.field.name}", "intervals of calibrated outputs")
    return quantity.ends(band.lower, band.upper)


def _each(quantity: Quantity, level: float) -> float:
    """The level at which each lead time's band has to hold."""
    return 1.0 - (1.0 - level) / quantity.lead_times_seen


def _from_band(
    surrogate: Surrogate, prediction: Prediction, quantity: Quantity, level: float
) -> tuple[Ends, tuple[str, ...]]:
    """The interval of one sample, and what it assumes."""
    low, high = through_band(surrogate, prediction, quantity, level)
    calibration, count = surrogate.calibrations[quantity.field.name], quantity.lead_times_seen
    dependent = (
        "" if calibration.independent == calibration.count else f" in {calibration.independent} independent blocks"
    )
    assumptions = [
        f"request exchangeable with {calibration.count} calibration inputs{dependent}",
        "follows from the band of the whole field, so it is wider than need be",
    ]
    if count > 1:
        each = _each(quantity, level)
        assumptions.append(f"the bands of {count} lead times hold at once, each taken at the level {each:.4g}")
    known = surrogate.lead_times
    if known is not None and known.input is not None:
        assumptions.append(f"the band holds between the {known.frames} lead times it was calibrated at, too")
    return (float(low[0]), float(high[0])), tuple(assumptions)


def _possible(quantity: Quantity, weights: np.ndarray, low: float, high: float) -> Ends:
    """A sum with weights of one sign leaves the range of the field nowhere."""
    item, total = quantity.field, float(weights.sum())
    if (weights < 0).any():
        return low, high
    floor = low if item.minimum is None else max(low, item.minimum * total)
    return floor, high if item.maximum is None else min(high, item.maximum * total)
