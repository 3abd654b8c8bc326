"""The conformal interval of a linear quantity of interest, from the bundle's stored calibration residuals."""

from dataclasses import dataclass

from models.explanation.quantities import Quantity
from models.statements import Statement, nothing
from models.surrogate import Prediction, Surrogate


@dataclass(frozen=True)
class Interval:
    """Lower and upper end, None where nothing is claimed, and the statement that says so."""

    ends: tuple[float, float] | None
    statement: Statement


def _missing(surrogate: Surrogate, quantity: Quantity, transform: str) -> str | None:
    """Why a quantity can have no interval."""
    calibration, lead_times = surrogate.calibrations.get(quantity.field.name), surrogate.lead_times
    if not quantity.is_linear:
        return "intervals exist for linear quantities only"
    if calibration is None:
        return "the bundle has no calibration set"
    if lead_times is not None and lead_times.input is not None:
        return "calibrated on whole trajectories, whose residuals are not stored"
    if not calibration.stores_residuals:
        return "the bundle stores no calibration residuals of this field, only their scores"
    if transform != "identity":
        return (
            f"errors are calibrated on the {transform.replace('_', ' ')} of the field, where the quantity is not linear"
        )
    return None


def interval(
    surrogate: Surrogate, prediction: Prediction, quantity: Quantity, value: float, level: float, in_domain: bool
) -> Interval:
    """J ± q ∫|w| s.

    Raises UnsupportedLevel.
    """
    truth, name = str(surrogate.manifest.document["truth"]), quantity.field.name
    missing = _missing(surrogate, quantity, prediction.transform) or (None if in_domain else "out of domain")
    if missing is not None:
        return Interval(None, nothing(name, "interval", truth, missing, level))
    calibration = surrogate.calibrations[name]
    half = calibration.linear(quantity.field_weights, prediction.scale[0], level)
    reason = (
        f"request exchangeable with {calibration.count} calibration inputs; the quantity was not chosen from residuals"
    )
    claim = Statement(name, "interval", half, "statistical", level, truth, (reason,))
    return Interval((value - half, value + half), claim)
