"""The frames of a forecast put together: one answer whose fields have their axis of lead times."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.fields import LEAD_TIME, Axis, Field
from models.forecast import Forecast, Frame, Summary
from models.surrogate import Answer, Distribution, Interval, Prediction, Surrogate

Shares = Callable[[Distribution], Mapping[float, np.ndarray]]


def assemble(forecast: Forecast, frames: Sequence[Frame], summary: Summary) -> Answer:
    """Frames and summary as one answer; timed fields are (batch, lead_time, *grid)."""
    names = [item.name for item in forecast.timed_fields]
    return Answer(
        {name: _prediction([frame.predictions[name] for frame in frames]) for name in names}
        | dict(summary.predictions),
        {name: _band([frame.bands[name] for frame in frames]) for name in names} | dict(summary.bands),
        {name: _law([frame.distributions[name] for frame in frames]) for name in names} | dict(summary.distributions),
        forecast.question,
        tuple(
            (*summary.statements[index], *(s for frame in frames for s in frame.statements[index]))
            for index in range(forecast.count)
        ),
        forecast.validity,
        summary.route,
    )


def axes_of(surrogate: Surrogate, item: Field, lead_times: np.ndarray | None) -> tuple[Axis, ...]:
    """The axes of an output field; those of `lead_times` come first where a forecast gave it that axis.

    The end points and the number of the lead times are right; between them they need not be uniform.
    """
    known = surrogate.lead_times
    if known is None or lead_times is None:
        return item.axes
    lead = Axis(LEAD_TIME, known.units, len(lead_times), float(lead_times[0]), float(lead_times[-1]))
    if known.input is not None:
        return (lead, *item.axes)
    return tuple(lead if axis.name == LEAD_TIME else axis for axis in item.axes)


def _prediction(parts: Sequence[Prediction]) -> Prediction:
    return Prediction.of(
        np.stack([part.members for part in parts], axis=2),
        np.stack([part.mean for part in parts], axis=1),
        np.stack([part.spread for part in parts], axis=1),
        np.stack([part.scale for part in parts], axis=1),
        parts[0].transform,
    )


def _band(parts: Sequence[Interval | None]) -> Interval | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Interval(np.stack([part.lower for part in found], axis=1), np.stack([part.upper for part in found], axis=1))


def _law(parts: Sequence[Distribution]) -> Distribution:
    def stack(shares: Shares) -> Mapping[float, np.ndarray]:
        return {key: np.stack([shares(part)[key] for part in parts], axis=1) for key in shares(parts[0])}

    return Distribution(stack(lambda law: law.quantiles), stack(lambda law: law.exceedance))
