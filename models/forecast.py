"""A forecast: frames at lead times, each with its band and statements, computed a few at a time as they are asked for.

Models whose graph takes the lead time as an input run once per few frames; models whose outputs have an axis of lead
times run once. What needs the whole trajectory (guaranteed bounds, fields without lead time) comes after the frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import NotOffered, OutOfRange, TooLarge, UnknownOption
from models.fields import LEAD_TIME, Field, LeadTimes
from models.physical_model import Arrays
from models.statements import Statement
from models.surrogate import Clock, Distribution, Interval, Prediction, Question, RouteStep, Surrogate
from models.validity import Validity

TOGETHER = 8  # frames per run: the first leaves soon, and the graph runs near its best batch
DEFAULT_FRAMES = 41
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Frame:
    """The answer at one lead time, by output field (batch, *grid)."""

    lead_time: float
    predictions: Mapping[str, Prediction]
    bands: Mapping[str, Interval | None]
    distributions: Mapping[str, Distribution]
    statements: tuple[tuple[Statement, ...], ...]


@dataclass(frozen=True)
class Summary:
    """What belongs to the whole forecast: fields without lead time, their bands, statements of the mathematics."""

    predictions: Mapping[str, Prediction]
    bands: Mapping[str, Interval | None]
    distributions: Mapping[str, Distribution]
    statements: tuple[tuple[Statement, ...], ...]
    route: tuple[RouteStep, ...]


def lead_times_of(surrogate: Surrogate) -> LeadTimes:
    """The lead times of a time-dependent model.

    Raises NotOffered for a steady one.
    """
    if surrogate.lead_times is None:
        raise NotOffered(f"a forecast by {surrogate.manifest.name}", "predict: the model is steady")
    return surrogate.lead_times


def choose_lead_times(
    known: LeadTimes, requested: Sequence[float] | None, steps: int | None, largest: int
) -> np.ndarray:
    """The lead times to answer: those requested, the first `steps` of the usual ones, or all of these.

    Raises UnknownOption, OutOfRange, TooLarge.
    """
    anywhere = known.input is not None
    usual = np.linspace(known.start, known.stop, DEFAULT_FRAMES if anywhere else known.frames)
    if requested is not None and steps is not None:
        raise UnknownOption("steps", "either lead_times or steps", "both")
    if requested is None:
        return _first_steps(known, usual, steps, largest)
    times = np.asarray(requested, dtype=np.float64)
    if len(times) > largest:
        raise TooLarge("lead_times", f"at most {largest} lead times", str(len(times)))
    if not len(times) or not np.isfinite(times).all() or np.any(np.diff(times) <= 0):
        raise UnknownOption("lead_times", "one or more increasing numbers", str(list(requested))[:60])
    if times[0] < known.start - TOLERANCE or times[-1] > known.stop + TOLERANCE:
        limits = f"in [{known.start:g}, {known.stop:g}] {known.units}"
        raise OutOfRange("lead_times", limits, f"values from {times[0]:g} to {times[-1]:g}")
    distance = np.abs(times[:, None] - usual).min(axis=1)
    if not anywhere and distance.max() > TOLERANCE:
        listed = ", ".join(f"{value:g}" for value in usual)
        raise UnknownOption("lead_times", f"among {listed} {known.units}", f"{times[distance.argmax()]:g}")
    return times


def _first_steps(known: LeadTimes, usual: np.ndarray, steps: int | None, largest: int) -> np.ndarray:
    if steps is None:
        return usual
    if steps < 1:
        raise UnknownOption("steps", "at least 1", str(steps))
    most = largest if known.input is not None else known.frames
    if steps > most:
        raise TooLarge("steps", f"at most {most} steps", str(steps))
    return usual[:steps] if known.input is None else np.linspace(known.start, known.stop, steps + 1)[1:]


class Forecast:
    """One forecast; inputs are validated at once, frames are computed when they are drawn."""

    def __init__(
        self, surrogate: Surrogate, inputs: Mapping[str, np.ndarray], lead_times: np.ndarray, question: Question,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """`clock` may have begun before. Raises InvalidInput in one of its forms, NotOffered."""
        self.surrogate, self.lead_times, self.question = surrogate, lead_times, question
        self._known = lead_times_of(surrogate)
        self.clock = clock or Clock()
        given = dict(inputs)
        if self._known.input is not None:  # validated like any input; every frame sets its own
            first = next(iter(given.values()))
            given[self._known.input] = np.full(len(first), lead_times[0])
        self.inputs = surrogate.validate(given)
        surrogate.check_question(question)
        self.clock.mark("validate")
        self.count = len(next(iter(self.inputs.values())))
        self.validity: tuple[Validity, ...] = tuple(surrogate.assess(self._sample(i), ()) for i in range(self.count))
        self.clock.mark("validity")
        self._whole: Mapping[str, Prediction] = {}
        self._drawn: list[Arrays] = []

    def _sample(self, index: int) -> Arrays:
        return {name: values[index] for name, values in self.inputs.items()}

    @property
    def timed_fields(self) -> tuple[Field, ...]:
        """Output fields that frames carry."""
        outputs = self.surrogate.manifest.outputs
        return outputs if self._known.input is not None else tuple(item for item in outputs if _has_lead(item))

    def frames(self) -> Iterator[Frame]:
        """One frame per lead time, in order."""
        if self._known.input is None:
            yield from self._slices()
            return
        for first in range(0, len(self.lead_times), TOGETHER):
            times = self.lead_times[first : first + TOGETHER]
            predictions = self._run_at(self._known.input, times)
            self.clock.mark("surrogate")
            if self._has_trajectory_bound:
                self._drawn += [{name: p[i].mean for name, p in predictions.items()} for i in range(len(times))]
            for index, time in enumerate(times):
                yield self._frame(float(time), {name: p[index] for name, p in predictions.items()}, None)

    def _run_at(self, clock: str, times: np.ndarray) -> dict[str, list[Prediction]]:
        """Every field at a few lead times, given to the input `clock`; all samples and times in one batch."""
        rows = {name: np.repeat(values, len(times), axis=0) for name, values in self.inputs.items()}
        rows[clock] = np.tile(times, self.count).astype(np.float32)
        found = self.surrogate.run(rows)
        return {name: [p.every(index, len(times)) for index in range(len(times))] for name, p in found.items()}

    def _slices(self) -> Iterator[Frame]:
        self._whole = self.surrogate.run(self.inputs)
        self.clock.mark("surrogate")
        for time in self.lead_times:
            index = int(np.abs(self._known.values - time).argmin())
            predictions = {item.name: self._whole[item.name].at(index) for item in self.timed_fields}
            yield self._frame(float(time), predictions, index)

    def _frame(self, time: float, predictions: Mapping[str, Prediction], lead: int | None) -> Frame:
        question, surrogate = self.question, self.surrogate
        bands = {name: surrogate.band(name, p, question, lead) for name, p in predictions.items()}
        laws = {name: surrogate.distribution(name, p, question, lead) for name, p in predictions.items()}
        statements = tuple(
            surrogate.band_statements(predictions, bands, i, question, self.validity[i], time)
            for i in range(self.count)
        )
        self.clock.mark("uncertainty")
        return Frame(time, predictions, bands, laws, statements)

    def summary(self) -> Summary:
        """Call once all frames have been drawn."""
        timed = {item.name for item in self.timed_fields}
        rest = {name: p for name, p in self._whole.items() if name not in timed}
        question, surrogate = self.question, self.surrogate
        bands = {name: surrogate.band(name, p, question) for name, p in rest.items()}
        laws = {name: surrogate.distribution(name, p, question) for name, p in rest.items()}
        certain = [self._certain(index) for index in range(self.count)]
        self.clock.mark("bound")
        statements = tuple(
            (*certain[i], *surrogate.band_statements(rest, bands, i, question, self.validity[i]))
            for i in range(self.count)
        )
        return Summary(rest, bands, laws, statements, self.clock.route)

    @property
    def _has_trajectory_bound(self) -> bool:
        physics = self.surrogate.physics
        timed = self._known.input is not None and physics is not None and physics.bound_times is not None
        return timed and self.question.bounds

    def _certain(self, index: int) -> tuple[Statement, ...]:
        sample = self._sample(index)
        if self._has_trajectory_bound:
            means = {name: np.stack([frame[name][index] for frame in self._drawn]) for name in self._drawn[0]}
            return self.surrogate.trajectory_statements(sample, self.lead_times, means)
        outputs = {name: p.mean[index] for name, p in self._whole.items()}
        return self.surrogate.certain(sample, outputs, self.question)


def _has_lead(item: Field) -> bool:
    return bool(item.axes) and item.axes[0].name == LEAD_TIME
