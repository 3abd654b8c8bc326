"""One field on one pair of Matplotlib axes: an image, a line with its band, a fan of quantiles, water on terrain."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LightSource, LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.image import AxesImage

from models.fields import Axis, Field

HORIZONTAL = ("x", "longitude", "lon", "projection_x_coordinate", "grid_longitude")
DRY = 0.05  # m: shallower water is not drawn
FAN = (0.1, 0.25, 0.5, 0.75, 0.9)
WATER = LinearSegmentedColormap.from_list("water", ["#a9d1ea", "#4a98c9", "#08458b", "#04193f"])
INK, SHADES = "#23527c", ("#c9dbec", "#8fb4d9")

Limits = tuple[float, float]


@dataclass(frozen=True)
class Map:
    """Values (row, column) with the axis of the columns and that of the rows."""

    values: np.ndarray
    across: Axis
    up: Axis

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Ends of both axes."""
        return self.across.start, self.across.stop, self.up.start, self.up.stop


def upright(axes: tuple[Axis, ...], values: np.ndarray) -> Map:
    """A field (y, x) as it is, one (x, y) transposed: x goes to the right."""
    first, second = axes
    if second.name in HORIZONTAL or second.standard_name in HORIZONTAL:
        return Map(values, second, first)
    return Map(values.T, first, second)


def unit_text(units: str) -> str:
    """A unit in brackets; nothing for a pure number."""
    return "" if units == "1" else f" [{units}]"


def axis_text(axis: Axis) -> str:
    """What stands beside an axis."""
    return axis.name.replace("_", " ") + unit_text(axis.units)


def colours_of(item: Field, values: np.ndarray, plain: str) -> tuple[str, Limits]:
    """Colour map and limits: symmetric about zero where a field has both signs and zero means something."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if item.minimum is None and low < 0 < high and item.units != "degC":
        most = max(-low, high)
        return "RdBu_r", (-most, most)
    return plain, (low, high)


def draw_image(axes: Axes, shown: Map, colours: str | Colormap, limits: Limits) -> AxesImage:
    """An image on its physical axes, with its colour bar."""
    same = shown.across.units == shown.up.units
    image = axes.imshow(
        shown.values, origin="lower", extent=shown.extent, cmap=colours, vmin=limits[0], vmax=limits[1],
        aspect="equal" if same else "auto",
    )  # fmt: skip
    axes.set(xlabel=axis_text(shown.across), ylabel=axis_text(shown.up))
    axes.set_ylim(*sorted((shown.up.start, shown.up.stop)))
    tall = abs((shown.up.stop - shown.up.start) / (shown.across.stop - shown.across.start)) if same else 1.0
    axes.figure.colorbar(image, ax=axes, shrink=min(0.8, tall))
    return image


def hillshade(ground: Map) -> np.ndarray:
    """Light from the north-west on the bed, (row, column) in [0, 1]."""
    dx = abs(ground.across.stop - ground.across.start) / max(1, ground.across.points - 1)
    dy = abs(ground.up.stop - ground.up.start) / max(1, ground.up.points - 1)
    light = LightSource(azdeg=315, altdeg=45)
    # rows go up, LightSource takes them downwards
    shade = light.hillshade(ground.values[::-1], vert_exag=_exaggeration(ground, dx), dx=dx, dy=dy)
    return np.asarray(shade[::-1])


def _exaggeration(ground: Map, dx: float) -> float:
    """Steepness that makes a gentle relief visible and leaves mountains alone."""
    slope = float(np.abs(np.diff(ground.values, axis=1)).mean()) / dx
    return float(np.clip(0.3 / max(slope, 1e-9), 1.0, 30.0))


def draw_ground(axes: Axes, ground: Map) -> None:
    """Elevation in the colours of a map, shaded."""
    limits = float(ground.values.min()), float(ground.values.max())
    draw_image(axes, ground, "terrain", limits)
    axes.imshow(hillshade(ground), origin="lower", extent=ground.extent, cmap="gray", vmin=0, vmax=1, alpha=0.35)


def wet(depth: np.ndarray) -> np.ndarray:
    """Depths where there is water to speak of, masked elsewhere."""
    return np.ma.masked_less(depth, DRY)


def draw_water(axes: Axes, depth: Map, ground: Map, deepest: float) -> AxesImage:
    """Water in blues over the shaded bed; dry cells show the bed."""
    axes.imshow(hillshade(ground), origin="lower", extent=ground.extent, cmap="gray", vmin=-0.8, vmax=1)
    return draw_image(axes, Map(wet(depth.values), depth.across, depth.up), WATER, (0.0, max(deepest, DRY)))


def draw_line(axes: Axes, axis: Axis, mean: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None) -> None:
    """A line with its band; bars where the axis counts things."""
    if axis.labels:
        places = np.arange(axis.points)
        spread = None if ends is None else np.maximum([mean - ends[0], ends[1] - mean], 0.0)
        axes.errorbar(places, mean, yerr=spread, fmt="o", color=INK, capsize=3)
        axes.set_xticks(places, axis.labels)
        return
    if ends is not None:
        axes.fill_between(axis.coordinates, *ends, color=SHADES[0], linewidth=0)
    axes.plot(axis.coordinates, mean, color=INK, linewidth=1.6)
    axes.set_xlabel(axis_text(axis))
    axes.margins(x=0)


def draw_fan(
    axes: Axes,
    times: np.ndarray,
    mean: np.ndarray,
    quantiles: Mapping[float, np.ndarray],
    past: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """A time series: the past as a line, continued by the quantiles 10–90 % and 25–75 % and the median."""
    if past is not None:
        axes.plot(*past, color="#51606f", linewidth=1.2)
        axes.axvline(past[0][-1], color="#8b97a5", linewidth=0.8, linestyle=":")
        last = past[1][-1:]
        times, mean = np.concatenate([past[0][-1:], times]), np.concatenate([last, mean])
        quantiles = {p: np.concatenate([last, values]) for p, values in quantiles.items()}
    if quantiles:
        axes.fill_between(times, quantiles[0.1], quantiles[0.9], color=SHADES[0], linewidth=0, label="10–90 %")
        axes.fill_between(times, quantiles[0.25], quantiles[0.75], color=SHADES[1], linewidth=0, label="25–75 %")
    centre, said = quantiles.get(0.5, mean), "median" if quantiles else "mean"
    axes.plot(times, centre, color=INK, linewidth=1.6, marker="." if len(times) < 30 else "", label=said)
    axes.grid(alpha=0.25)
    axes.margins(x=0.02)
    if np.issubdtype(times.dtype, np.datetime64):
        locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
