"""Regions of input fields: tiles, or boxes, masks and polygons that the request names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from models.errors import OutOfRange, TooLarge, UnknownOption
from models.explanation import grid
from models.fields import Axis, Field

LARGEST_TILES = 16
MOST_REGIONS = 256
MOST_PLAYERS = 8
TILES = 4
REST = "rest"


@dataclass(frozen=True)
class Region:
    """A named part of an input field."""

    field: str
    name: str
    mask: np.ndarray


def whole(item: Field) -> Region:
    """All of a field."""
    return Region(item.name, item.name, np.ones(item.shape, dtype=bool))


def _tile_counts(item: Field, count: int) -> list[int]:
    return [axis.points if axis.labels else min(count, axis.points) for axis in item.axes]


def tiles(item: Field, count: int) -> tuple[Region, ...]:
    """Regions that cover a field without overlap: up to `count` along each axis, one per label.

    Raises OutOfRange, TooLarge.
    """
    if not 1 <= count <= LARGEST_TILES:
        raise OutOfRange("regions", f"between 1 and {LARGEST_TILES}", str(count))
    if not item.axes:
        return (whole(item),)
    counts = _tile_counts(item, count)
    if int(np.prod(counts)) > MOST_REGIONS:
        raise TooLarge("regions", f"at most {MOST_REGIONS} regions of {item.name}", str(int(np.prod(counts))))
    owners = [np.minimum(np.arange(a.points) * n // a.points, n - 1) for a, n in zip(item.axes, counts, strict=True)]
    regions = []
    for place in product(*(range(n) for n in counts)):
        mask = np.ones((), dtype=bool)
        for owner, index in zip(owners, place, strict=True):
            mask = np.logical_and.outer(mask, owner == index)
        label = ",".join(_tile_name(a, i) for a, i in zip(item.axes, place, strict=True))
        regions.append(Region(item.name, f"tile {label}", mask))
    return tuple(regions)


def _tile_name(axis: Axis, index: int) -> str:
    return axis.labels[index] if axis.labels else str(index)


def few_tiles(fields: Sequence[Field]) -> tuple[Region, ...]:
    """As many tiles as exact Shapley values can take: 4 per axis, else 2, else 1, else whole fields."""
    for count in (TILES, 2, 1):
        found = tuple(region for item in fields for region in tiles(item, count))
        if len(found) <= MOST_PLAYERS:
            return found
    return tuple(whole(item) for item in fields)


def _named(index: int, requested: Any, fields: Mapping[str, Field]) -> Region:
    place = f"regions.{index}"
    if not isinstance(requested, Mapping):
        raise UnknownOption(place, "an object with name, field and a box, mask or polygon", grid.shown(requested))
    name = requested.get("name", f"region {index}")
    if not isinstance(name, str) or not name or len(name) > 80 or name == REST:
        raise UnknownOption(f"{place}.name", f"a text of up to 80 letters other than '{REST}'", grid.shown(name))
    wanted = requested.get("field", next(iter(fields)) if len(fields) == 1 else None)
    if not isinstance(wanted, str) or wanted not in fields:
        raise UnknownOption(f"{place}.field", f"an explained field among {', '.join(fields)}", grid.shown(wanted))
    item = fields[wanted]
    known = ["name", "field", "mask", "polygon", *(axis.name for axis in item.axes)]
    for key in requested:
        if key not in known:
            raise UnknownOption(f"{place}.{key}", f"options among {', '.join(known)}", f"'{key}'")
    return Region(item.name, name, grid.inside(item.axes, requested, place))


def _rest(item: Field, named: Sequence[Region]) -> tuple[Region, ...]:
    """What no named region holds."""
    left = ~np.logical_or.reduce([r.mask for r in named if r.field == item.name] or [np.zeros(item.shape, dtype=bool)])
    return (Region(item.name, REST, np.asarray(left)),) if left.any() else ()


def overlap(regions: Sequence[Region]) -> bool:
    """Whether a point belongs to two of them."""
    counts = {r.field: np.zeros(r.mask.shape, dtype=int) for r in regions}
    for region in regions:
        counts[region.field] += region.mask
    return any(int(count.max()) > 1 for count in counts.values())


def make_regions(fields: Sequence[Field], requested: Any) -> tuple[Region, ...]:
    """Tiles per axis, or the regions of a list and, per field, the rest.

    Raises UnknownOption, OutOfRange, TooLarge, WrongShape, NotFinite.
    """
    if isinstance(requested, int) and not isinstance(requested, bool):
        return tuple(region for item in fields for region in tiles(item, requested))
    if not isinstance(requested, list | tuple) or not requested:
        raise UnknownOption("regions", "a number of tiles per axis, or a list of regions", grid.shown(requested))
    if len(requested) > MOST_REGIONS:
        raise TooLarge("regions", f"at most {MOST_REGIONS}", str(len(requested)))
    known = {item.name: item for item in fields}
    named = [_named(index, one, known) for index, one in enumerate(requested)]
    identities = [(r.field, r.name) for r in named]
    if len(set(identities)) != len(identities):
        raise UnknownOption("regions", "different names", grid.shown([name for _, name in identities]))
    return (*named, *(region for item in fields for region in _rest(item, named)))


def require_players(regions: Sequence[Region]) -> None:
    """Raises TooLarge, UnknownOption unless exact Shapley values can be had: 2ⁿ evaluations, no overlap."""
    if len(regions) > MOST_PLAYERS:
        raise TooLarge(
            "regions", f"at most {MOST_PLAYERS} regions for Shapley values, the rest included", str(len(regions))
        )
    if overlap(regions):
        raise UnknownOption("regions", "regions without overlap for Shapley values", "overlapping ones")
