"""Explanations of a quantity of interest: value with interval, attribution per input, regions, checks.

    gradient              ∂J/∂x, one VJP of the bundle; reported as density g_K = (∂J/∂x_K)/|K|, dJ = ∫ g δx
    integrated gradients  IG_i = (x−x′)_i ∫₀¹ ∂_iJ(x′ + t(x−x′)) dt by Gauss–Legendre (Sundararajan et al. 1703.01365)
    occlusion             J(x) − J(x with one region set to the baseline)

Quantities of one output field: point, region_mean, linear, norm (½∫u²). Attribution goes to any of the input fields; those
of integrated gradients add up, over all of them together, to J(x) − J(x′): the completeness gap says how closely. Fields
that are not explained keep their values. Limits: nodes of a cell-centred axis are weighted by the trapezoid rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from models.errors import NotFinite, NotOffered, OutOfRange, TooLarge, UnknownField, UnknownOption, WrongShape
from models.fields import Axis, Field
from models.physical_model import Arrays
from models.statements import Statement, nothing
from models.surrogate import Prediction, Question, Surrogate
from models.validity import Validity

Method = Literal["gradient", "integrated_gradients", "occlusion"]
QUANTITIES = ("point", "region_mean", "norm", "linear")
CLOCKS = ("lead_time", "reference_time")
NODES = 8
LARGEST_TILES = 16
MOST_REGIONS = 256

Grid = Float[np.ndarray, "*grid"]


@dataclass(frozen=True)
class Quantity:
    """J(u) = Σ w u, or ½ Σ w u² when `quadratic`, of the output `field`; `weights` live on its grid."""

    field: str
    kind: str
    weights: Grid
    quadratic: bool = False

    def value(self, values: Float[np.ndarray, "batch *grid"]) -> Float[np.ndarray, " batch"]:
        """J of each field, summed in float64."""
        fields = np.asarray(values, dtype=np.float64)
        integrand = 0.5 * fields**2 if self.quadratic else fields
        return np.asarray((self.weights * integrand).reshape(len(fields), -1).sum(axis=1))

    def cotangent(self, values: Float[np.ndarray, "batch *grid"]) -> Float[np.ndarray, "batch *grid"]:
        """∂J/∂u."""
        return np.asarray(self.weights * values if self.quadratic else np.broadcast_to(self.weights, values.shape))


@dataclass(frozen=True)
class Region:
    """A named part of an input field."""

    field: str
    name: str
    mask: np.ndarray


@dataclass(frozen=True)
class Attribution:
    """Result of one method for one sample: maps by input field, members' maps' deviations, and completeness."""

    values: Mapping[str, Grid]
    deviations: Mapping[str, Grid | None]
    gap: float | None = None
    absolute_gap: float | None = None

    @property
    def total(self) -> float:
        """Sum over all fields."""
        return float(sum(values.sum() for values in self.values.values()))


@dataclass(frozen=True)
class Baseline:
    """Where attributions start: a value for every explained field, and how it came about."""

    values: Arrays
    text: str


def _step(axis: Axis) -> float:
    return (axis.stop - axis.start) / (axis.points - 1) if axis.points > 1 else 0.0


def _end(axis: Axis) -> float:
    """The largest coordinate: a periodic axis goes on to where it starts again."""
    return axis.stop + _step(axis) if axis.periodic else axis.stop


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _axis_weights(axis: Axis) -> np.ndarray:
    """Counting measure on labels, the rectangle rule on a period, else the trapezoid rule."""
    if axis.labels or axis.points == 1:
        return np.ones(axis.points)
    part = np.full(axis.points, _step(axis))
    if not axis.periodic:
        part[[0, -1]] /= 2.0
    return part


def quadrature_weights(item: Field) -> Grid:
    """Quadrature weights of nodal values on the field's axes; they add up to its extent."""
    weights = np.ones(())
    for axis in item.axes:
        weights = np.multiply.outer(weights, _axis_weights(axis))
    return np.asarray(weights)


def _position(axis: Axis, value: Any) -> float:
    """Place of a coordinate, or of a label, in steps from the first node."""
    name = f"quantity.{axis.name}"
    if axis.labels and isinstance(value, str):
        if value not in axis.labels:
            raise UnknownOption(name, f"one of {', '.join(axis.labels)}", repr(value)[:60])
        return float(axis.labels.index(value))
    if not _is_number(value):
        raise UnknownOption(name, "a coordinate or a label" if axis.labels else "a coordinate", repr(value)[:60])
    if not axis.start <= value <= _end(axis):
        raise OutOfRange(name, f"in [{axis.start:g}, {_end(axis):g}]", f"{value:g}")
    return float(value - axis.start) / (axis.stop - axis.start) * (axis.points - 1) if axis.points > 1 else 0.0


