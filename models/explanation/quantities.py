"""Quantities of interest: J(u) = Σ_τ c_τ j(u_τ), a functional j of one output field, averaged over lead times.

    point, region_mean, linear   j = Σ w u
    norm                         j = ½ ∫ u² over a region
    max                          j = max u; smooth: β⁻¹ log mean exp(β u), at most β⁻¹ log P below it over P points
    exceedance                   j = share of area where u > θ; smooth: mean of 1/(1 + exp(−β (u − θ)))

Methods that differentiate use the smooth form, those that replace regions the exact one. Lead times are a number or a
window [first, last]; steady fields have none. A model that takes its lead time as an input is averaged over a window by
Gauss–Legendre quadrature, one with an axis of lead times by the trapezoid rule over those inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from models.errors import OutOfRange, UnknownOption
from models.explanation import grid
from models.explanation.forms import (
    Columns,
    Exceedance,
    Form,
    HalfSquare,
    Linear,
    Maximum,
    SmoothExceedance,
    SoftMaximum,
)  # fmt: skip
from models.fields import LEAD_TIME, Axis, Field, LeadTimes

OPTIONS = {
    "point": (), "region_mean": ("mask", "polygon"), "norm": ("mask", "polygon"), "linear": ("weights",),
    "max": ("mask", "polygon", "sharpness"), "exceedance": ("mask", "polygon", "threshold", "sharpness"),
}  # fmt: skip
BLUNTEST, SHARPEST = 1e-9, 1e9
LARGEST_WEIGHT = 1e30  # single precision holds its products with any answer
WINDOW_NODES = 8  # of the quadrature over a window of lead times
SOFT_GAP = 0.02  # share of the field's range by which the soft maximum may lie below the maximum, unless β is given
SHARP = 10.0  # β times the median distance from the threshold for exceedance, unless given: most points are decided


@dataclass(frozen=True)
class Moments:
    """The lead times of a quantity: weights c_τ, and the times themselves where the graph takes them as an input."""

    weights: np.ndarray
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Quantity:
    """One quantity of an output field; `sharpness` belongs to the smooth forms of max and exceedance."""

    field: Field
    kind: str
    weights: grid.Grid
    moments: Moments
    lead_time: float | tuple[float, float] | None = None
    threshold: float = 0.0
    sharpness: float | None = None

    @property
    def is_linear(self) -> bool:
        """Whether J is linear in the field."""
        return self.kind in ("point", "region_mean", "linear")

    @property
    def _keeps_lead_times(self) -> bool:
        """Whether the weights are those of every lead time."""
        return (
            bool(self.field.axes) and self.field.axes[0].name == LEAD_TIME and self.weights.ndim == len(self.field.axes)
        )

    @property
    def support(self) -> np.ndarray:
        """Where the quantity looks, on the grid of one lead time."""
        seen = self.weights != 0
        return np.asarray(seen.any(axis=0) if self._keeps_lead_times else seen)

    @property
    def has_smooth_form(self) -> bool:
        """Whether what is differentiated differs from what is meant."""
        return self.kind in ("max", "exceedance")

    @property
    def field_weights(self) -> grid.Grid:
        """Weights on the whole field, lead times included: J = Σ w u for linear quantities."""
        if self.weights.shape != self.field.shape:
            return np.asarray(np.multiply.outer(self.moments.weights, self.weights))
        return self.weights

    def form(self, exact: bool) -> Form:
        """The functional of one time."""
        flat = self.weights.ravel()
        if self.kind == "norm":
            return HalfSquare(flat)
        if not self.has_smooth_form:
            return Linear(flat)
        if exact:
            return Maximum(flat > 0) if self.kind == "max" else Exceedance(flat, self.threshold)
        if self.sharpness is None:
            raise ValueError("Expected a sharpness; settle the quantity on an answer first.")
        if self.kind == "max":
            return SoftMaximum(flat > 0, self.sharpness)
        return SmoothExceedance(flat, self.threshold, self.sharpness)

    def _columns(self, values: np.ndarray) -> Columns:
        """(row × time, *field) or (row, lead time, *grid) as (row, time, point) in float64."""
        return np.asarray(values, dtype=np.float64).reshape(-1, len(self.moments.weights), self.weights.size)

    def of(self, values: np.ndarray, exact: bool = True) -> Float[np.ndarray, " row"]:
        """J of fields (row, …), summed in float64; rows of one quantity's lead times follow each other."""
        return np.asarray(self.form(exact).of(self._columns(values)) @ self.moments.weights)

    def ends(self, lower: np.ndarray, upper: np.ndarray) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Least and greatest J, of the exact form, of fields between `lower` and `upper`; all c_τ ≥ 0."""
        low, high = self.form(exact=True).ends(self._columns(lower), self._columns(upper))
        return np.asarray(low @ self.moments.weights), np.asarray(high @ self.moments.weights)

    @property
    def lead_times_seen(self) -> int:
        """At how many lead times of an axis of the field the quantity looks, at least one."""
        if not (self.field.axes and self.field.axes[0].name == LEAD_TIME):
            return 1
        seen = (
            self.weights.any(axis=tuple(range(1, self.weights.ndim)))
            if self._keeps_lead_times
            else self.moments.weights
        )
        return max(1, int(np.count_nonzero(seen)))

    def averaged(self, values: np.ndarray) -> grid.Grid:
        """One row's field averaged over the lead times of the quantity."""
        columns = self._columns(values)[0]
        found = np.tensordot(self.moments.weights, columns, 1).reshape(self.weights.shape)
        return np.asarray(found.mean(axis=0) if self._keeps_lead_times else found)

    def slope(self, values: np.ndarray) -> np.ndarray:
        """∂J/∂u of the smooth form, in the shape of `values`."""
        slope = self.form(exact=False).slope(self._columns(values))
        return np.asarray((slope * self.moments.weights[:, None]).reshape(values.shape))

    def settled(self, answer: np.ndarray) -> "Quantity":
        """With a sharpness that suits the range of an answer, where none was given."""
        if self.sharpness is not None or not self.has_smooth_form:
            return self
        columns = np.asarray(answer, dtype=np.float64).reshape(-1, self.weights.size)[:, self.weights.ravel() > 0]
        extent = float(np.ptp(columns)) or 1.0
        if self.kind == "exceedance":
            distance = float(np.median(np.abs(columns - self.threshold)))
            return replace(self, sharpness=SHARP / (distance or extent))
        return replace(self, sharpness=max(np.log(columns.shape[1]), 1.0) / (SOFT_GAP * extent))


