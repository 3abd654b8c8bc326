"""Where attributions start: the model's own baseline, the training mean, a control run, a given field, or several drawn.

model      the catalogue entry's constant (no rain, a uniform medium), else the field's own mean, of each place that has a
           name by itself: neighbours differ in height, and no weather has one pressure at all of them
mean       the mean of the training inputs, from the bundle's description of its domain
control    the first of the bundle's golden inputs
expected   several inputs drawn from the training law; attributions are averaged (Erion et al. 1906.10670)

Directions have circular means, and their baseline is the turn by which the path from it is shortest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle import GOLDEN_FILE
from models.errors import NotOffered, OutOfRange, UnknownOption, WrongShape
from models.explanation import grid
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Surrogate

NAMED = ("model", "mean", "control")
EXPECTED = "expected"
TURN = 360.0
STREAM = 1_000_007  # seed of drawn baselines, apart from training and examples


@dataclass(frozen=True)
class Baseline:
    """Values (baseline, *grid) of every explained field, and how they came about."""

    values: Arrays
    text: str

    @property
    def count(self) -> int:
        """How many there are."""
        return len(next(iter(self.values.values())))

    def one(self, index: int) -> Arrays:
        """One of them."""
        return {name: values[index] for name, values in self.values.items()}


def _own(surrogate: Surrogate, item: Field, sample: np.ndarray) -> tuple[np.ndarray, str]:
    declared = surrogate.manifest.document.get("baseline") or {}
    if item.name in declared:
        constant = float(declared[item.name])
        return np.full(item.shape, constant), f"constant {constant:g}"
    values, everywhere = sample.astype(np.float64), tuple(range(len(item.axes)))
    along = tuple(k for k in everywhere if not item.axes[k].labels) or everywhere
    mean = np.asarray(_circular_mean(values, along) if item.is_direction else values.mean(axis=along, keepdims=True))
    places = [axis.name for k, axis in enumerate(item.axes) if k not in along]
    text = f"at every {' and '.join(places)}" if places else f"{float(mean.ravel()[0]):g}"
    return np.broadcast_to(mean, item.shape), f"its own {'mean' if item.axes else 'value'} {text}"


def _circular_mean(degrees: np.ndarray, over: tuple[int, ...]) -> np.ndarray:
    """Direction of the sum of unit vectors."""
    angles = np.deg2rad(degrees)
    across, along = (part(angles).sum(axis=over, keepdims=True) for part in (np.sin, np.cos))
    return np.asarray(np.rad2deg(np.arctan2(across, along)) % TURN)


def _nearest_turn(item: Field, sample: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Directions plus whole turns, so that none is more than half a turn from the sample."""
    return values + TURN * np.round((sample - values) / TURN) if item.is_direction else values


def _training_mean(surrogate: Surrogate, item: Field, sample: np.ndarray) -> tuple[np.ndarray, str]:
    found = None if surrogate.domain is None else surrogate.domain.mean(item.name, sample)
    if found is None:
        offered = "a baseline among model, control, a number or a field"
        raise NotOffered(f"the training mean of {item.name}", offered, "baseline")
    return found.reshape(item.shape), "training mean"


def _control(surrogate: Surrogate, item: Field, sample: np.ndarray) -> tuple[np.ndarray, str]:
    golden = surrogate.bundle.arrays(GOLDEN_FILE) if GOLDEN_FILE in surrogate.bundle.files else {}
    stored = golden.get(f"input.{item.name}")
    if stored is None:
        offered = "a baseline among model, a number or a field"
        raise NotOffered(f"a control run of {surrogate.manifest.name}", offered, "baseline")
    return stored[0].astype(np.float64), "control run (the bundle's first golden input)"


def _given(item: Field, place: str, requested: Any) -> tuple[np.ndarray, str]:
    try:
        array = grid.read_numbers(requested)
    except (TypeError, ValueError) as error:
        expected = f"{', '.join(NAMED)}, a number or a field"
        raise UnknownOption(place, expected, grid.shown(requested)) from error
    if array.ndim and array.shape != item.shape:
        raise WrongShape(place, f"a number or shape {item.shape}", f"{array.shape}")
    require_range(item, array, place)
    return np.broadcast_to(array, item.shape), "given in the request"


def require_range(item: Field, values: np.ndarray, place: str) -> None:
    """Raises OutOfRange unless values are finite and accepted by the model."""
    low, high = item.minimum, item.maximum
    outside = (low is not None and values.min() < low) or (high is not None and values.max() > high)
    if outside or not np.all(np.isfinite(values)):
        raise OutOfRange(place, item.range_text, f"values from {values.min():g} to {values.max():g}")


def by_field(fields: Sequence[Field], requested: Any, place: str) -> Mapping[str, Any]:
    """A request's values by field; one value alone belongs to the only field.

    Raises UnknownOption.
    """
    if not isinstance(requested, Mapping):
        if len(fields) != 1:
            raise UnknownOption(place, "an object by field, as several are explained", grid.shown(requested))
        return {fields[0].name: requested}
    names = [item.name for item in fields]
    for name in requested:
        if name not in names:
            raise UnknownOption(f"{place}.{name}", f"explained fields among {', '.join(names)}", f"'{name}'")
    return requested


def _drawn(surrogate: Surrogate, sample: Arrays, fields: Sequence[Field], count: int) -> Baseline:
    physics = surrogate.physics
    if physics is None:
        offered = "a baseline among model, mean, control: a packaged model has no law to draw from"
        raise NotOffered(f"baselines drawn for {surrogate.manifest.name}", offered, "baseline")
    family = "examples" if "examples" in physics.families else physics.training_family
    points = int(surrogate.manifest.document["points"])
    drawn = [physics.draw(STREAM, index, points, family) for index in range(count)]
    values = {
        item.name: _nearest_turn(item, sample[item.name], np.stack([d[item.name] for d in drawn]).astype(np.float64))
        for item in fields
    }
    return Baseline(values, f"expected over {count} inputs of the law “{family}”")


def make_baseline(
    surrogate: Surrogate, sample: Arrays, fields: Sequence[Field], requested: Any, count: int
) -> Baseline:
    """The baseline of every explained field; `count` are drawn for “expected”.

    Raises WrongShape, OutOfRange, UnknownOption, NotOffered.
    """
    if requested == EXPECTED:
        return _drawn(surrogate, sample, fields, count)
    everywhere = isinstance(requested, str) and requested in NAMED
    given = dict.fromkeys((item.name for item in fields), requested) if everywhere else {}
    if requested is not None and not everywhere:
        given = dict(by_field(fields, requested, "baseline"))
    ways = {"model": _own, "mean": _training_mean, "control": _control}
    values, texts = {}, []
    for item in fields:
        wanted = given.get(item.name, "model")
        if isinstance(wanted, str) and wanted in ways:
            found, text = ways[wanted](surrogate, item, sample[item.name])
        else:
            found, text = _given(
                item, f"baseline.{item.name}" if isinstance(requested, Mapping) else "baseline", wanted
            )
        values[item.name] = _nearest_turn(item, sample[item.name], np.asarray(found, dtype=np.float64))[None]
        texts.append(f"{item.name}: {text}")
    return Baseline(values, "; ".join(texts))
