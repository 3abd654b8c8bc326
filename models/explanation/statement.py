"""The conformal interval of a linear quantity of interest, from the bundle's stored calibration residuals."""

from dataclasses import dataclass

import numpy as np

from models.errors import UnsupportedLevel
from models.explanation.quantities import Quantity
from models.physical_model import Arrays
from models.residuals import Residuals
from models.statements import Statement, nothing
from models.surrogate import Prediction, Surrogate
from models.uncertainty import Stored


@dataclass(frozen=True)
class Interval:
    """Lower and upper end, None where nothing is claimed, and the statement that says so."""

    ends: tuple[float, float] | None
    statement: Statement


def lead_time(surrogate: Surrogate, sample: Arrays, quantity: Quantity) -> float | None:
    """The one lead time of a quantity whose graph takes it as an input; None for windows and other graphs."""
    known, times = surrogate.lead_times, quantity.moments.times
    if known is None or known.input is None:
        return None
    if times is None:
        return float(sample[known.input])
    return float(times[0]) if len(times) == 1 else None


def _missing(surrogate: Surrogate, quantity: Quantity, kept: Residuals | None, stored: Stored | None) -> str | None:
    """Why a quantity can have no interval."""
    name = quantity.field.name
    if not quantity.is_linear:
        return "intervals exist for linear quantities only"
    if name not in surrogate.calibrations:
        return "the bundle has no calibration set"
    if kept is None:
        return f"the bundle stores no calibration residuals of {name}, only their scores"
    if stored is None:
        times = ", ".join(f"{time:g}" for time in kept.lead_times or ())
        return f"calibration residuals are stored at the lead times {times}, each by itself: not between them or over windows"
    return None


def interval(
    surrogate: Surrogate, sample: Arrays, prediction: Prediction, quantity: Quantity, value: float, level: float,
    in_domain: bool,
) -> Interval:  # fmt: skip
    """J ± q ∫|w| s, no further than possible values of the field go."""
    truth, name = str(surrogate.manifest.document["truth"]), quantity.field.name
    kept = surrogate.residuals(name) if quantity.is_linear else None
    stored = None if kept is None else kept.at(lead_time(surrogate, sample, quantity))
    missing = _missing(surrogate, quantity, kept, stored) or (None if in_domain else "out of domain")
    if missing is not None or kept is None or stored is None:
        return Interval(None, nothing(name, "interval", truth, missing or "", level))
    weights = quantity.field_weights
    try:
        half = float(kept.half_widths(stored, weights, prediction.own_scale[:1], level)[0])
    except UnsupportedLevel as error:
        return Interval(None, nothing(name, "interval", truth, f"too few calibration residuals: {error}", level))
    dependent = "" if kept.blocks in (None, kept.count) else f" in {kept.blocks} independent blocks"
    reason = f"request exchangeable with {kept.count} calibration inputs{dependent}; the quantity was not chosen from residuals"
    claim = Statement(name, "interval", half, "statistical", level, truth, (reason,))
    return Interval(_possible(quantity, weights, value - half, value + half), claim)


def _possible(quantity: Quantity, weights: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """A sum with weights of one sign leaves the range of the field nowhere."""
    item, total = quantity.field, float(weights.sum())
    if (weights < 0).any():
        return low, high
    floor = low if item.minimum is None else max(low, item.minimum * total)
    return floor, high if item.maximum is None else min(high, item.maximum * total)
