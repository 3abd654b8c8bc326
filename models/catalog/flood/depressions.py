"""Standing water: where all rain would stand if it ran downhill at once, and how much passes each cell on the way.

A priority flood from the lowest cell gives every cell the neighbour its water goes to and its spill level. From the last
visited cell back, all rain is passed on; a hollow (connected cells below their spill level, which is then the same) keeps what it can
hold, levelled by its own volume curve, and spills the rest; what is left fills the ground from below. Neither roughness
nor time enters. Once it is known which cell drains where and which are under water, all of it is linear in bed and rain:
`apply` is that map, its value and its derivative in one, and `transpose` its transpose. Source: Barnes, Lehman & Mulla
(2014). Importing this module imports numba.
"""

import heapq
from typing import NamedTuple

import numpy as np

from models.catalog.flood.kernel import compile_kernel

Reals = np.ndarray[tuple[int], np.dtype[np.float64]]
Indices = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

NO_HOLLOW = -1


class Drainage(NamedTuple):
    """Who drains where and what is under water, by cell; `full` by name of hollow."""

    order: Indices
    parent: Indices
    pivot: Indices
    hollow: Indices
    full: Flags
    wet: Flags
    ground: Flags


@compile_kernel
def flood(bed: Reals, columns: int, parent: Indices, pivot: Indices, order: Indices) -> None:
    """Receiving neighbour, visiting order and the cell whose bed is the spill level, of every cell."""
    parent[:] = -1
    lowest = int(np.argmin(bed))
    queue = [(bed[lowest], lowest)]
    pivot[lowest], parent[lowest] = lowest, lowest
    for place in range(bed.size):
        level, cell = heapq.heappop(queue)
        order[place] = cell
        column = cell % columns
        for shift, is_inside in ((-1, column > 0), (1, column < columns - 1), (-columns, True), (columns, True)):
            other = cell + shift
            if is_inside and 0 <= other < bed.size and parent[other] < 0:
                pivot[other] = other if bed[other] >= level else pivot[cell]
                parent[other] = cell
                heapq.heappush(queue, (bed[pivot[other]], other))


@compile_kernel
def name_hollows(bed: Reals, columns: int, pivot: Indices, order: Indices, hollow: Indices) -> None:
    """A hollow is named by its first visited cell, which all its overflow leaves by."""
    hollow[:] = NO_HOLLOW
    for name in order:
        stack = [name]
        while stack:
            cell = stack.pop()
            if hollow[cell] != NO_HOLLOW or bed[pivot[cell]] <= bed[cell]:
                continue
            hollow[cell] = name
            column = cell % columns
            for shift, is_inside in ((-1, column > 0), (1, column < columns - 1), (-columns, True), (columns, True)):
                if is_inside and 0 <= cell + shift < bed.size:
                    stack.append(cell + shift)


@compile_kernel
def level_of(beds: Reals, volume: float) -> float:
    """Level of `volume` (m × cells) over ascending `beds`."""
    below, wet = beds[0], 1
    while wet < beds.size and wet * beds[wet] - below < volume:
        below += beds[wet]
        wet += 1
    return (volume + below) / wet  # type: ignore[no-any-return]


@compile_kernel
def capacities(bed: Reals, water: Drainage) -> Reals:
    """What each hollow can hold (m × cells)."""
    found = np.zeros(bed.size)
    for cell in range(bed.size):
        if water.hollow[cell] != NO_HOLLOW:
            found[water.hollow[cell]] += bed[water.pivot[cell]] - bed[cell]
    return found


@compile_kernel
def route(bed: Reals, rain: float, water: Drainage, find_full: bool) -> tuple[Reals, Reals]:
    """Volume kept by each hollow, and what arrives at each cell; `find_full` decides which hollows spill."""
    kept, arrived, capacity = np.zeros(bed.size), np.full(bed.size, rain), capacities(bed, water)
    for cell in water.order[:0:-1]:
        passed, name = arrived[cell], water.hollow[cell]
        if name != NO_HOLLOW:
            kept[name] += passed
            passed = 0.0
        if name == cell:
            if find_full:
                water.full[name] = kept[name] > capacity[name]
            if water.full[name]:
                passed = kept[name] - capacity[name]
                kept[name] = capacity[name]
        arrived[water.parent[cell]] += passed
    return kept, arrived


