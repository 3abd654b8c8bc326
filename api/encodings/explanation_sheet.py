"""An explanation as a picture: the quantity, what was put in, what it is attributed to, and the values of regions.

Attributions are coloured symmetrically about zero up to their 99th percentile, so that one point does not bleach the rest;
regions are outlined with their share. Fields on a line are lines, histories of stations stacked bars.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import shorten, wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from api.encodings import panels, png
from models.explanation import Explanation, document
from models.explanation.checks import unit_change
from models.explanation.document import region_table, shown_map
from models.explanation.regions import Region
from models.fields import LEAD_TIME, Axis, Field

ROBUST = 99.0
MOST_LABELS = 25  # regions of a map that carry their share
MOST_BARS = 16
CAPTION = 60  # characters of the caption below every panel of a row
WORDS = {
    "gradient": "gradient density",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "shapley": "Shapley values",
    "what_if": "first-order response",
}
UP, DOWN, LOOKED_AT = "#b2343c", "#23527c", "#e8b04b"

Draw = Callable[[Axes], None]


def encode(found: Explanation) -> bytes:
    """The picture of one explanation."""
    draws = [*_quantity(found)]
    for item in found.plan.fields:
        draws += _field(found, item)
    draws.append(partial(_bars, found=found))
    return png.still(draws, _caption(found, CAPTION * min(len(draws), png.COLUMNS)))


def _space(item: Field) -> tuple[Axis, ...]:
    return tuple(axis for axis in item.axes if axis.name != LEAD_TIME)


def _robust(values: np.ndarray) -> panels.Limits:
    size = np.abs(values[np.isfinite(values)])
    most = float(np.percentile(size, ROBUST)) or float(size.max()) or 1.0
    return -most, most


def _quantity(found: Explanation) -> list[Draw]:
    """The answer with the region that the quantity looks at."""
    item, axes = found.quantity.field, _space(found.quantity.field)
    looked_at = found.quantity.support
    title = f"{item.name.replace('_', ' ')} (answer){panels.unit_text(item.units)}"
    if len(axes) == 2 and not any(axis.labels for axis in axes):
        return [
            partial(_image, item=item, axes_of=axes, values=found.answer, title=title, plain="magma", mask=looked_at)
        ]
    if len(axes) == 1:
        return [partial(_answer_line, axis=axes[0], values=found.answer, mask=looked_at, title=title)]
    return []


def _field(found: Explanation, item: Field) -> list[Draw]:
    """Input and attribution of one field; scalars are among the bars."""
    sample = found.plan.sample[item.name]
    values = shown_map(found.plan, item, found.attribution.maps[item.name])
    name = item.name.replace("_", " ")
    before = f"{name} (input){panels.unit_text(item.units)}"
    after = f"{name}: {WORDS[found.plan.request.method]}{panels.unit_text(_unit(found, item))}"
    own = [(k, r) for k, r in enumerate(found.plan.regions) if r.field == item.name]
    if len(item.axes) == 2 and any(axis.labels for axis in item.axes):
        return [partial(_stacked, item=item, values=values, title=after)]
    if len(item.axes) == 2:
        table = region_table(found)
        regions = [(region, _share(table[k])) for k, region in own]
        return [
            partial(_image, item=item, axes_of=item.axes, values=sample, title=before, plain="viridis", mask=None),
            partial(_signed, item=item, values=values, regions=regions, title=after),
        ]
    if len(item.axes) == 1:
        return [
            partial(_line, axis=item.axes[0], values=sample, title=before),
            partial(_signed_line, axis=item.axes[0], values=values, regions=[r for _, r in own], title=after),
        ]
    return []


def _unit_of_quantity(found: Explanation) -> str:
    """The unit of J, where it is the field's own; “1” otherwise."""
    plain = found.quantity.kind in ("point", "region_mean", "max")
    return found.quantity.field.units if plain else "1"


def _unit(found: Explanation, item: Field) -> str:
    """The unit of a map: that of J, for a density per unit of the input and of its axes."""
    if found.plan.request.method != "gradient":
        return _unit_of_quantity(found)
    below = [unit for unit in (item.units, *(a.units for a in item.axes if not a.labels)) if unit != "1"]
    return _unit_of_quantity(found) + (f" / ({' · '.join(below)})" if below else "")


def _share(row: Mapping[str, Any]) -> str:
    """A region's share, or its value where shares say nothing."""
    share = row["share"]
    return f"{100 * share:z.0f} %" if share is not None and abs(share) < 100 else f"{row['value']:.1e}"