def _space(item: Field) -> tuple[Axis, ...]:
    return tuple(axis for axis in item.axes if axis.name != LEAD_TIME)


def _check_keys(item: Field, request: Mapping[str, Any]) -> None:
    """A mistyped axis must not silently mean the whole of it."""
    kind = request["type"]
    axes = [] if kind == "linear" else [axis.name for axis in _space(item)]
    known = ["type", "field", LEAD_TIME, *OPTIONS[kind], *axes]
    for key in request:
        if key not in known:
            raise UnknownOption(f"quantity.{key}", f"options of {kind} among {', '.join(known)}", f"'{key}'")


def _number(request: Mapping[str, Any], key: str) -> float:
    value = request.get(key)
    if not grid.is_number(value):
        raise UnknownOption(f"quantity.{key}", "a number", "nothing" if value is None else grid.shown(value))
    return float(value)  # type: ignore[arg-type]


def _sharpness(request: Mapping[str, Any]) -> float | None:
    if request.get("sharpness") is None:
        return None
    value = _number(request, "sharpness")
    if not BLUNTEST <= value <= SHARPEST:
        raise OutOfRange("quantity.sharpness", f"in [{BLUNTEST:g}, {SHARPEST:g}]", f"{value:g}")
    return value


def _weights(item: Field, request: Mapping[str, Any]) -> grid.Grid:
    kind, axes = request["type"], _space(item)
    if kind == "point":
        return grid.point_weights(axes, request, "quantity")
    if kind == "linear":  # of every lead time, or of the grid at one
        shape = tuple(axis.points for axis in (axes if request.get(LEAD_TIME) is not None else item.axes))
        weights = grid.numbers(request.get("weights", []), shape, "quantity.weights")
        if np.abs(weights).max() > LARGEST_WEIGHT:
            raise OutOfRange("quantity.weights", f"at most {LARGEST_WEIGHT:g} in size", f"{np.abs(weights).max():g}")
        return weights
    area = grid.quadrature_weights(axes) * grid.inside(axes, request, "quantity")
    return area if kind == "norm" else np.asarray(area / area.sum())