def _point_weights(item: Field, position: Mapping[str, Any]) -> Grid:
    weights = np.ones(())
    for axis in item.axes:
        distance = np.abs(np.arange(axis.points) - _position(axis, position.get(axis.name)))
        distance = np.minimum(distance, axis.points - distance) if axis.periodic else distance
        weights = np.multiply.outer(weights, np.clip(1.0 - distance, 0.0, None))
    return np.asarray(weights)


def _inside_axis(axis: Axis, limits: Any) -> np.ndarray:
    """Nodes in [low, high]; on a periodic axis low may exceed high, and the range goes through the seam."""
    if limits is None:
        return np.ones(axis.points, dtype=bool)
    name, end = f"quantity.{axis.name}", _end(axis)
    if not (isinstance(limits, list | tuple) and len(limits) == 2 and all(_is_number(v) for v in limits)):
        raise UnknownOption(name, "two numbers [low, high]", repr(limits)[:60])
    low, high = (float(v) for v in limits)
    ordered = low <= high or axis.periodic
    if not (ordered and axis.start <= low <= end and axis.start <= high <= end):
        rule = "" if axis.periodic else "low ≤ high "
        raise OutOfRange(name, f"{rule}in [{axis.start:g}, {end:g}]", f"[{low:g}, {high:g}]")
    slack = 1e-9 * (axis.stop - axis.start)
    after, before = axis.coordinates >= low - slack, axis.coordinates <= high + slack
    return np.asarray(after & before if low <= high else after | before)


def _inside(item: Field, region: Mapping[str, Any]) -> np.ndarray:
    inside = np.ones((), dtype=bool)
    for axis in item.axes:
        inside = np.logical_and.outer(inside, _inside_axis(axis, region.get(axis.name)))
    if not inside.any():
        raise OutOfRange("quantity", "a region holding at least one grid point", "none")
    return np.asarray(inside)


