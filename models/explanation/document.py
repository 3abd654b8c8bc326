"""An explanation as plain data; arrays stay arrays."""

from typing import Any

import numpy as np

from models.explanation.answer import Explanation
from models.explanation.checks import lengths_text, smoothed
from models.explanation.forms import SoftMaximum
from models.explanation.grid import Grid, quadrature_weights
from models.explanation.plan import Plan
from models.explanation.registration import Registration
from models.fields import Field

CONVENTIONS = {
    "gradient": "density g = (∂J/∂x_K)/|K|: dJ = ∫ g δx; region values are sums of ∂J/∂x_K",
    "integrated_gradients": "contribution of each grid point to J(x) − J(baseline); region values add up",
    "occlusion": "change of J when a region is set to the baseline, spread evenly over its points; not additive",
    "shapley": "Shapley value of each region, spread evenly over its points; region values add up to J(x) − J(baseline)",
    "what_if": "contribution ∂J/∂x_K δ_K of each grid point to the first-order response; region values add up",
}


def shown_map(plan: Plan, item: Field, values: np.ndarray) -> Grid:
    """A map as it is returned: a density where it is a gradient."""
    return np.asarray(values / quadrature_weights(item.axes)) if plan.request.method == "gradient" else values


def _smoothed_map(plan: Plan, item: Field, values: np.ndarray) -> Grid | None:
    """(I − ℓ²Δ)⁻¹ of the density, in the unit of the map; None unless asked for."""
    if plan.request.smoothing is None:
        return None
    area = quadrature_weights(item.axes)
    smooth = smoothed(item, values / area, plan.request.smoothing)
    return smooth if plan.request.method == "gradient" else np.asarray(smooth * area)


def document(found: Explanation) -> dict[str, Any]:
    """Everything, in the order in which it is read."""
    plan = found.plan
    return {
        "quantity": _quantity(found),
        "method": plan.request.method,
        "baseline": None if found.baseline_value is None else plan.baseline.text,
        "attribution": {item.name: _map(found, item) for item in plan.fields},
        "regions": region_table(found),
        "completeness": _completeness(found),
        "response": _response(found),
        "checks": {**found.checks, "registered": Registration.of(plan.surrogate.manifest).document()},
        "validity": found.validity.document(),
        "warnings": list(found.warnings),
    }


def _quantity(found: Explanation) -> dict[str, Any]:
    quantity, ends = found.quantity, found.interval.ends
    document: dict[str, Any] = {
        "type": quantity.kind,
        "field": quantity.field.name,
        "lead_time": quantity.lead_time,
        "value": found.value,
        "baseline_value": found.baseline_value,
        "interval": None if ends is None else list(ends),
        "statement": found.interval.statement.document(),
        "corrected": None if found.corrected is None else found.corrected.document(),
    }
    if quantity.has_smooth_form:
        form = quantity.form(exact=False)
        document |= {"exact_value": found.exact_value, "sharpness": quantity.sharpness}
        document["gap_bound"] = form.gap_bound if isinstance(form, SoftMaximum) else None
    return document


def _map(found: Explanation, item: Field) -> dict[str, Any]:
    plan, attribution = found.plan, found.attribution
    members = None if attribution.member_maps is None else attribution.member_maps.get(item.name)
    deviation = None if members is None else shown_map(plan, item, members.std(axis=0, ddof=1))
    smooth = _smoothed_map(plan, item, attribution.maps[item.name])
    return {
        "dims": [axis.name for axis in item.axes],
        "convention": CONVENTIONS[plan.request.method],
        "values": shown_map(plan, item, attribution.maps[item.name]),
        "deviation": deviation,
        "smoothed": smooth,
        "smoothing": None
        if smooth is None or plan.request.smoothing is None
        else {"operator": "(I − ℓ²Δ)⁻¹", "lengths": lengths_text(item.axes, plan.request.smoothing)},
    }


def region_table(found: Explanation) -> list[dict[str, Any]]:
    """Value of every region, its share of the total, and its standard deviation over members and over baselines."""
    attribution = found.attribution
    totals = _totals(found)
    members, spread = attribution.member_regions, attribution.spread
    deviations = None if members is None else members.std(axis=0, ddof=1)
    return [
        {
            "field": region.field,
            "id": region.name,
            "value": float(attribution.regions[k]),
            "share": float(attribution.regions[k]) / totals[region.field] if totals[region.field] else None,
            "standard_deviation": None if deviations is None else float(deviations[k]),
            "baseline_deviation": None if spread is None else float(spread[k]),
        }
        for k, region in enumerate(found.plan.regions)
    ]


def _totals(found: Explanation) -> dict[str, float]:
    """What a region's value is a share of, by field: partial derivatives of different inputs have different units."""
    attribution, method = found.attribution, found.plan.request.method
    if method == "gradient":
        return {name: float(values.sum()) for name, values in attribution.maps.items()}
    total = float(attribution.regions.sum()) if method == "shapley" else attribution.total
    return dict.fromkeys(attribution.maps, total)


def _completeness(found: Explanation) -> dict[str, Any] | None:
    complete = found.attribution.completeness
    if complete is None:
        return None
    rule = "exact over all coalitions" if complete.nodes is None else "Gauss–Legendre"
    return {
        "relative": complete.relative, "absolute": complete.absolute, "rule": rule, "nodes": complete.nodes,
        "holds": complete.holds,
    }  # fmt: skip


def _response(found: Explanation) -> dict[str, Any] | None:
    response = found.response
    if response is None:
        return None
    return {
        "linear": response.linear, "true": response.true, "relative_gap": response.relative_gap,
        "standard_deviation": response.deviation,
    }  # fmt: skip
