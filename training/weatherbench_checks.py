"""What is checked of a store before anything is trained: periods, missing values, units. Each refusal says what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.weatherbench_recipe import Period, Variable, WeatherRecipe
from training.weatherbench_store import HOUR, Store
from training.weatherbench_variables import KNOWN, plausible_range

SCANNED = 100  # times over which missing values and units are looked at
MOST_MISSING = 0.01
DETECTORS = 4  # of each input field, see models/validity.py
SMALLEST_P = 0.01
FEWEST_CASES = 20  # of a period, below which no 90 % band can be had
COARSENED = 4  # the network halves the grid twice
EXAMPLE_BATCH = 7  # see training/derivatives.py: no other size of a graph may equal it


@dataclass(frozen=True)
class Starts:
    """Indices of times at which windows of a period start; `inputs` need no later times in the store."""

    windows: Mapping[str, np.ndarray]
    inputs: np.ndarray


def starts(recipe: WeatherRecipe, store: Store) -> Starts:
    """Where windows start: each lies in its period with its last valid time.

    Raises ValueError when steps do not fit the store's, a period leaves the store, or has too few times.
    """
    if recipe.step_hours % store.step_hours:
        raise ValueError(
            f"Expected step_hours a multiple of the {store.step_hours} h between times in the store, got "
            f"{recipe.step_hours}. Choose another step."
        )
    _check_periods(recipe, store)
    every = recipe.windows.every_hours or store.step_hours
    if every < 0 or every % store.step_hours:
        raise ValueError(f"Expected every_hours a multiple of {store.step_hours}, got {every}. Choose another.")
    reach = recipe.steps * recipe.step_hours * HOUR
    found = {name: _inside(store, p, reach)[:: every // store.step_hours] for name, p in recipe.periods.items()}
    for name, indices in found.items():
        if len(indices) < FEWEST_CASES:
            raise ValueError(
                f"Expected at least {FEWEST_CASES} forecasts of {recipe.steps * recipe.step_hours} h in {name} "
                f"({recipe.periods[name]}), got {len(indices)}. Lengthen the period."
            )
    unseen = np.concatenate([_inside(store, recipe.periods[name], 0 * HOUR) for name in ("validation", "calibration")])
    _check_validity(recipe, len(unseen))
    return Starts(found, unseen)


def _inside(store: Store, period: Period, reach: np.timedelta64) -> np.ndarray:
    return np.flatnonzero((store.times >= period.start) & (store.times + reach < period.stop))


def _check_periods(recipe: WeatherRecipe, store: Store) -> None:
    first, last = store.times[0], store.times[-1] + store.step_hours * HOUR
    for name, period in recipe.periods.items():
        if period.start < first or period.stop > last:
            raise ValueError(
                f"Expected {name} within the store's {Period(first, last)}, got {period}. Correct the period."
            )


def _check_validity(recipe: WeatherRecipe, count: int) -> None:
    """The validity test of an input needs enough unseen inputs for its smallest p-value."""
    detectors = DETECTORS * (len(recipe.variables) + len(recipe.static))
    needed = int(2 * detectors / SMALLEST_P)
    if count < needed:
        raise ValueError(
            f"Expected at least {needed} times in validation and calibration together for {detectors // DETECTORS} "
            f"input fields (the p-value floor of validity), got {count}. Lengthen them, or give fewer fields."
        )


def check_grid(recipe: WeatherRecipe, store: Store) -> None:
    """What the network and its export ask of sizes.

    Raises ValueError.
    """
    columns = len(store.longitude)
    if store.is_periodic and columns % COARSENED:
        raise ValueError(
            f"Expected a multiple of {COARSENED} longitudes round the globe, got {columns}. Regrid the store."
        )
    if "zonal_shift" in recipe.training.augment and not store.is_periodic:
        raise ValueError("Expected zonal_shift for a global store only, got a regional one. Remove it from augment.")
    sizes = {"rows": len(store.latitude), "columns": columns, "steps": recipe.steps, "members": recipe.training.members}
    for name, size in sizes.items():
        if size == EXAMPLE_BATCH:
            raise ValueError(f"Expected {name} other than {EXAMPLE_BATCH}, got it: graphs are traced with that batch.")


def scan(recipe: WeatherRecipe, store: Store) -> dict[str, np.ndarray]:
    """Mean of every field over some times to fit, by cell: what replaces single missing values.

    Raises ValueError when too much is missing or values are not plausible in the expected unit.
    """
    period = recipe.periods["fit"]
    known = _inside(store, period, 0 * HOUR)
    generator = np.random.default_rng(0)
    everywhere = np.sort(generator.permutation(len(store.times))[:SCANNED])
    own = np.sort(generator.permutation(known)[:SCANNED])
    means = {}
    for variable in recipe.variables:
        _check_values(recipe, store, variable, store.read(variable, everywhere))
        means[variable.field] = _cell_means(store.read(variable, own))
    for variable in recipe.static:
        values = store.read_static(variable)[None]
        _check_values(recipe, store, variable, values)
        means[variable.field] = _cell_means(values)
    return means


def _cell_means(values: np.ndarray) -> np.ndarray:
    """Means over time; the mean of all where a cell is always missing."""
    present = np.isfinite(values)
    counts = present.sum(axis=0)
    filled = np.where(present, values, 0.0).astype(np.float64)
    means = np.where(counts > 0, filled.sum(axis=0) / np.maximum(counts, 1), filled.sum() / max(1, present.sum()))
    return means.astype(np.float32)


def _check_values(recipe: WeatherRecipe, store: Store, variable: Variable, values: np.ndarray) -> None:
    missing = float(1.0 - np.isfinite(values).mean())
    if missing > MOST_MISSING:
        raise ValueError(
            f"Expected at most {MOST_MISSING:.0%} of {variable} missing, got {missing:.1%} in {len(values)} times over "
            "the store. Leave the variable away, or fill it."
        )
    limits = accepted_range(recipe, variable)
    if limits is None:
        return
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < limits[0] or high > limits[1]:
        raise ValueError(
            f"Expected {variable} in [{limits[0]:g}, {limits[1]:g}] {units(store, variable)}, got {low:g} to {high:g}. "
            f"Convert the store to {units(store, variable)}, or widen the range in [plausible]."
        )


def accepted_range(recipe: WeatherRecipe, variable: Variable) -> tuple[float, float] | None:
    """The recipe's plausible range of a variable, or the known one."""
    given = recipe.plausible.get(str(variable)) or recipe.plausible.get(variable.name)
    return given or plausible_range(variable.name, variable.level)


def units(store: Store, variable: Variable) -> str:
    """Units of a variable: the known ones, or the store's.

    Raises ValueError when there are none.
    """
    if variable.name in KNOWN:
        return KNOWN[variable.name].units
    found = store.attribute(variable.name, "units")
    if found is None:
        raise ValueError(f"Expected a `units` attribute of {variable.name}, got none. Add it to the store.")
    return found