def _image(
    axes: Axes,
    item: Field,
    axes_of: Sequence[Axis],
    values: np.ndarray,
    title: str,
    plain: str,
    mask: np.ndarray | None,
) -> None:
    shown = panels.upright(tuple(axes_of), values)
    panels.draw_image(axes, shown, *panels.colours_of(item, values, plain))
    if mask is not None and not mask.all():
        _outline(axes, panels.upright(tuple(axes_of), mask.astype(float)), "white", 1.6)
    axes.set_title(title, fontsize=10)


def _outline(axes: Axes, mask: panels.Map, colour: str, width: float) -> None:
    """The edges between cells inside and outside of a mask; a single node is a dot."""
    inside = mask.values > 0
    if inside.sum() <= 4:
        up, across = np.nonzero(inside)
        axes.plot(
            mask.across.coordinates[across].mean(), mask.up.coordinates[up].mean(), "o", mfc="none", mec=colour, ms=9
        )
        return
    left, right, bottom, top = mask.extent
    x, y = np.linspace(left, right, inside.shape[1] + 1), np.linspace(bottom, top, inside.shape[0] + 1)
    padded = np.pad(inside, 1)
    rows, ends = np.nonzero(np.diff(padded[1:-1], axis=1))
    levels, columns = np.nonzero(np.diff(padded[:, 1:-1], axis=0))
    axes.vlines(x[ends], y[rows], y[rows + 1], colors=colour, linewidths=width)
    axes.hlines(y[levels], x[columns], x[columns + 1], colors=colour, linewidths=width)


def _signed(axes: Axes, item: Field, values: np.ndarray, regions: Sequence[tuple[Region, str]], title: str) -> None:
    shown = panels.upright(item.axes, values)
    panels.draw_image(axes, shown, "RdBu_r", _robust(values))
    axes.set_title(title, fontsize=10)
    for region, text in regions:
        mask = panels.upright(item.axes, region.mask.astype(float))
        if not region.mask.all() and region.name != "rest":
            _outline(axes, mask, "#4a4a4a", 0.5)
        if len(regions) <= MOST_LABELS and region.name != "rest":
            up, across = np.nonzero(mask.values)
            place = mask.across.coordinates[across].mean(), mask.up.coordinates[up].mean()
            axes.text(
                *place,
                text,
                ha="center",
                va="center",
                fontsize=7,
                bbox={"fc": "white", "ec": "none", "alpha": 0.6, "pad": 1},
            )


def _answer_line(axes: Axes, axis: Axis, values: np.ndarray, mask: np.ndarray, title: str) -> None:
    panels.draw_line(axes, axis, values, None)
    axes.set_title(title, fontsize=10)
    if mask.all():
        return
    if axis.labels:
        axes.plot(np.flatnonzero(mask), values[mask], "o", mfc="none", mec=LOOKED_AT, mew=2, ms=13)
        return
    low, high = float(values.min()), float(values.max())
    axes.fill_between(axis.coordinates, low, high, where=mask.tolist(), color=LOOKED_AT, alpha=0.25, step="mid")
    if mask.sum() <= 2:
        axes.axvline(float(axis.coordinates[mask].mean()), color=LOOKED_AT)


def _line(axes: Axes, axis: Axis, values: np.ndarray, title: str) -> None:
    panels.draw_line(axes, axis, values, None)
    axes.set_title(title, fontsize=10)


def _signed_line(axes: Axes, axis: Axis, values: np.ndarray, regions: Sequence[Region], title: str) -> None:
    places = axis.coordinates
    if axis.points <= MOST_BARS:
        width = 0.8 * (places[1] - places[0]) if axis.points > 1 else 1.0
        axes.bar(places, values, width=width, color=np.where(values < 0, DOWN, UP).tolist())
        axes.set_xlabel(panels.axis_text(axis))
    else:
        axes.fill_between(places, 0, np.maximum(values, 0), color=UP, alpha=0.6, linewidth=0)
        axes.fill_between(places, 0, np.minimum(values, 0), color=DOWN, alpha=0.6, linewidth=0)
        axes.margins(x=0)
        axes.set_xlabel(panels.axis_text(axis))
        for region in regions:
            if 1 < region.mask.sum() < axis.points:
                axes.axvline(float(places[np.argmax(region.mask)]), color="#8b97a5", linewidth=0.6, linestyle=":")
    axes.axhline(0, color="#51606f", linewidth=0.8)
    axes.set_title(title, fontsize=10)


