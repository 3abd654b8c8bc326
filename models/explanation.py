"""Explanations of a quantity of interest: value with interval, attribution per input, regions, checks.

    gradient              ∂J/∂x, one VJP of the bundle; reported as density g_K = (∂J/∂x_K)/|K|, dJ = ∫ g δx
    integrated gradients  IG_i = (x−x′)_i ∫₀¹ ∂_iJ(x′ + t(x−x′)) dt by Gauss–Legendre (Sundararajan et al. 1703.01365)
    occlusion             J(x) − J(x with one region set to the baseline)

Quantities: point, region_mean, linear, norm (½∫u²). Attributions of integrated gradients add up to J(x) − J(x′); the
completeness gap says how closely.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from models.errors import NotOffered, OutOfRange, UnknownOption, WrongShape
from models.fields import Field
from models.physical_model import Arrays
from models.statements import Statement, nothing
from models.surrogate import Prediction, Surrogate

Method = Literal["gradient", "integrated_gradients", "occlusion"]
QUANTITIES = ("point", "region_mean", "norm", "linear")
NODES = 8
LARGEST_TILES = 16

Grid = Float[np.ndarray, "x y"]


@dataclass(frozen=True)
class Quantity:
    """J(u) = Σ w u, or ½ Σ w u² when `quadratic`; `weights` live on the output grid."""

    kind: str
    weights: Grid
    quadratic: bool = False

    def value(self, values: Float[np.ndarray, "batch x y"]) -> Float[np.ndarray, " batch"]:
        """J of each field, summed in float64."""
        fields = np.asarray(values, dtype=np.float64)
        integrand = 0.5 * fields**2 if self.quadratic else fields
        return np.asarray((self.weights * integrand).sum(axis=(1, 2)))

    def cotangent(self, values: Float[np.ndarray, "batch x y"]) -> Float[np.ndarray, "batch x y"]:
        """∂J/∂u."""
        return np.asarray(self.weights * values if self.quadratic else np.broadcast_to(self.weights, values.shape))


@dataclass(frozen=True)
class Region:
    """A named part of the input grid."""

    name: str
    mask: np.ndarray


@dataclass(frozen=True)
class Attribution:
    """Result of one method for one sample: the map, members' maps' standard deviation, and completeness."""

    values: Grid
    deviation: Grid | None
    gap: float | None
    absolute_gap: float | None


def trapezoid_weights(item: Field) -> Grid:
    """Quadrature weights of nodal values on the field's axes; they add up to the area."""
    parts = []
    for axis in item.axes:
        part = np.full(axis.points, (axis.stop - axis.start) / (axis.points - 1))
        part[[0, -1]] /= 2.0
        parts.append(part)
    return np.asarray(parts[0][:, None] * parts[1][None, :])


def _bounds(axis_name: str, limits: Any, start: float, stop: float) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in limits)
    except (TypeError, ValueError) as error:
        raise UnknownOption(f"quantity.{axis_name}", "two numbers [low, high]", repr(limits)[:60]) from error
    if not (start <= low < high <= stop):
        raise OutOfRange(f"quantity.{axis_name}", f"low < high in [{start:g}, {stop:g}]", f"[{low:g}, {high:g}]")
    return low, high


def _inside(item: Field, region: Mapping[str, Any]) -> np.ndarray:
    masks = []
    for axis in item.axes:
        low, high = _bounds(axis.name, region.get(axis.name, [axis.start, axis.stop]), axis.start, axis.stop)
        masks.append((axis.coordinates >= low - 1e-12) & (axis.coordinates <= high + 1e-12))
    inside = np.asarray(masks[0][:, None] & masks[1][None, :])
    if not inside.any():
        raise OutOfRange("quantity", "a region holding at least one grid point", "none")
    return inside


