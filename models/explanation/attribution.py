"""Methods: what in the input a quantity of interest depends on, as maps and as values of regions.

    gradient              ∂J/∂x, one VJP
    integrated gradients  IG_i = (x−x′)_i ∫₀¹ ∂_iJ(x′ + t(x−x′)) dt by Gauss–Legendre (Sundararajan et al. 1703.01365)
    occlusion             J(x) − J(x with one region set to the baseline)
    shapley               Σ_S |S|!(n−|S|−1)!/n! (v(S∪i) − v(S)), v(S) = J(x where in S, baseline elsewhere) (Shapley 1953)
    what_if               ∂_iJ δ_i of a given change δ; its sum is the tangent-linear response

Integrated gradients and Shapley values add up to J(x) − J(x′). Of the first, eight nodes on the whole path are enough for
smooth answers. Else the parts of the path whose integral misses their J(b) − J(a) most are halved, with four nodes on each
half, until the sum is complete to 1e-4 or 120 nodes are spent: water that starts to flow elsewhere bends the path where it
does so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Literal

import numpy as np
from jaxtyping import Float

from models.explanation.baselines import Baseline
from models.explanation.functional import Functional
from models.explanation.grid import Grid
from models.explanation.regions import Region
from models.physical_model import Arrays

Method = Literal["gradient", "integrated_gradients", "occlusion", "shapley", "what_if"]
DIFFERENTIATING = ("gradient", "integrated_gradients", "what_if")
FIRST_NODES, PART_NODES, MOST_NODES = 8, 4, 120
HALVED = 2  # parts of a path at a time: their gradients are one batch
LARGEST_PATH = 2**24  # numbers that all runs along a path may return together; half as many for the members' own
COMPLETE = 1e-4
SMALL = 1e-6  # differences below this share of J, or of what is added up, are rounding and have no relative gap


@dataclass(frozen=True)
class Completeness:
    """How closely attributions add up to a difference of J; `relative` is None where the difference is all but zero.

    `holds` is whether the gap is at most 1e-4 of the difference, or there of what cancels, up to the rounding of J.
    """

    absolute: float
    relative: float | None
    nodes: int | None
    holds: bool

    @classmethod
    def of(cls, parts: np.ndarray, difference: float, value: float, nodes: int | None) -> "Completeness":
        """From what is added up, the difference it should be, and J."""
        gap, size = abs(float(parts.sum()) - difference), float(np.abs(parts).sum())
        small = abs(difference) <= SMALL * max(abs(value), size)
        allowed = COMPLETE * size + SMALL * abs(value) if small else COMPLETE * abs(difference)
        return cls(gap, None if small else gap / abs(difference), nodes, bool(gap <= allowed))


@dataclass(frozen=True)
class Attribution:
    """Maps by field, values of regions, the members' of both (member axis first), and completeness."""

    maps: Mapping[str, Grid]
    regions: Float[np.ndarray, " region"]
    member_maps: Mapping[str, np.ndarray] | None
    member_regions: Float[np.ndarray, "member region"] | None
    completeness: Completeness | None = None
    spread: Float[np.ndarray, " region"] | None = None  # over baselines

    @property
    def total(self) -> float:
        """Sum of the maps over all fields."""
        return float(sum(values.sum() for values in self.maps.values()))


def _sums(maps: Mapping[str, np.ndarray], regions: Sequence[Region]) -> np.ndarray:
    """Sums over regions; leading axes stay."""
    return np.stack([maps[r.field][..., r.mask].sum(axis=-1) for r in regions], axis=-1)


def _of_maps(
    maps: Arrays, members: Arrays, regions: Sequence[Region], completeness: Completeness | None = None
) -> Attribution:
    several = len(next(iter(members.values()))) > 1
    return Attribution(
        maps,
        _sums(maps, regions),
        members if several else None,
        _sums(members, regions) if several else None,
        completeness,
    )


def _of_regions(
    shapes: Mapping[str, tuple[int, ...]], values: np.ndarray, members: np.ndarray, regions: Sequence[Region],
    completeness: Completeness | None = None,
) -> Attribution:  # fmt: skip
    """Values of regions, spread evenly over their points."""
    maps = {name: np.zeros(shape) for name, shape in shapes.items()}
    for region, value in zip(regions, values, strict=True):
        maps[region.field][region.mask] += value / region.mask.sum()
    return Attribution(maps, values, None, members if len(members) > 1 else None, completeness)


def _row(functional: Functional, names: Sequence[str]) -> Arrays:
    return {name: functional.sample[name].astype(np.float64)[None] for name in names}


def gradient(functional: Functional, names: Sequence[str], regions: Sequence[Region]) -> Attribution:
    """∂J/∂x of the ensemble mean, and the members' own."""
    row = _row(functional, names)
    maps = {name: values[0] for name, values in functional.gradients(row).items()}
    members = {name: values[0] for name, values in functional.member_gradients(row).items()}
    return _of_maps(maps, members, regions)