@compile_kernel
def fill_hollows(beds: Reals, members: Indices, kept: Reals, water: Drainage, surface: Reals) -> None:
    """Level each hollow by what it keeps; `members` are the cells of hollows, one after the other and by ascending `beds`."""
    start = 0
    while start < members.size:
        name, stop = water.hollow[members[start]], start
        while stop < members.size and water.hollow[members[stop]] == name:
            stop += 1
        level = level_of(beds[start:stop], kept[name])
        for place in range(start, stop):
            water.wet[members[place]] = beds[place] < level
            surface[members[place]] = max(beds[place], level)
        start = stop


def analyse(bed: Reals, columns: int, rain: float) -> Drainage:
    """The drainage of a bed under `rain` metres everywhere."""
    order, parent, pivot, hollow = np.empty((4, bed.size), np.int64)
    full, wet, ground = np.zeros((3, bed.size), np.bool_)
    flood(bed, columns, parent, pivot, order)
    name_hollows(bed, columns, pivot, order, hollow)
    water = Drainage(order, parent, pivot, hollow, full, wet, ground)
    kept, arrived = route(bed, rain, water, True)
    members = np.lexsort((bed, hollow))[np.count_nonzero(hollow == NO_HOLLOW) :]
    surface = bed.copy()
    fill_hollows(bed[members], members, kept, water, surface)
    ground[:] = surface < level_of(np.sort(surface), arrived[order[0]])
    ground[order[0]] = True
    return water


@compile_kernel
def apply(bed: Reals, rain: float, water: Drainage) -> tuple[Reals, Reals]:
    """Standing depth and water arriving at each cell (m), linear in bed and rain."""
    kept, arrived = route(bed, rain, water, False)
    total, count = kept, np.zeros(bed.size)
    for cell in range(bed.size):
        if water.wet[cell]:
            total[water.hollow[cell]] += bed[cell]
            count[water.hollow[cell]] += 1.0
    surface, level, cells = bed.copy(), arrived[water.order[0]], 0.0
    for cell in range(bed.size):
        if water.wet[cell]:
            surface[cell] = total[water.hollow[cell]] / count[water.hollow[cell]]
        if water.ground[cell]:
            level += surface[cell]
            cells += 1.0
    for cell in range(bed.size):
        surface[cell] = (level / cells if water.ground[cell] else surface[cell]) - bed[cell]
    return surface, arrived


@compile_kernel
def transpose_levels(depth: Reals, water: Drainage) -> tuple[Reals, Reals, float]:
    """Cotangents of bed, of the volume kept by each hollow and of what reaches the lowest cell, from that of depth."""
    bed, above = -depth, depth.copy()
    kept, count = np.zeros(depth.size), np.zeros(depth.size)
    reached, cells = 0.0, 0.0
    for cell in range(depth.size):
        if water.ground[cell]:
            reached += depth[cell]
            cells += 1.0
    reached /= cells
    for cell in range(depth.size):
        if water.ground[cell]:
            above[cell] = reached
        if water.wet[cell]:
            kept[water.hollow[cell]] += above[cell]
            count[water.hollow[cell]] += 1.0
    for cell in range(depth.size):
        if count[cell] > 0.0:
            kept[cell] /= count[cell]
    for cell in range(depth.size):
        bed[cell] += kept[water.hollow[cell]] if water.wet[cell] else above[cell]
    return bed, kept, reached


@compile_kernel
def transpose(depth: Reals, arrived: Reals, water: Drainage) -> tuple[Reals, float]:
    """Cotangents of bed and rain from those of `apply`'s two results."""
    bed, kept, reached = transpose_levels(depth, water)
    back, capacity = arrived.copy(), np.zeros(depth.size)
    back[water.order[0]] += reached
    for cell in water.order[1:]:
        name, after = water.hollow[cell], back[water.parent[cell]]
        if name == cell and water.full[name]:
            capacity[name] = kept[name] - after
            kept[name] = after
        if name != NO_HOLLOW:
            bed[water.pivot[cell]] += capacity[name]
            bed[cell] -= capacity[name]
        back[cell] += kept[name] if name != NO_HOLLOW else after
    return bed, back.sum()