def _point_weights(item: Field, position: Mapping[str, Any]) -> Grid:
    weights = np.ones((1, 1))
    for axis in item.axes:
        value = position.get(axis.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UnknownOption(f"quantity.{axis.name}", "a coordinate", repr(value)[:60])
        if not axis.start <= value <= axis.stop:
            raise OutOfRange(f"quantity.{axis.name}", f"in [{axis.start:g}, {axis.stop:g}]", f"{value:g}")
        spot = (value - axis.start) / (axis.stop - axis.start) * (axis.points - 1)
        hat = np.clip(1.0 - np.abs(np.arange(axis.points) - spot), 0.0, None)
        weights = weights * hat[:, None] if axis is item.axes[0] else weights * hat[None, :]
    return weights


def make_quantity(item: Field, request: Mapping[str, Any]) -> Quantity:
    """The quantity a request describes.

    Raises UnknownOption, OutOfRange, WrongShape.
    """
    kind = request.get("type")
    area = trapezoid_weights(item)
    if request.get("field", item.name) != item.name:
        raise UnknownOption("quantity.field", item.name, repr(request["field"])[:60])
    if kind == "point":
        return Quantity("point", _point_weights(item, request))
    if kind == "region_mean":
        inside = area * _inside(item, request)
        return Quantity("region_mean", inside / inside.sum())
    if kind == "norm":
        return Quantity("norm", area, quadratic=True)
    if kind == "linear":
        weights = np.asarray(request.get("weights", []), dtype=np.float64)
        if weights.shape != item.shape:
            raise WrongShape("quantity.weights", f"shape {item.shape}", f"{weights.shape}")
        return Quantity("linear", weights)
    raise UnknownOption("quantity.type", f"one of {', '.join(QUANTITIES)}", repr(kind)[:60])


def tiles(item: Field, count: int) -> tuple[Region, ...]:
    """`count`² rectangular regions that cover the grid without overlap."""
    if not 1 <= count <= LARGEST_TILES:
        raise OutOfRange("regions", f"between 1 and {LARGEST_TILES}", str(count))
    labels = [np.minimum(np.arange(a.points) * count // a.points, count - 1) for a in item.axes]
    owner = labels[0][:, None] * count + labels[1][None, :]
    return tuple(Region(f"tile {i // count},{i % count}", owner == i) for i in range(count * count))


def gradient(surrogate: Surrogate, values: Grid, quantity: Quantity) -> Attribution:
    """∂J/∂x of the ensemble mean, and the members' standard deviation of ∂J/∂x."""
    count = surrogate.manifest.members
    mean = surrogate.run({surrogate.input.name: values[None]}).mean
    cotangent = quantity.cotangent(mean)[0]
    one_hot = np.eye(count)[:, :, None, None] * cotangent
    _, maps = surrogate.vjp({surrogate.input.name: np.repeat(values[None], count, axis=0)}, one_hot)
    deviation = maps.std(axis=0, ddof=1) if count > 1 else None
    return Attribution(maps.mean(axis=0, dtype=np.float64), deviation, None, None)


def integrated_gradients(
    surrogate: Surrogate, values: Grid, baseline: Grid, quantity: Quantity, nodes: int = NODES
) -> Attribution:
    """Attribution of J(x) − J(x′) by Gauss–Legendre along the straight path, all nodes in one batch."""
    positions, weights = np.polynomial.legendre.leggauss(nodes)
    steps = (0.5 * (positions + 1.0))[:, None, None]
    change = values.astype(np.float64) - baseline
    path = (baseline + steps * change).astype(np.float32)
    name = surrogate.input.name
    ends = surrogate.run({name: np.stack([values, baseline]).astype(np.float32)}).mean
    means = surrogate.run({name: path}).mean if quantity.quadratic else np.zeros_like(path)
    cotangent = quantity.cotangent(means)[:, None] / surrogate.manifest.members
    spread = np.repeat(cotangent, surrogate.manifest.members, axis=1)
    _, maps = surrogate.vjp({name: path}, spread)
    attribution = change * np.einsum("k,kxy->xy", 0.5 * weights, maps.astype(np.float64))
    start, end = quantity.value(ends)[::-1]
    absolute = abs(float(attribution.sum()) - float(end - start))
    small = abs(end - start) < 1e-6 * abs(end)
    return Attribution(attribution, None, None if small else absolute / abs(float(end - start)), absolute)


def occlusion(
    surrogate: Surrogate, values: Grid, baseline: Grid, quantity: Quantity, regions: tuple[Region, ...]
) -> Attribution:
    """J(x) − J(x with a region at its baseline), spread evenly over the region's points."""
    covered = np.stack([np.where(region.mask, baseline, values) for region in regions])
    batch = np.concatenate([values[None], covered]).astype(np.float32)
    results = quantity.value(surrogate.run({surrogate.input.name: batch}).mean)
    attribution = np.zeros(values.shape)
    for region, result in zip(regions, results[1:], strict=True):
        attribution[region.mask] = (results[0] - result) / region.mask.sum()
    return Attribution(attribution, None, None, None)


def interval(
    surrogate: Surrogate, prediction: Prediction, quantity: Quantity, level: float, in_domain: bool
) -> Statement:
    """Conformal interval of a linear quantity from the stored calibration residuals.

    Raises UnsupportedLevel.
    """
    truth = str(surrogate.manifest.document["truth"])
    name = surrogate.output.name
    if quantity.quadratic:
        return nothing(name, "interval", truth, "intervals exist for linear quantities only", level)
    if surrogate.calibration is None:
        return nothing(name, "interval", truth, "the bundle has no calibration set", level)
    half = surrogate.calibration.linear(quantity.weights, prediction.scale[0], level)
    if not in_domain:
        return nothing(name, "interval", truth, "out of domain", level)
    count = surrogate.calibration.count
    reason = f"request exchangeable with {count} calibration inputs; the quantity was not chosen from residuals"
    return Statement(name, "interval", half, "statistical", level, truth, (reason,))


def adjoint_identity(surrogate: Surrogate, values: Grid, generator: np.random.Generator) -> float:
    """|⟨w, J t⟩ − ⟨Jᵀw, t⟩| / (‖w‖ ‖J t‖) through the derivative graphs."""
    inputs = {surrogate.input.name: values[None].astype(np.float32)}
    tangent = generator.standard_normal((1, *values.shape)).astype(np.float32) * float(values.mean()) * 0.1
    _, pushed = surrogate.jvp(inputs, tangent)
    cotangent = generator.standard_normal(pushed.shape).astype(np.float32)
    _, pulled = surrogate.vjp(inputs, cotangent)
    left = float(np.vdot(cotangent.astype(np.float64), pushed.astype(np.float64)))
    right = float(np.vdot(pulled.astype(np.float64), tangent.astype(np.float64)))
    return abs(left - right) / float(np.linalg.norm(cotangent) * np.linalg.norm(pushed))


def solver_cosine(surrogate: Surrogate, values: Grid, quantity: Quantity, sensitivity: Grid) -> float | None:
    """Cosine between the surrogate's gradient and that of the reference solver's own adjoint."""
    if surrogate.physics is None:
        return None
    inputs: Arrays = {surrogate.input.name: values.astype(np.float64)}
    weights = quantity.weights
    if quantity.quadratic:
        weights = weights * surrogate.physics.solve(inputs)[surrogate.output.name]
    exact = surrogate.physics.solver_gradient(inputs, surrogate.output.name, weights)[surrogate.input.name]
    scale = float(np.linalg.norm(exact) * np.linalg.norm(sensitivity))
    return float(np.vdot(exact, sensitivity)) / scale if scale > 0 else None


def baseline_values(surrogate: Surrogate, requested: Any) -> tuple[Grid, str]:
    """The baseline field: the manifest's own, a constant, or a whole field; with its description.

    Raises WrongShape, OutOfRange, UnknownOption.
    """
    item = surrogate.input
    if requested is None:
        value = float(surrogate.manifest.document["baseline"])
        return np.full(item.shape, value), f"constant {value:g}, geometric mean of the training inputs"
    try:
        array = np.asarray(requested, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnknownOption("baseline", "a number or a field", repr(requested)[:60]) from error
    if array.ndim and array.shape != item.shape:
        raise WrongShape("baseline", f"a number or shape {item.shape}", f"{array.shape}")
    low, high = item.minimum, item.maximum
    outside = (low is not None and array.min() < low) or (high is not None and array.max() > high)
    if outside or not np.all(np.isfinite(array)):
        raise OutOfRange("baseline", item.range_text, f"values from {array.min():g} to {array.max():g}")
    return np.broadcast_to(array, item.shape), "given in the request"


def attribute(
    surrogate: Surrogate, method: Method, values: Grid, baseline: Grid, quantity: Quantity, regions: tuple[Region, ...]
) -> Attribution:
    """Run one method.

    Raises NotOffered when it needs a derivative graph the bundle lacks.
    """
    if method != "occlusion" and "vjp" not in surrogate.graphs:
        raise NotOffered(f"{method} for {surrogate.manifest.name}", "occlusion, which needs no derivative graph")
    if method == "gradient":
        return gradient(surrogate, values, quantity)
    if method == "integrated_gradients":
        return integrated_gradients(surrogate, values, baseline, quantity)
    return occlusion(surrogate, values, baseline, quantity, regions)


def region_table(attribution: Attribution, regions: tuple[Region, ...]) -> list[dict[str, Any]]:
    """Sum of the attribution over each region, and its share of the total."""
    total = float(attribution.values.sum())
    sums = [float(attribution.values[region.mask].sum()) for region in regions]
    return [
        {"id": region.name, "value": value, "share": value / total if total else None}
        for region, value in zip(regions, sums, strict=True)
    ]


def explain(surrogate: Surrogate, inputs: Mapping[str, np.ndarray], request: Mapping[str, Any]) -> dict[str, Any]:
    """Explain one sample; `request` has quantity, method, baseline, regions (tiles per side) and level.

    Raises InvalidInput in one of its forms, NotOffered.
    """
    checked = surrogate.validate(inputs)
    values = checked[surrogate.input.name]
    if len(values) != 1:
        raise WrongShape(surrogate.input.name, "one sample", f"a batch of {len(values)}")
    quantity = make_quantity(surrogate.output, request["quantity"])
    method: Method = request.get("method", "integrated_gradients")
    level = float(request.get("level", 0.9))
    regions = tiles(surrogate.input, int(request.get("regions", 4)))
    baseline, baseline_text = baseline_values(surrogate, request.get("baseline"))
    prediction = surrogate.run(checked)
    sample = {name: array[0] for name, array in checked.items()}
    validity = surrogate.assess(sample, surrogate.guaranteed(sample, prediction.mean[0]))
    statement = interval(surrogate, prediction, quantity, level, validity.in_domain)
    attribution = attribute(surrogate, method, values[0], baseline, quantity, regions)
    reference = surrogate.run({surrogate.input.name: baseline[None].astype(np.float32)}).mean
    area = trapezoid_weights(surrogate.input)
    density = method == "gradient"
    value = float(quantity.value(prediction.mean)[0])
    return {
        "quantity": {
            "type": quantity.kind,
            "value": value,
            "baseline_value": float(quantity.value(reference)[0]),
            "interval": None if statement.value is None else [value - statement.value, value + statement.value],
            "statement": statement.document(),
        },
        "method": method,
        "baseline": baseline_text,
        "attribution": attribution.values / area if density else attribution.values,
        "deviation": attribution.deviation / area if attribution.deviation is not None else None,
        "convention": _CONVENTIONS[method],
        "regions": region_table(attribution, regions),
        "completeness": _completeness(attribution) if method == "integrated_gradients" else None,
        "checks": _checks(surrogate, values[0], quantity),
        "validity": validity.document(),
        "warnings": list(_warnings(surrogate, method, validity.in_domain)),
    }


_CONVENTIONS = {
    "gradient": "density g = (∂J/∂x_K)/|K|: dJ = ∫ g δx; region values are sums of ∂J/∂x_K",
    "integrated_gradients": "contribution of each grid point to J(x) − J(baseline); region values add up",
    "occlusion": "change of J when a region is set to the baseline, spread evenly over its points; not additive",
}


def _completeness(attribution: Attribution) -> dict[str, Any]:
    return {
        "relative": attribution.gap,
        "absolute": attribution.absolute_gap,
        "rule": "Gauss–Legendre",
        "nodes": NODES,
    }


def _checks(surrogate: Surrogate, values: Grid, quantity: Quantity) -> dict[str, Any]:
    if "vjp" not in surrogate.graphs or "jvp" not in surrogate.graphs:
        return {}
    sensitivity = gradient(surrogate, values, quantity).values
    return {
        "adjoint_identity": adjoint_identity(surrogate, values, np.random.default_rng(0)),
        "solver_adjoint_cosine": solver_cosine(surrogate, values, quantity, sensitivity),
    }


def _warnings(surrogate: Surrogate, method: Method, in_domain: bool) -> tuple[str, ...]:
    warnings = []
    checks = surrogate.manifest.document.get("domain_checks") or {}
    if method == "integrated_gradients" and "values" in checks:
        warnings.append("the path from the baseline leaves the few-valued media of training; compare with occlusion")
    if not in_domain:
        warnings.append(
            "the input is out of domain: the explanation is the surrogate's, and nobody calibrated it there"
        )
    return tuple(warnings)