def what_if(functional: Functional, change: Arrays, names: Sequence[str], regions: Sequence[Region]) -> Attribution:
    """∂_iJ δ_i of every point."""
    found = gradient(functional, names, regions)
    members = found.member_maps or {name: values[None] for name, values in found.maps.items()}
    return _of_maps(
        {name: values * change[name] for name, values in found.maps.items()},
        {name: values * change[name] for name, values in members.items()},
        regions,
    )


@dataclass(frozen=True)
class Rule:
    """Quadrature on [0, 1]: Σ weights f(positions)."""

    positions: np.ndarray
    weights: np.ndarray

    @classmethod
    def gauss(cls, first: float, last: float, nodes: int) -> "Rule":
        """Gauss–Legendre on a part of it."""
        positions, weights = np.polynomial.legendre.leggauss(nodes)
        half = 0.5 * (last - first)
        return cls(first + half * (positions + 1.0), half * weights)


Ends = tuple[float, float, float, float]  # where a part of the path begins and ends, and J there


@dataclass(frozen=True)
class Part:
    """A part [first, last] of the path: J at its ends, its quadrature and what that gives."""

    first: float
    last: float
    before: float
    after: float
    rule: Rule
    maps: Arrays

    @property
    def gap(self) -> float:
        """How far its integral is from what J changes by."""
        return abs(float(sum(values.sum() for values in self.maps.values())) - (self.after - self.before))


def _changes(functional: Functional, start: Arrays) -> Arrays:
    """x − x′."""
    return {name: functional.sample[name].astype(np.float64) - values for name, values in start.items()}


def _along(functional: Functional, start: Arrays, positions: np.ndarray) -> Arrays:
    """x′ + t(x − x′) at every t."""
    changes = _changes(functional, start)
    return {name: values + np.multiply.outer(positions, changes[name]) for name, values in start.items()}


def _parts(functional: Functional, start: Arrays, ends: Sequence[Ends], nodes: int) -> list[Part]:
    """Parts with (first, last, J, J) each, all gradients in one go."""
    rules = [Rule.gauss(first, last, nodes) for first, last, *_ in ends]
    gradients = functional.gradients(_along(functional, start, np.concatenate([rule.positions for rule in rules])))
    changes, found = _changes(functional, start), []
    for index, (end, rule) in enumerate(zip(ends, rules, strict=True)):
        own = slice(index * nodes, (index + 1) * nodes)
        maps = {name: change * np.tensordot(rule.weights, gradients[name][own], 1) for name, change in changes.items()}
        found.append(Part(*end, rule, maps))
    return found


def _halved(functional: Functional, start: Arrays, parts: Sequence[Part]) -> list[Part]:
    """Two parts for each."""
    middles = np.array([0.5 * (part.first + part.last) for part in parts])
    values = functional.values(_along(functional, start, middles)).mean
    ends: list[Ends] = []
    for part, middle, value in zip(parts, middles.tolist(), values.tolist(), strict=True):
        ends += [(part.first, middle, part.before, value), (middle, part.last, value, part.after)]
    return _parts(functional, start, ends, PART_NODES)