Window = tuple[float, float]


def _window(known: LeadTimes, requested: Any) -> Window:
    name = f"quantity.{LEAD_TIME}"
    given = requested if isinstance(requested, list | tuple) else [requested, requested]
    if len(given) != 2 or not all(map(grid.is_number, given)):
        raise UnknownOption(name, "a lead time, or a window [first, last]", grid.shown(requested))
    first, last = float(given[0]), float(given[1])
    slack = grid.SLACK * max(1.0, abs(known.stop))
    if not known.start - slack <= first <= last <= known.stop + slack:
        unit = "" if known.units == "1" else f" {known.units}"
        limits = f"first ≤ last in [{known.start:g}, {known.stop:g}]{unit}"
        raise OutOfRange(name, limits, grid.shown(requested))
    return first, last


def _on_axis(known: LeadTimes, window: Window) -> Moments:
    slack = grid.SLACK * max(1.0, abs(known.stop))
    times = known.values
    within = (times >= window[0] - slack) & (times <= window[1] + slack)
    if not within.any():
        listed = ", ".join(f"{value:g}" for value in times)
        expected = f"at least one of the lead times {listed} {known.units}"
        raise OutOfRange(f"quantity.{LEAD_TIME}", expected, f"[{window[0]:g}, {window[1]:g}]")
    weights = within.astype(np.float64)
    places = np.flatnonzero(within)
    if len(places) > 1:
        weights[places[[0, -1]]] = 0.5
    return Moments(weights / weights.sum())


def _as_input(window: Window) -> Moments:
    first, last = window
    if first == last:
        return Moments(np.ones(1), np.array([first]))
    nodes, weights = np.polynomial.legendre.leggauss(WINDOW_NODES)
    return Moments(0.5 * weights, first + 0.5 * (last - first) * (nodes + 1.0))


def _moments(
    item: Field, known: LeadTimes | None, requested: Any, weighs_all: bool
) -> tuple[Moments, float | Window | None]:
    """Weights over lead times and what to call them; all lead times of an axis unless some are asked for."""
    leads = bool(item.axes) and item.axes[0].name == LEAD_TIME
    is_input = known is not None and known.input is not None
    if known is None or not (leads or is_input):
        if requested is not None:
            raise UnknownOption(f"quantity.{LEAD_TIME}", f"none: {item.name} has no lead time", grid.shown(requested))
        return Moments(np.ones(1)), None
    if requested is None:
        once = is_input or weighs_all
        return Moments(np.ones(1)) if once else _on_axis(known, (known.start, known.stop)), None
    window = _window(known, requested)
    moments = _as_input(window) if is_input else _on_axis(known, window)
    return moments, window[0] if window[0] == window[1] else window


def make_quantity(fields: Sequence[Field], known: LeadTimes | None, request: Mapping[str, Any]) -> Quantity:
    """The quantity a request describes; of the first field unless it names one.

    Raises UnknownOption, OutOfRange, WrongShape, NotFinite.
    """
    kind, wanted = request.get("type"), request.get("field", fields[0].name)
    names = [item.name for item in fields]
    if wanted not in names:
        raise UnknownOption("quantity.field", f"one of {', '.join(names)}", grid.shown(wanted))
    if not isinstance(kind, str) or kind not in OPTIONS:
        raise UnknownOption("quantity.type", f"one of {', '.join(OPTIONS)}", grid.shown(kind))
    item = fields[names.index(wanted)]
    _check_keys(item, request)
    moments, lead_time = _moments(item, known, request.get(LEAD_TIME), kind == "linear")
    threshold = _number(request, "threshold") if kind == "exceedance" else 0.0
    return Quantity(item, kind, _weights(item, request), moments, lead_time, threshold, _sharpness(request))