def _stacked(axes: Axes, item: Field, values: np.ndarray, title: str) -> None:
    """Bars along the axis without labels, one colour per label; both signs are stacked apart."""
    counted = next(k for k, axis in enumerate(item.axes) if axis.labels)
    labels, along = item.axes[counted].labels, item.axes[1 - counted]
    parts = np.moveaxis(values, counted, 0)
    width = 0.85 * (along.coordinates[1] - along.coordinates[0]) if along.points > 1 else 0.85
    tops = np.zeros((2, along.points))
    for place, (label, part) in enumerate(zip(labels, parts, strict=True)):
        colour = f"C{place}"
        positive, negative = np.maximum(part, 0), np.minimum(part, 0)
        axes.bar(along.coordinates, positive, width, bottom=tops[0], color=colour, label=label)
        axes.bar(along.coordinates, negative, width, bottom=tops[1], color=colour)
        tops += [positive, negative]
    axes.axhline(0, color="#51606f", linewidth=0.8)
    axes.set_xlabel(panels.axis_text(along))
    axes.set_title(title, fontsize=10)
    axes.use_sticky_edges = False
    axes.legend(fontsize=7)


def _bars(axes: Axes, found: Explanation) -> None:
    """The regions with the largest values, with the members' standard deviation."""
    several, regions = len(found.plan.fields) > 1, found.plan.regions
    effects, spread = _effects(found)
    order = np.argsort(-np.abs(effects))[:MOST_BARS][::-1]
    values, names = effects[order], [_region_name(regions[k], several) for k in order]
    errors = None if spread is None else spread[order]
    axes.barh(
        np.arange(len(order)), values, xerr=errors, color=np.where(values < 0, DOWN, UP).tolist(), ecolor="#333333"
    )
    axes.set_yticks(np.arange(len(order)), names, fontsize=7)
    axes.axvline(0, color="#51606f", linewidth=0.8)
    which = "regions" if len(regions) <= MOST_BARS else f"largest {MOST_BARS} of {len(regions)} regions"
    meaning = ", one input deviation up" if found.plan.request.method == "gradient" else ""
    axes.set_title(f"{which}{meaning}{panels.unit_text(_unit_of_quantity(found))}", fontsize=10)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.tick_params(axis="x", labelsize=8)


def _effects(found: Explanation) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of regions in the unit of J: of a gradient, for a change by one standard deviation of the input."""
    attribution, members = found.attribution, found.attribution.member_regions
    scale = np.ones(len(found.plan.regions))
    if found.plan.request.method == "gradient":
        scale = np.array([unit_change(found.plan.sample[region.field]) for region in found.plan.regions])
    return attribution.regions * scale, None if members is None else members.std(axis=0, ddof=1) * scale


def _region_name(region: Region, several: bool) -> str:
    field = region.field.replace("_", " ")
    if region.name == region.field:
        return field
    return shorten(f"{field}: {region.name}" if several else region.name, 34, placeholder="…")


def _caption(found: Explanation, width: int) -> str:
    """What was asked, what came out, how good it is."""
    said = document(found)
    quantity, units = said["quantity"], _unit_of_quantity(found)
    unit = "" if units == "1" else f" {units}"
    when = "" if quantity["lead_time"] is None else f" at lead time {quantity['lead_time']}"
    smooth = f" (smooth form {found.value:.4g})" if found.value != found.exact_value else ""
    parts = [
        f"{quantity['type'].replace('_', ' ')} of {quantity['field'].replace('_', ' ')}{when}: "
        f"{found.exact_value:.4g}{unit}{smooth}"
    ]
    if quantity["interval"] is not None:
        low, high = quantity["interval"]
        parts.append(f"{100 * quantity['statement']['level']:g} % interval [{low:.4g}, {high:.4g}]")
    if found.baseline_value is not None:
        parts.append(f"baseline {found.baseline_value:.4g} ({said['baseline']})")
    complete, response = said["completeness"], found.response
    if complete is not None and complete["relative"] is not None:
        parts.append(f"completeness gap {complete['relative']:.1e}")
    if response is not None:
        parts.append(f"first-order response {response.linear:.3g}, true {response.true:.3g}")
    lines = wrap(" · ".join(parts), width)
    return "\n".join([*lines, *(line for w in found.warnings for line in wrap(f"note: {w}", width))])