def path_integral(functional: Functional, start: Arrays) -> tuple[Arrays, Completeness, Rule]:
    """Integrated gradients of the ensemble mean along the straight path, with as many nodes as completeness needs."""
    before, after = functional.values(_along(functional, start, np.array([0.0, 1.0]))).mean
    parts = _parts(functional, start, [(0.0, 1.0, float(before), float(after))], FIRST_NODES)
    spent, each = FIRST_NODES, 2 * PART_NODES
    while True:
        maps = {name: np.sum([part.maps[name] for part in parts], axis=0) for name in start}
        rule = Rule(*(np.concatenate([getattr(p.rule, key) for p in parts]) for key in ("positions", "weights")))
        flat = np.concatenate([values.ravel() for values in maps.values()])
        completeness = Completeness.of(flat, float(after - before), float(after), len(rule.weights))
        more = min(HALVED, len(parts), (most_nodes(functional.numbers_per_row) - spent) // each)
        if completeness.holds or more < 1:
            return maps, completeness, rule
        parts.sort(key=lambda part: part.gap)
        parts[-more:] = _halved(functional, start, parts[-more:])
        spent += more * each


def integrated_gradients(functional: Functional, start: Arrays, regions: Sequence[Region]) -> Attribution:
    """Attribution of J(x) − J(x′), and the members' own."""
    maps, completeness, rule = path_integral(functional, start)
    return _of_maps(maps, _member_paths(functional, start, rule), regions, completeness)


def most_nodes(numbers_per_row: int) -> int:
    """The nodes that may be spent on one path."""
    return max(FIRST_NODES, min(MOST_NODES, LARGEST_PATH // numbers_per_row))


def member_nodes(numbers_per_row: int, members: int) -> int:
    """The most nodes of the members' own paths."""
    return max(FIRST_NODES, min(MOST_NODES, LARGEST_PATH // (2 * members * numbers_per_row)))


def _member_paths(functional: Functional, start: Arrays, rule: Rule) -> Arrays:
    """Integrated gradients of every member, by the rule of the mean, or what is affordable."""
    count = functional.surrogate.manifest.members
    if count == 1:
        return {name: np.zeros((1, *values.shape)) for name, values in start.items()}
    affordable = member_nodes(functional.numbers_per_row, count)
    if len(rule.weights) > affordable:
        rule = Rule.gauss(0.0, 1.0, affordable)
    gradients = functional.member_gradients(_along(functional, start, rule.positions))
    changes = _changes(functional, start)
    return {name: change * np.tensordot(rule.weights, gradients[name], 1) for name, change in changes.items()}


def replaced(sample: Arrays, start: Arrays, regions: Sequence[Region], kept: Sequence[Sequence[bool]]) -> Arrays:
    """One row per entry of `kept`: regions that are not kept are set to the baseline."""
    rows = {
        name: np.broadcast_to(sample[name].astype(np.float64), (len(kept), *values.shape)).copy()
        for name, values in start.items()
    }
    for row, keep in enumerate(kept):
        for region, stays in zip(regions, keep, strict=True):
            if not stays:
                field = rows[region.field]
                field[row] = np.where(region.mask, start[region.field], field[row])
    return rows


def occlusion(functional: Functional, start: Arrays, regions: Sequence[Region]) -> Attribution:
    """J(x) − J(x with a region at its baseline)."""
    kept = np.vstack([np.ones((1, len(regions)), dtype=bool), ~np.eye(len(regions), dtype=bool)])
    found = functional.values(replaced(functional.sample, start, regions, kept.tolist()))
    values, members = found.mean[0] - found.mean[1:], found.members[0] - found.members[1:]
    return _of_regions({name: np.shape(v) for name, v in start.items()}, values, members.T, regions)


def coalitions(players: int) -> Float[np.ndarray, "coalition player"]:
    """All subsets of the players; number s holds player i where bit i of s is set."""
    return np.asarray((np.arange(2**players)[:, None] >> np.arange(players)) & 1, dtype=bool)


def shapley_values(worth: Float[np.ndarray, "coalition ..."], players: int) -> Float[np.ndarray, "player ..."]:
    """Exact Shapley values from the worth of every coalition, in the order of `coalitions`."""
    subsets = coalitions(players)
    sizes = subsets.sum(axis=1)
    weights = np.array([factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)])
    values = []
    for player in range(players):
        without = np.flatnonzero(~subsets[:, player])
        values.append(np.tensordot(weights[sizes[without]], worth[without + (1 << player)] - worth[without], 1))
    return np.stack(values)


def shapley(functional: Functional, start: Arrays, regions: Sequence[Region]) -> Attribution:
    """Exact Shapley values of regions that do not overlap."""
    players = len(regions)
    rows = replaced(functional.sample, start, regions, coalitions(players).tolist())
    worth = functional.values(rows)
    values, members = shapley_values(worth.mean, players), shapley_values(worth.members, players)
    difference = float(worth.mean[-1] - worth.mean[0])
    completeness = Completeness.of(values, difference, float(worth.mean[-1]), None)
    shapes = {name: np.shape(v) for name, v in start.items()}
    return _of_regions(shapes, values, members.T, regions, completeness)


FromBaseline = Callable[[Functional, Arrays, Sequence[Region]], Attribution]
FROM_BASELINE: dict[str, FromBaseline] = {
    "integrated_gradients": integrated_gradients, "occlusion": occlusion, "shapley": shapley,
}  # fmt: skip


def averaged(method: str, functional: Functional, baseline: Baseline, regions: Sequence[Region]) -> Attribution:
    """The mean attribution over all baselines, and the standard deviation of its regions over them."""
    found = [FROM_BASELINE[method](functional, baseline.one(index), regions) for index in range(baseline.count)]
    if len(found) == 1:
        return found[0]

    def mean(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        known = [part for part in parts if part is not None]
        return np.mean(known, axis=0) if known else None

    maps = {name: np.mean([one.maps[name] for one in found], axis=0) for name in found[0].maps}
    members = {name: mean([one.member_maps[name] for one in found if one.member_maps]) for name in found[0].maps}
    known = {name: values for name, values in members.items() if values is not None}
    values = np.stack([one.regions for one in found])
    sums = [one.completeness for one in found if one.completeness]
    worst = max(sums, key=lambda c: (not c.holds, c.relative or 0.0), default=None)
    return Attribution(
        maps, values.mean(axis=0), known or None, mean([one.member_regions for one in found]), worst,
        values.std(axis=0, ddof=1),
    )  # fmt: skip
