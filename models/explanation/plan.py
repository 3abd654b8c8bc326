"""A request to explain, checked: nothing is computed before all of it makes sense and its work is known to be limited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import MissingField, NotOffered, OutOfRange, TooLarge, UnknownField, UnknownOption, WrongShape
from models.explanation import attribution, regions
from models.explanation.attribution import DIFFERENTIATING, Method
from models.explanation.baselines import Baseline, by_field, make_baseline, require_range
from models.explanation.checks import CLOCKS
from models.explanation.functional import Functional
from models.explanation.grid import read_numbers, shown
from models.explanation.quantities import Quantity, make_quantity
from models.explanation.regions import Region
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Question, Surrogate

MOST_RUNS = 2**14
MOST_VALUES = 2**27  # numbers that all runs return together
FEWEST_DRAWN, MOST_DRAWN = 2, 16


@dataclass(frozen=True)
class Request:
    """What is to be explained, and how; everything as it came over the wire."""

    quantity: Mapping[str, Any]
    method: Method = "integrated_gradients"
    wrt: Sequence[str] | None = None
    baseline: Any = None
    baselines: int = 8
    regions: Any = None
    change: Any = None
    smoothing: float | None = None
    level: float = 0.9


@dataclass(frozen=True)
class Plan:
    """A checked request."""

    surrogate: Surrogate
    request: Request
    sample: Arrays
    quantity: Quantity
    fields: tuple[Field, ...]
    regions: tuple[Region, ...]
    baseline: Baseline
    change: Arrays

    @property
    def names(self) -> tuple[str, ...]:
        """The explained fields."""
        return tuple(item.name for item in self.fields)


def explained_fields(surrogate: Surrogate, wrt: Sequence[str] | None) -> tuple[Field, ...]:
    """The input fields attribution goes to: those named, or all that are no clock.

    Raises UnknownField, UnknownOption.
    """
    offered = {item.name: item for item in surrogate.manifest.inputs if item.role not in CLOCKS}
    if wrt is None:
        return tuple(offered.values())
    for name in wrt:
        if name not in offered:
            raise UnknownField(f"wrt.{name}", offered)
    if not wrt or len(set(wrt)) != len(wrt):
        raise UnknownOption("wrt", "one or more different fields", shown(list(wrt)))
    return tuple(offered[name] for name in wrt)


def _one_sample(surrogate: Surrogate, inputs: Mapping[str, np.ndarray], quantity: Quantity) -> Arrays:
    """The checked sample; the lead time may be left to the quantity."""
    known, times = surrogate.lead_times, quantity.moments.times
    given = dict(inputs)
    if known is not None and known.input is not None and times is not None:
        given.setdefault(known.input, np.array([times[-1]]))
    checked = surrogate.validate(given)
    first, batch = next(iter(checked.items()))
    if len(batch) != 1:
        raise WrongShape(first, "one sample", f"a batch of {len(batch)}")
    return {name: np.asarray(array[0]) for name, array in checked.items()}


def _change(fields: Sequence[Field], sample: Arrays, request: Request) -> Arrays:
    """δ of every explained field, zero where none is given."""
    if request.method != "what_if":
        if request.change is not None:
            raise UnknownOption("change", "none: only method what_if takes a change", shown(request.change))
        return {}
    if request.change is None:
        raise MissingField("change")
    given = by_field(fields, request.change, "change")
    found = {}
    for item in fields:
        place = f"change.{item.name}" if isinstance(request.change, Mapping) else "change"
        try:
            values = read_numbers(given.get(item.name, 0.0))
        except (TypeError, ValueError) as error:
            raise UnknownOption(place, "a number or a field", shown(given[item.name])) from error
        if values.ndim and values.shape != item.shape:
            raise WrongShape(place, f"a number or shape {item.shape}", f"{values.shape}")
        found[item.name] = np.broadcast_to(values, item.shape)
        require_range(item, sample[item.name] + found[item.name], place)
    if not any(values.any() for values in found.values()):
        raise UnknownOption("change", "a change other than zero", shown(request.change))
    return found


def _make_regions(fields: Sequence[Field], request: Request) -> tuple[Region, ...]:
    if request.regions is None:
        if request.method == "shapley":
            return regions.few_tiles(fields)
        return regions.make_regions(fields, regions.TILES)
    found = regions.make_regions(fields, request.regions)
    if request.method == "shapley":
        regions.require_players(found)
    return found


def _check_offered(surrogate: Surrogate, method: Method) -> None:
    needed = {"vjp", "jvp"} if method == "what_if" else {"vjp"}
    if method in DIFFERENTIATING and not needed <= set(surrogate.graphs):
        offered = "occlusion and shapley, which need no derivative graph"
        raise NotOffered(f"{method} for {surrogate.manifest.name}", offered, "method")


def _rows(plan: Plan, numbers_per_row: int) -> int:
    """The most values or gradients of J that a method may take."""
    members, count = plan.surrogate.manifest.members, plan.baseline.count
    nodes = attribution.most_nodes(numbers_per_row)
    path = 2 + nodes + nodes // attribution.PART_NODES + attribution.member_nodes(numbers_per_row, members) * members
    rows = {
        "gradient": 1 + members, "what_if": 3 + members, "integrated_gradients": count * path,
        "occlusion": count * (len(plan.regions) + 1), "shapley": count << min(len(plan.regions), regions.MOST_PLAYERS),
    }  # fmt: skip
    return rows[plan.request.method]


def _check_size(plan: Plan) -> None:
    functional = Functional(plan.surrogate, plan.sample, plan.quantity, exact=True)
    rows = _rows(plan, functional.numbers_per_row)
    runs, numbers = rows * functional.times, rows * functional.numbers_per_row
    if runs > MOST_RUNS or numbers > MOST_VALUES:
        expected = f"work of at most {MOST_RUNS} runs that return {MOST_VALUES} numbers: fewer baselines, regions or lead times"
        raise TooLarge("method", expected, f"{runs} runs, {numbers} numbers")


def make_plan(surrogate: Surrogate, inputs: Mapping[str, np.ndarray], request: Request) -> Plan:
    """Check everything before any work.

    Raises InvalidInput in one of its forms, NotOffered.
    """
    manifest = surrogate.manifest
    quantity = make_quantity(manifest.outputs, surrogate.lead_times, request.quantity)
    sample = _one_sample(surrogate, inputs, quantity)
    surrogate.check_question(Question(request.level))
    fields = explained_fields(surrogate, request.wrt)
    _check_offered(surrogate, request.method)
    found = _make_regions(fields, request)
    if not FEWEST_DRAWN <= request.baselines <= MOST_DRAWN:
        raise OutOfRange("baselines", f"in [{FEWEST_DRAWN}, {MOST_DRAWN}]", str(request.baselines))
    change = _change(fields, sample, request)
    if request.smoothing is not None and not 0.0 < request.smoothing <= 0.5:
        raise OutOfRange("smoothing", "in (0, 0.5] of every axis", f"{request.smoothing:g}")
    baseline = make_baseline(surrogate, sample, fields, request.baseline, request.baselines)
    plan = Plan(surrogate, request, sample, quantity, fields, found, baseline, change)
    _check_size(plan)
    return plan
