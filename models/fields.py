"""Fields, axes, units and valid ranges: the vocabulary shared by manifests, schemas and checks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float

from models.errors import MissingField, NotFinite, OutOfRange, UnknownField, WrongShape

LEAD_TIME = "lead_time"
LARGEST = float(np.finfo(np.float32).max)

Role = Literal["field", "initial_state", "static", "forcing", "history", "parameter", "lead_time", "reference_time"]


@dataclass(frozen=True)
class Axis:
    """A uniform axis: `points` nodes from `start` to `stop` inclusive.

    `labels` name the nodes of an axis that counts things (stations); `standard_name` is CF's; a `periodic` axis goes on
    after its last node with the first. The axis of forecast times is called `lead_time`.
    """

    name: str
    units: str
    points: int
    start: float
    stop: float
    labels: tuple[str, ...] = ()
    standard_name: str = ""
    periodic: bool = False

    @property
    def coordinates(self) -> Float[np.ndarray, " node"]:
        """Node positions."""
        return np.linspace(self.start, self.stop, self.points)


@dataclass(frozen=True)
class Field:
    """A named quantity on axes; `minimum` and `maximum` are what is accepted, not what was trained on.

    A field without axes is a scalar. `role` says what a time-dependent model does with an input; a `reference_time`
    counts hours since 1970-01-01T00:00Z and travels as an RFC 3339 string. `standard_name` is CF's.
    """

    name: str
    symbol: str
    units: str
    description: str
    axes: tuple[Axis, ...]
    minimum: float | None = None
    maximum: float | None = None
    role: Role = "field"
    standard_name: str = ""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(axis.points for axis in self.axes)

    @property
    def is_direction(self) -> bool:
        """Whether 0 and 360 degrees are the same."""
        return (self.units, self.minimum, self.maximum) == ("degree", 0.0, 360.0)

    @property
    def range_text(self) -> str:
        """The accepted range in words, with its unit."""
        unit = "" if self.units == "1" else f" {self.units}"
        if self.minimum is None and self.maximum is None:
            return "any finite value"
        low = "-inf" if self.minimum is None else f"{self.minimum:g}"
        high = "inf" if self.maximum is None else f"{self.maximum:g}"
        return f"in [{low}, {high}]{unit}"

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read from a manifest."""
        axes = tuple(Axis(**{**axis, "labels": tuple(axis.get("labels", ()))}) for axis in document["axes"])
        return cls(**{**document, "axes": axes})


@dataclass(frozen=True)
class LeadTimes:
    """The times a forecast can be asked for.

    Either every time in [start, stop], given to the graph as the scalar input named `input`, with `frames` equispaced
    times in the data and in the calibration; or the `frames` equispaced times alone (`input` None), which are then the
    `lead_time` axis of the outputs.
    """

    units: str
    start: float
    stop: float
    frames: int
    input: str | None = None

    @property
    def values(self) -> np.ndarray:
        """The lead times of the data and of the calibration."""
        return np.linspace(self.start, self.stop, self.frames)


def check_numbers(name: str, values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest of numbers that single precision, in which graphs compute, can hold.

    Raises NotFinite, OutOfRange.
    """
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # NaN and infinity are among the extremes
        bad = ~np.isfinite(values)
        raise NotFinite(name, int(bad.sum()), str(tuple(int(i) for i in np.argwhere(bad)[0])))
    if max(-low, high) > LARGEST:
        raise OutOfRange(name, f"at most {LARGEST:.2g} in size", f"values from {low:g} to {high:g}")
    return low, high


def check_values(field: Field, values: np.ndarray, count: int) -> None:
    """Raise unless (batch, *axes) `values` are `count` samples of the field's shape, finite and inside its range.

    A limit is inside, and so is what single precision makes of it.

    Raises WrongShape, NotFinite, OutOfRange.
    """
    if values.shape[1:] != field.shape or values.ndim != len(field.shape) + 1:
        names = ", ".join(axis.name for axis in field.axes)
        raise WrongShape(field.name, f"shape {field.shape} ({names}), batch axis optional", f"{values.shape}")
    if len(values) != count:
        raise WrongShape(field.name, f"a batch of {count}, as the other inputs", f"{len(values)}")
    low, high = check_numbers(field.name, values)
    below = field.minimum is not None and low < min(field.minimum, float(np.float32(field.minimum)))
    above = field.maximum is not None and high > max(field.maximum, float(np.float32(field.maximum)))
    if below or above:
        raise OutOfRange(field.name, field.range_text, f"values from {low:g} to {high:g}")


def check_names(fields: tuple[Field, ...], given: Mapping[str, object]) -> None:
    """Raise unless `given` has exactly the names of `fields`.

    Raises UnknownField, MissingField.
    """
    known = [field.name for field in fields]
    for name in given:
        if name not in known:
            raise UnknownField(str(name), known)
    for name in known:
        if name not in given:
            raise MissingField(name)
