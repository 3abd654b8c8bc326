"""Places on a field's axes: quadrature weights, points, boxes, masks and polygons in physical coordinates.

Nodal values are weighted by the trapezoid rule, periodic axes by the rectangle rule, labels are counted; nodes of a
cell-centred axis are weighted by the trapezoid rule too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from models.errors import NotFinite, OutOfRange, UnknownOption, WrongShape
from models.fields import Axis

Grid = Float[np.ndarray, "*grid"]
Axes = Sequence[Axis]
FARTHEST = 1e3  # extents of the axes that a polygon may reach beyond them
SLACK = 1e-9  # of an axis or a polygon: nodes on the edge belong to the inside


def step(axis: Axis) -> float:
    """Distance of neighbouring nodes."""
    return (axis.stop - axis.start) / (axis.points - 1) if axis.points > 1 else 0.0


def end(axis: Axis) -> float:
    """The largest coordinate: a periodic axis goes on to where it starts again."""
    return axis.stop + step(axis) if axis.periodic else axis.stop


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def shown(value: Any) -> str:
    """What came, short enough for a message."""
    return repr(value)[:60]


def _axis_weights(axis: Axis) -> np.ndarray:
    if axis.labels or axis.points == 1:
        return np.ones(axis.points)
    part = np.full(axis.points, step(axis))
    if not axis.periodic:
        part[[0, -1]] /= 2.0
    return part


def quadrature_weights(axes: Axes) -> Grid:
    """Quadrature weights of nodal values; they add up to the extent of the axes."""
    weights = np.ones(())
    for axis in axes:
        weights = np.multiply.outer(weights, _axis_weights(axis))
    return np.asarray(weights)


def _position(axis: Axis, value: Any, place: str) -> float:
    """Place of a coordinate, or of a label, in steps from the first node."""
    name = f"{place}.{axis.name}"
    if axis.labels and isinstance(value, str):
        if value not in axis.labels:
            raise UnknownOption(name, f"one of {', '.join(axis.labels)}", shown(value))
        return float(axis.labels.index(value))
    if not is_number(value):
        raise UnknownOption(name, "a coordinate or a label" if axis.labels else "a coordinate", shown(value))
    if not axis.start <= value <= end(axis):
        raise OutOfRange(name, f"in [{axis.start:g}, {end(axis):g}]", f"{value:g}")
    return float(value - axis.start) / (axis.stop - axis.start) * (axis.points - 1) if axis.points > 1 else 0.0


def point_weights(axes: Axes, request: Mapping[str, Any], place: str) -> Grid:
    """Weights of linear interpolation at a point with a coordinate on every axis.

    Raises UnknownOption, OutOfRange.
    """
    weights = np.ones(())
    for axis in axes:
        distance = np.abs(np.arange(axis.points) - _position(axis, request.get(axis.name), place))
        distance = np.minimum(distance, axis.points - distance) if axis.periodic else distance
        weights = np.multiply.outer(weights, np.clip(1.0 - distance, 0.0, None))
    return np.asarray(weights)


def _labelled(axis: Axis, wanted: Any, name: str) -> np.ndarray:
    names = [wanted] if isinstance(wanted, str) else wanted
    for label in names:
        if label not in axis.labels:
            raise UnknownOption(name, f"labels among {', '.join(axis.labels)}", shown(label))
    return np.isin(axis.labels, names)


def _inside_axis(axis: Axis, limits: Any, place: str) -> np.ndarray:
    """Nodes in [low, high]; on a periodic axis low may exceed high, and the range goes through the seam."""
    if limits is None:
        return np.ones(axis.points, dtype=bool)
    name, last = f"{place}.{axis.name}", end(axis)
    words = isinstance(limits, list | tuple) and limits and all(isinstance(v, str) for v in limits)
    if axis.labels and (isinstance(limits, str) or words):
        return _labelled(axis, limits, name)
    if not (isinstance(limits, list | tuple) and len(limits) == 2 and all(is_number(v) for v in limits)):
        raise UnknownOption(name, "labels" if axis.labels else "two numbers [low, high]", shown(limits))
    low, high = (float(v) for v in limits)
    ordered = low <= high or axis.periodic
    if not (ordered and axis.start <= low <= last and axis.start <= high <= last):
        rule = "" if axis.periodic else "low ≤ high "
        raise OutOfRange(name, f"{rule}in [{axis.start:g}, {last:g}]", f"[{low:g}, {high:g}]")
    slack = SLACK * (axis.stop - axis.start)
    after, before = axis.coordinates >= low - slack, axis.coordinates <= high + slack
    return np.asarray(after & before if low <= high else after | before)


def _box(axes: Axes, request: Mapping[str, Any], place: str) -> np.ndarray:
    inside = np.ones((), dtype=bool)
    for axis in axes:
        inside = np.logical_and.outer(inside, _inside_axis(axis, request.get(axis.name), place))
    return np.asarray(inside)


def read_numbers(requested: Any, kinds: str = "iuf") -> np.ndarray:
    """An array of numbers: not of texts that look like some, nor of truth values unless `kinds` has b.

    Raises TypeError, ValueError.
    """
    values = np.asarray(requested)
    if values.dtype.kind not in kinds:
        raise TypeError(f"Expected numbers, got {values.dtype}. Send numbers.")
    return values.astype(np.float64)


def numbers(requested: Any, shape: tuple[int, ...], place: str, kinds: str = "iuf") -> np.ndarray:
    """An array of finite numbers of the given shape.

    Raises WrongShape, NotFinite.
    """
    try:
        values = read_numbers(requested, kinds)
    except (TypeError, ValueError) as error:
        raise WrongShape(place, f"numbers of shape {shape}", shown(requested)) from error
    if values.shape != shape:
        raise WrongShape(place, f"shape {shape}", f"{values.shape}")
    bad = ~np.isfinite(values)
    if bad.any():
        raise NotFinite(place, int(bad.sum()), str(tuple(int(i) for i in np.argwhere(bad)[0])))
    return values


def _mask(axes: Axes, requested: Any, place: str) -> np.ndarray:
    values = numbers(requested, tuple(axis.points for axis in axes), f"{place}.mask", "biuf")
    if not np.isin(values, (0.0, 1.0)).all():
        raise UnknownOption(f"{place}.mask", "true or false (1 or 0) at every node", "other values")
    return np.asarray(values == 1.0)


def _vertices(axes: Axes, requested: Any, name: str) -> tuple[list[Axis], np.ndarray]:
    offered = {axis.name: axis for axis in axes if not axis.labels}
    expected = f"an object with coordinates on two axes among {', '.join(offered)}"
    if not isinstance(requested, Mapping) or len(requested) != 2 or not set(requested) <= set(offered):
        raise UnknownOption(name, expected, shown(requested))
    lists = list(requested.values())
    if not all(isinstance(v, list | tuple) and all(map(is_number, v)) for v in lists) or len(lists[0]) != len(lists[1]):
        raise UnknownOption(name, "two lists of numbers of equal length", shown(requested))
    found = np.array(lists, dtype=np.float64).T
    if len(np.unique(found, axis=0)) < 3:
        raise UnknownOption(name, "at least three different points", str(len(np.unique(found, axis=0))))
    return [offered[axis] for axis in requested], found


def _polygon(axes: Axes, requested: Any, place: str) -> np.ndarray:
    """Nodes inside a polygon, its edge included, over all nodes of the other axes; what it goes round twice is outside."""
    from matplotlib.path import Path  # half a second to import, and few ask for polygons

    name = f"{place}.polygon"
    across, vertices = _vertices(axes, requested, name)
    start, size = np.array([[a.start, end(a) - a.start or 1.0] for a in across]).T
    scaled = (vertices - start) / size
    if np.abs(scaled).max() > FARTHEST:
        raise OutOfRange(
            name, f"no farther out than {FARTHEST:g} times the field's extent", f"{np.abs(vertices).max():g}"
        )
    if np.linalg.svd(scaled - scaled.mean(axis=0), compute_uv=False)[1] <= SLACK:
        raise UnknownOption(name, "a polygon that encloses an area", "points on a line")
    nodes = np.stack(np.meshgrid(*(a.coordinates for a in across), indexing="ij"), axis=-1)
    # a positive radius grows what is passed counter-clockwise, a negative one the rest
    path, places = Path(np.vstack([scaled, scaled[:1]]), closed=True), ((nodes - start) / size).reshape(-1, 2)
    flat = np.logical_or(*(path.contains_points(places, radius=radius) for radius in (2 * SLACK, -2 * SLACK)))
    inside = flat.reshape(nodes.shape[:-1])
    order = [axis.name for axis in across]
    inside = inside if order == [a.name for a in axes if a.name in order] else inside.T
    shape = [axis.points if axis.name in order else 1 for axis in axes]
    return np.asarray(np.broadcast_to(inside.reshape(shape), [axis.points for axis in axes]))


def inside(axes: Axes, request: Mapping[str, Any], place: str) -> np.ndarray:
    """Nodes in the box [low, high] per axis, in the mask and in the polygon, as far as these are given.

    Raises UnknownOption, WrongShape, NotFinite, OutOfRange.
    """
    found = _box(axes, request, place)
    if request.get("mask") is not None:
        found = found & _mask(axes, request["mask"], place)
    if request.get("polygon") is not None:
        found = found & _polygon(axes, request["polygon"], place)
    if not found.any():
        raise OutOfRange(place, "a region holding at least one grid point", "none")
    return np.asarray(found)