def _linear_weights(item: Field, requested: Any) -> Grid:
    try:
        weights = np.asarray(requested, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WrongShape("quantity.weights", f"numbers of shape {item.shape}", repr(requested)[:60]) from error
    if weights.shape != item.shape:
        raise WrongShape("quantity.weights", f"shape {item.shape}", f"{weights.shape}")
    bad = ~np.isfinite(weights)
    if bad.any():
        raise NotFinite("quantity.weights", int(bad.sum()), str(tuple(int(i) for i in np.argwhere(bad)[0])))
    return weights


def _check_keys(item: Field, request: Mapping[str, Any]) -> None:
    """A mistyped axis must not silently mean the whole of it."""
    kind, axes = request["type"], [axis.name for axis in item.axes]
    known = ["type", "field", *{"linear": ["weights"], "norm": []}.get(kind, axes)]
    for key in request:
        if key not in known:
            raise UnknownOption(f"quantity.{key}", f"options of {kind} among {', '.join(known)}", f"'{key}'")


def make_quantity(fields: Sequence[Field], request: Mapping[str, Any]) -> Quantity:
    """The quantity a request describes; of the first field unless it names one.

    Raises UnknownOption, OutOfRange, WrongShape, NotFinite.
    """
    kind, wanted = request.get("type"), request.get("field", fields[0].name)
    names = [item.name for item in fields]
    if wanted not in names:
        raise UnknownOption("quantity.field", f"one of {', '.join(names)}", repr(wanted)[:60])
    if kind not in QUANTITIES:
        raise UnknownOption("quantity.type", f"one of {', '.join(QUANTITIES)}", repr(kind)[:60])
    item = fields[names.index(wanted)]
    _check_keys(item, request)
    if kind == "point":
        return Quantity(wanted, "point", _point_weights(item, request))
    if kind == "linear":
        return Quantity(wanted, "linear", _linear_weights(item, request.get("weights", [])))
    area = quadrature_weights(item)
    if kind == "norm":
        return Quantity(wanted, "norm", area, quadratic=True)
    inside = area * _inside(item, request)
    return Quantity(wanted, "region_mean", inside / inside.sum())


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
        raise UnknownOption("wrt", "one or more different fields", str(list(wrt))[:60])
    return tuple(offered[name] for name in wrt)


def tiles(item: Field, count: int) -> tuple[Region, ...]:
    """Regions that cover a field without overlap: up to `count` along each axis, one per label.

    Raises OutOfRange, TooLarge.
    """
    if not 1 <= count <= LARGEST_TILES:
        raise OutOfRange("regions", f"between 1 and {LARGEST_TILES}", str(count))
    if not item.axes:
        return (Region(item.name, item.name, np.ones((), dtype=bool)),)
    numbers = [axis.points if axis.labels else min(count, axis.points) for axis in item.axes]
    if int(np.prod(numbers)) > MOST_REGIONS:
        raise TooLarge("regions", f"at most {MOST_REGIONS} regions of {item.name}", str(int(np.prod(numbers))))
    owners = [np.minimum(np.arange(a.points) * n // a.points, n - 1) for a, n in zip(item.axes, numbers, strict=True)]
    regions = []
    for place in product(*(range(n) for n in numbers)):
        mask = np.ones((), dtype=bool)
        for owner, index in zip(owners, place, strict=True):
            mask = np.logical_and.outer(mask, owner == index)
        regions.append(
            Region(item.name, "tile " + ",".join(_tile_name(a, i) for a, i in zip(item.axes, place, strict=True)), mask)
        )
    return tuple(regions)


def _tile_name(axis: Axis, index: int) -> str:
    return axis.labels[index] if axis.labels else str(index)


def _batch(sample: Arrays, count: int, changed: Mapping[str, np.ndarray] | None = None) -> Arrays:
    """`count` copies of a sample, some fields replaced by (count, …) values."""
    rows = {name: np.repeat(values[None], count, axis=0) for name, values in sample.items()}
    rows |= dict(changed or {})
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in rows.items()}


def _cotangents(surrogate: Surrogate, quantity: Quantity, weights: np.ndarray) -> Arrays:
    """Member cotangents of every output: `weights` (batch, member, *grid) on the quantity's field, zero elsewhere."""
    count, members = weights.shape[:2]
    return {
        item.name: weights if item.name == quantity.field else np.zeros((count, members, *item.shape))
        for item in surrogate.manifest.outputs
    }


def gradient(surrogate: Surrogate, sample: Arrays, quantity: Quantity, wrt: Sequence[Field]) -> Attribution:
    """∂J/∂x of the ensemble mean, and the members' standard deviation of ∂J/∂x."""
    count = surrogate.manifest.members
    mean = surrogate.run(_batch(sample, 1))[quantity.field].mean
    cotangent = quantity.cotangent(mean)[0]
    one_hot = np.multiply.outer(np.eye(count), cotangent)
    _, maps = surrogate.vjp(_batch(sample, count), _cotangents(surrogate, quantity, one_hot))
    values = {item.name: np.asarray(maps[item.name].mean(axis=0, dtype=np.float64)) for item in wrt}
    spread = {item.name: np.asarray(maps[item.name].std(axis=0, ddof=1)) if count > 1 else None for item in wrt}
    return Attribution(values, spread)


def integrated_gradients(
    surrogate: Surrogate, sample: Arrays, baseline: Baseline, quantity: Quantity, nodes: int = NODES
) -> Attribution:
    """Attribution of J(x) − J(x′) by Gauss–Legendre along the straight path, all nodes and fields in one batch."""
    positions, weights = np.polynomial.legendre.leggauss(nodes)
    steps = 0.5 * (positions + 1.0)
    changes = {name: sample[name].astype(np.float64) - start for name, start in baseline.values.items()}
    path = {name: start + np.multiply.outer(steps, changes[name]) for name, start in baseline.values.items()}
    rows = _batch(sample, nodes, path)
    means = surrogate.run(rows)[quantity.field].mean
    members = surrogate.manifest.members
    cotangent = np.repeat(quantity.cotangent(means)[:, None] / members, members, axis=1)
    _, maps = surrogate.vjp(rows, _cotangents(surrogate, quantity, cotangent))
    values = {
        name: change * np.tensordot(0.5 * weights, maps[name].astype(np.float64), 1) for name, change in changes.items()
    }
    ends = {name: np.stack([start, sample[name]]) for name, start in baseline.values.items()}
    start, end = quantity.value(surrogate.run(_batch(sample, 2, ends))[quantity.field].mean)
    found = Attribution(values, dict.fromkeys(values))
    absolute = abs(found.total - float(end - start))
    small = abs(end - start) <= 1e-6 * abs(end)
    return Attribution(values, found.deviations, None if small else absolute / abs(float(end - start)), absolute)


def occlusion(
    surrogate: Surrogate, sample: Arrays, baseline: Baseline, quantity: Quantity, regions: Sequence[Region]
) -> Attribution:
    """J(x) − J(x with a region at its baseline), spread evenly over the region's points."""
    rows = _batch(sample, len(regions) + 1)
    for index, region in enumerate(regions, start=1):
        rows[region.field][index] = np.where(region.mask, baseline.values[region.field], sample[region.field])
    means = surrogate.means(rows)[quantity.field]
    results = quantity.value(means)
    values = {name: np.zeros(np.shape(start)) for name, start in baseline.values.items()}
    for region, result in zip(regions, results[1:], strict=True):
        values[region.field][region.mask] = (results[0] - result) / region.mask.sum()
    return Attribution(values, dict.fromkeys(values))


def _no_interval(surrogate: Surrogate, quantity: Quantity, transform: str) -> str | None:
    """Why a quantity can have no interval."""
    calibration, lead_times = surrogate.calibrations.get(quantity.field), surrogate.lead_times
    if quantity.quadratic:
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
    surrogate: Surrogate, prediction: Prediction, quantity: Quantity, level: float, in_domain: bool
) -> Statement:
    """Conformal interval of a linear quantity from the stored calibration residuals.

    Raises UnsupportedLevel.
    """
    truth, name = str(surrogate.manifest.document["truth"]), quantity.field
    missing = _no_interval(surrogate, quantity, prediction.transform)
    if missing is not None:
        return nothing(name, "interval", truth, missing, level)
    calibration = surrogate.calibrations[name]
    half = calibration.linear(quantity.weights, prediction.scale[0], level)
    if not in_domain:
        return nothing(name, "interval", truth, "out of domain", level)
    reason = (
        f"request exchangeable with {calibration.count} calibration inputs; the quantity was not chosen from residuals"
    )
    return Statement(name, "interval", half, "statistical", level, truth, (reason,))


def adjoint_identity(surrogate: Surrogate, sample: Arrays, generator: np.random.Generator) -> float:
    """|⟨w, J t⟩ − ⟨Jᵀw, t⟩| / (‖w‖ ‖J t‖) through the derivative graphs, over all fields but clocks.

    Where J t vanishes, as at a state of rest, the numerator alone.
    """
    inputs = _batch(sample, 1)
    tangents = {
        item.name: np.zeros_like(inputs[item.name])
        if item.role in CLOCKS
        else generator.standard_normal(inputs[item.name].shape) * 0.1 * (np.abs(inputs[item.name]).mean() or 1.0)
        for item in surrogate.manifest.inputs
    }
    _, pushed = surrogate.jvp(inputs, tangents)
    cotangents = {name: generator.standard_normal(values.shape) for name, values in pushed.items()}
    _, pulled = surrogate.vjp(inputs, cotangents)
    left = sum(float(np.vdot(cotangents[name], values.astype(np.float64))) for name, values in pushed.items())
    right = sum(float(np.vdot(pulled[name].astype(np.float64), values)) for name, values in tangents.items())
    size = np.sqrt(sum(float(np.square(w).sum()) for w in cotangents.values()))
    length = np.sqrt(sum(float(np.square(v).sum()) for v in pushed.values()))
    scale = float(size * length)
    return abs(left - right) / scale if scale > 0 else abs(left - right)


def solver_cosine(
    surrogate: Surrogate, sample: Arrays, quantity: Quantity, sensitivity: Mapping[str, Grid]
) -> float | None:
    """Cosine between the surrogate's gradient and that of the reference solver's own adjoint, where it has one."""
    physics = surrogate.physics
    if physics is None or physics.solver_gradient is None:
        return None
    inputs: Arrays = {name: values.astype(np.float64) for name, values in sample.items()}
    weights = quantity.weights
    if quantity.quadratic:
        if physics.solve is None:
            return None
        weights = weights * physics.solve(inputs)[quantity.field]
    exact = physics.solver_gradient(inputs, quantity.field, weights)
    inner = sum(float(np.vdot(exact[name], values)) for name, values in sensitivity.items())
    sizes = [np.sqrt(sum(float(np.square(part[name]).sum()) for name in sensitivity)) for part in (exact, sensitivity)]
    scale = float(sizes[0] * sizes[1])
    return inner / scale if scale > 0 else None


def baseline_of(surrogate: Surrogate, sample: Arrays, wrt: Sequence[Field], requested: Any) -> Baseline:
    """The baseline of every explained field: the request's, else the manifest's constant, else the field's own mean.

    Raises WrongShape, OutOfRange, UnknownOption.
    """
    given = requested if isinstance(requested, Mapping) else {}
    if requested is not None and not isinstance(requested, Mapping):
        if len(wrt) != 1:
            raise UnknownOption("baseline", "an object by field, as several are explained", repr(requested)[:60])
        given = {wrt[0].name: requested}
    names = [item.name for item in wrt]
    for name in given:
        if name not in names:
            raise UnknownOption(f"baseline.{name}", f"explained fields among {', '.join(names)}", f"'{name}'")
    declared = surrogate.manifest.document.get("baseline") or {}
    values, texts = {}, []
    for item in wrt:
        if item.name in given:
            place = f"baseline.{item.name}" if isinstance(requested, Mapping) else "baseline"
            values[item.name], text = _checked_baseline(item, place, given[item.name]), "given in the request"
        elif item.name in declared:
            constant = float(declared[item.name])
            values[item.name], text = np.full(item.shape, constant), f"constant {constant:g}"
        else:
            mean = float(sample[item.name].mean(dtype=np.float64))
            values[item.name], text = np.full(item.shape, mean), f"its own {'mean' if item.axes else 'value'} {mean:g}"
        texts.append(f"{item.name}: {text}")
    return Baseline(values, "; ".join(texts))


def _checked_baseline(item: Field, place: str, requested: Any) -> np.ndarray:
    try:
        array = np.asarray(requested, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnknownOption(place, "a number or a field", repr(requested)[:60]) from error
    if array.ndim and array.shape != item.shape:
        raise WrongShape(place, f"a number or shape {item.shape}", f"{array.shape}")
    low, high = item.minimum, item.maximum
    outside = (low is not None and array.min() < low) or (high is not None and array.max() > high)
    if outside or not np.all(np.isfinite(array)):
        raise OutOfRange(place, item.range_text, f"values from {array.min():g} to {array.max():g}")
    return np.broadcast_to(array, item.shape)


def attribute(
    surrogate: Surrogate, method: Method, sample: Arrays, baseline: Baseline, quantity: Quantity,
    wrt: Sequence[Field], regions: Sequence[Region],
) -> Attribution:  # fmt: skip
    """Run one method.

    Raises NotOffered when it needs a derivative graph the bundle lacks.
    """
    if method != "occlusion" and "vjp" not in surrogate.graphs:
        raise NotOffered(f"{method} for {surrogate.manifest.name}", "occlusion, which needs no derivative graph")
    if method == "gradient":
        return gradient(surrogate, sample, quantity, wrt)
    if method == "integrated_gradients":
        return integrated_gradients(surrogate, sample, baseline, quantity)
    return occlusion(surrogate, sample, baseline, quantity, regions)


def region_table(attribution: Attribution, regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Sum of the attribution over each region, and its share of the total."""
    total = attribution.total
    sums = [float(attribution.values[region.field][region.mask].sum()) for region in regions]
    return [
        {"field": region.field, "id": region.name, "value": value, "share": value / total if total else None}
        for region, value in zip(regions, sums, strict=True)
    ]


def explain(surrogate: Surrogate, inputs: Mapping[str, np.ndarray], request: Mapping[str, Any]) -> dict[str, Any]:
    """Explain one sample; `request` has quantity, wrt, method, baseline, regions (tiles per axis) and level.

    Raises InvalidInput in one of its forms, NotOffered.
    """
    checked = surrogate.validate(inputs)
    first, batch = next(iter(checked.items()))
    if len(batch) != 1:
        raise WrongShape(first, "one sample", f"a batch of {len(batch)}")
    sample = {name: array[0] for name, array in checked.items()}
    quantity = make_quantity(surrogate.manifest.outputs, request["quantity"])
    method: Method = request.get("method", "integrated_gradients")
    wrt = explained_fields(surrogate, request.get("wrt"))
    regions = [region for item in wrt for region in tiles(item, int(request.get("regions", 4)))]
    baseline = baseline_of(surrogate, sample, wrt, request.get("baseline"))
    prediction = surrogate.run(checked)
    verdict = _verdict(surrogate, sample, prediction)
    statement = interval(
        surrogate, prediction[quantity.field], quantity, float(request.get("level", 0.9)), verdict.in_domain
    )
    attribution = attribute(surrogate, method, sample, baseline, quantity, wrt, regions)
    start = {name: values[None] for name, values in baseline.values.items()}
    reference = surrogate.run(_batch(sample, 1, start))[quantity.field].mean
    value = float(quantity.value(prediction[quantity.field].mean)[0])
    return {
        "quantity": {
            "type": quantity.kind,
            "field": quantity.field,
            "value": value,
            "baseline_value": float(quantity.value(reference)[0]),
            "interval": None if statement.value is None else [value - statement.value, value + statement.value],
            "statement": statement.document(),
        },
        "method": method,
        "baseline": baseline.text,
        "attribution": {item.name: _map(item, method, attribution) for item in wrt},
        "regions": region_table(attribution, regions),
        "completeness": _completeness(attribution) if method == "integrated_gradients" else None,
        "checks": _checks(surrogate, sample, quantity, wrt),
        "validity": verdict.document(),
        "warnings": list(_warnings(surrogate, method, sample, baseline, verdict.in_domain)),
    }


def _verdict(surrogate: Surrogate, sample: Arrays, prediction: Mapping[str, Prediction]) -> Validity:
    """Bounds are asked for only where they are a validity detector."""
    uses_task = surrogate.domain is not None and surrogate.domain.uses_task
    means = {name: p.mean[0] for name, p in prediction.items()}
    return surrogate.assess(sample, surrogate.certain(sample, means, Question(bounds=uses_task)))


_CONVENTIONS = {
    "gradient": "density g = (∂J/∂x_K)/|K|: dJ = ∫ g δx; region values are sums of ∂J/∂x_K",
    "integrated_gradients": "contribution of each grid point to J(x) − J(baseline); region values add up",
    "occlusion": "change of J when a region is set to the baseline, spread evenly over its points; not additive",
}


def _map(item: Field, method: Method, attribution: Attribution) -> dict[str, Any]:
    """The map of one field, as a density where it is a gradient."""
    area = quadrature_weights(item) if method == "gradient" else 1.0
    deviation = attribution.deviations[item.name]
    return {
        "dims": [axis.name for axis in item.axes],
        "convention": _CONVENTIONS[method],
        "values": attribution.values[item.name] / area,
        "deviation": None if deviation is None else deviation / area,
    }


def _completeness(attribution: Attribution) -> dict[str, Any]:
    return {
        "relative": attribution.gap,
        "absolute": attribution.absolute_gap,
        "rule": "Gauss–Legendre",
        "nodes": NODES,
    }


def _checks(surrogate: Surrogate, sample: Arrays, quantity: Quantity, wrt: Sequence[Field]) -> dict[str, Any]:
    if "vjp" not in surrogate.graphs or "jvp" not in surrogate.graphs:
        return {}
    cosine = None
    if surrogate.physics is not None and surrogate.physics.solver_gradient is not None:
        sensitivity = gradient(surrogate, sample, quantity, wrt).values
        cosine = solver_cosine(surrogate, sample, quantity, sensitivity)
    identity = adjoint_identity(surrogate, sample, np.random.default_rng(0))
    return {"adjoint_identity": identity, "solver_adjoint_cosine": cosine}


def _warnings(
    surrogate: Surrogate, method: Method, sample: Arrays, baseline: Baseline, in_domain: bool
) -> tuple[str, ...]:
    """What weakens the explanation: only fields that are explained leave their values."""
    warnings = []
    checks = surrogate.manifest.document.get("domain_checks") or {}
    few_valued = [name for name in baseline.values if "values" in checks.get(name, {})]
    unmoved = [name for name, start in baseline.values.items() if np.array_equal(start, sample[name])]
    if method == "integrated_gradients" and few_valued:
        warnings.append(
            f"the path from the baseline leaves the few-valued {', '.join(few_valued)} of training; compare with occlusion"
        )
    if method != "gradient" and unmoved:
        warnings.append(
            f"nothing is attributed to {', '.join(unmoved)}: the baseline is the input's own value; give another in baseline"
        )
    if not in_domain:
        warnings.append(
            "the input is out of domain: the explanation is the surrogate's, and nobody calibrated it there"
        )
    return tuple(warnings)
