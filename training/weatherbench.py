"""A weather model of a user's own store, described by a recipe file: the physical model that the pipeline trains.

    x(t + step) = x(t) + σ N(x(t), static fields, calendar),   repeated `steps` times

Fields are in the store's units; the network standardises them. Inputs and outputs are in alphabetical order, states
before static fields before the reference time. Families are the recipe's periods with their dates: `fit`, `validation`
(from which bands are tuned, too), `calibration`, `test`; and `unseen`, the initial states of validation and calibration,
which describe the domain. A window belongs to the period that holds its first and its last time.
"""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from models.fields import LEAD_TIME, Axis, Field, LeadTimes, Role
from models.physical_model import Arrays, PhysicalModel, Recipe, Split
from models.statements import Statement, nothing
from training.sources import RECIPE_FILE
from training.weatherbench_checks import Starts, accepted_range, check_grid, scan, starts, units
from training.weatherbench_recipe import Variable, WeatherRecipe, read
from training.weatherbench_scores import Climatology, Judge, area_weights
from training.weatherbench_store import Store
from training.weatherbench_variables import KNOWN

ARCHITECTURE = "state_unet"
REFERENCE_TIME = "reference_time"
UNSEEN = "unseen"
WEEK = 168.0
WINDOW_BYTES = 2**29  # of training samples held in memory
DAMPING_WINDOWS = 200
PRINCIPAL_COMPONENTS = 40
NO_BOUND = "a network trained on analyses: nothing is known of the equations it solves, so there is no bound"


class Windows:
    """Windows of the store by family: a state and the states at the lead times after it, missing values replaced."""

    def __init__(self, recipe: WeatherRecipe, store: Store) -> None:
        self.recipe, self.store = recipe, store
        check_grid(recipe, store)
        self.starts: Starts = starts(recipe, store)
        self.means = scan(recipe, store)
        self.states = tuple(sorted(recipe.variables, key=lambda v: v.field))
        self.static = tuple(sorted(recipe.static, key=lambda v: v.field))
        self._static = {v.field: self._filled(v, store.read_static(v)) for v in self.static}
        stride = recipe.step_hours // store.step_hours
        self._ahead = stride * np.arange(1, recipe.steps + 1)

    def family(self, period: str) -> str:
        """Name of the family of a period: with other dates they are other samples."""
        return f"{period} {self.recipe.periods[period]}"

    def _filled(self, variable: Variable, values: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(values), values, self.means[variable.field])

    def index(self, seed: int, index: int, family: str) -> int:
        """Where sample `index` starts: windows to fit in order of time, others in an order drawn with the seed."""
        period = family.partition(" ")[0]
        found = self.starts.inputs if period == UNSEEN else self.starts.windows[period]
        order = found if period == "fit" else _shuffled(tuple(found.tolist()), seed)
        return int(order[index % len(order)])

    def draw(self, seed: int, index: int, _points: int, family: str) -> Arrays:
        """An initial state with the static fields and its time."""
        start = self.index(seed, index, family)
        inputs = {v.field: self._filled(v, self.store.read(v, [start])[0]) for v in self.states}
        return inputs | self._static | {REFERENCE_TIME: np.float32(self.store.hours[start])}

    def pair(self, seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
        """The same, and the states at the lead times."""
        later = self.index(seed, index, family) + self._ahead
        return self.draw(seed, index, points, family), {
            v.field: self._filled(v, self.store.read(v, later)) for v in self.states
        }

    def some(self, count: int) -> tuple[Arrays, Arrays]:
        """Windows spread at random over the period to fit."""
        known = self.starts.windows["fit"]
        chosen = np.sort(np.random.default_rng(0).permutation(len(known))[:count])
        pairs = [self.pair(0, int(i), 0, "fit") for i in chosen]
        inputs, truths = ({k: np.stack([p[part][k] for p in pairs]) for k in pairs[0][part]} for part in (0, 1))
        return inputs, truths

    def climatologies(self) -> dict[str, Climatology]:
        """Climatology of every variable over the period to fit, read in order of time."""
        known, period = self.store.times, self.recipe.periods["fit"]
        inside = np.flatnonzero((known >= period.start) & (known < period.stop))
        shape = (len(self.store.latitude), len(self.store.longitude))
        pieces = np.array_split(inside, max(1, len(inside) // 64))
        return {
            v.field: Climatology(
                ((self.store.hours[p], self._filled(v, self.store.read(v, p))) for p in pieces),
                shape,
                self.store.step_hours,
            )
            for v in self.states
        }


@lru_cache(64)
def _shuffled(values: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.array(values))


@lru_cache(4)
def load(file: Path) -> PhysicalModel:
    """The physical model of a recipe file, once its store has passed every check.

    Raises FileNotFoundError, ValueError.
    """
    recipe = read(file)
    windows = Windows(recipe, Store(recipe.store, recipe.variables, recipe.static))
    leads = tuple(recipe.step_hours * k for k in range(1, recipe.steps + 1))
    judge = Judge(
        {v.field: units(windows.store, v) for v in windows.states}, leads, area_weights(windows.store.latitude), windows.climatologies,
        partial(windows.some, DAMPING_WINDOWS),
    )  # fmt: skip
    return PhysicalModel(
        name=recipe.name, title=recipe.title, domain="environment", time="forecast", licence=recipe.licence,
        equation=f"x(t + {recipe.step_hours} h) = x(t) + σ N(x(t), static fields, calendar), repeated",
        description=_description(recipe, windows.store), source=f"{RECIPE_FILE}{file.resolve()}",
        truth=lambda _points: f"the analysis in the store {windows.store.name}",
        inputs=lambda _points: _inputs(windows), outputs=lambda _points: _outputs(windows),
        families=(*map(windows.family, recipe.periods), UNSEEN), training_family=windows.family("fit"),
        held_out=(windows.family("test"),),
        draw=windows.draw, pair=windows.pair, cases=(), recipes={"full": _recipe(windows)},
        statements=lambda _inputs, outputs: _statements(windows, tuple(outputs)),
        baseline={v.field: float(windows.means[v.field].mean(dtype=np.float64)) for v in windows.states},
        stored_residuals=(), lead_times=LeadTimes("h", float(leads[0]), float(leads[-1]), len(leads)),
        blocks=lambda inputs: np.floor(np.asarray(inputs[REFERENCE_TIME], dtype=np.float64) / WEEK).astype(int),
        scores=judge.scores, comparison=judge.comparison, notes=_notes(recipe),
    )  # fmt: skip


def _description(recipe: WeatherRecipe, store: Store) -> str:
    names = ", ".join(str(v) for v in recipe.variables)
    grid = f"{len(store.latitude)} latitudes × {len(store.longitude)} longitudes"
    return f"{names} every {recipe.step_hours} h up to {recipe.steps * recipe.step_hours} h ahead, on {grid}."


def _notes(recipe: WeatherRecipe) -> str:
    spans = "; ".join(f"{name} {period}" for name, period in recipe.periods.items())
    return (
        f"Periods: {spans}. Baselines: persistence, climatology and damped persistence of the fitted period. Forecasts "
        "that start within days of each other are not independent: the coverage of bands holds on average over a period "
        "like that of calibration."
    )


def _statements(windows: Windows, outputs: tuple[str, ...]) -> tuple[Statement, ...]:
    truth = f"the analysis in the store {windows.store.name}"
    return tuple(nothing(name, "l2", truth, NO_BOUND) for name in outputs)


def _grid(store: Store) -> tuple[Axis, Axis]:
    latitude, longitude = store.latitude, store.longitude
    return (
        Axis("latitude", "degrees_north", len(latitude), float(latitude[0]), float(latitude[-1]), standard_name="latitude"),
        Axis("longitude", "degrees_east", len(longitude), float(longitude[0]), float(longitude[-1]),
             standard_name="longitude", periodic=store.is_periodic),
    )  # fmt: skip


def _field(windows: Windows, variable: Variable, axes: tuple[Axis, ...], role: Role, limited: bool) -> Field:
    known = KNOWN.get(variable.name)
    words = (windows.store.attribute(variable.name, "long_name") or variable.name).replace("_", " ")
    text = words[:1].upper() + words[1:] + ("." if variable.level is None else f" at {variable.level} hPa.")
    symbol = (known.symbol if known else variable.name) + ("" if variable.level is None else str(variable.level))
    low, high = (accepted_range(windows.recipe, variable) if limited else None) or (None, None)
    standard_name = known.standard_name if known else windows.store.attribute(variable.name, "standard_name") or ""
    unit = units(windows.store, variable)
    return Field(variable.field, symbol, unit, text, axes, low, high, role=role, standard_name=standard_name)


def _inputs(windows: Windows) -> tuple[Field, ...]:
    grid = _grid(windows.store)
    time = Field(REFERENCE_TIME, "t", "hours since 1970-01-01T00:00Z", "Time of the initial state.", (),
                 role="reference_time", standard_name="forecast_reference_time")  # fmt: skip
    states = (_field(windows, v, grid, "initial_state", True) for v in windows.states)
    return (*states, *(_field(windows, v, grid, "static", True) for v in windows.static), time)


def _outputs(windows: Windows) -> tuple[Field, ...]:
    step, steps = windows.recipe.step_hours, windows.recipe.steps
    times = Axis(LEAD_TIME, "h", steps, float(step), float(step * steps))
    return tuple(_field(windows, v, (times, *_grid(windows.store)), "field", False) for v in windows.states)


def _recipe(windows: Windows) -> Recipe:
    """The training run: every window to fit, as many of the others as the file says."""
    file, known = windows.recipe, windows.starts.windows
    counts, sizes, training = file.windows, file.network, file.training
    grid = len(windows.store.latitude) * len(windows.store.longitude)
    sample = 4 * grid * (len(windows.states) * (1 + file.steps) + len(windows.static))

    def split(seed: int, wanted: int, period: str) -> Split:
        return Split(seed, min(wanted, len(known[period])), windows.family(period))

    return Recipe(
        points=len(windows.store.latitude),
        splits={
            "train": split(0, len(known["fit"]), "fit"), "validation": split(1, counts.validation, "validation"),
            "test": split(2, counts.test, "test"), "calibration": split(3, counts.calibration, "calibration"),
            "tune": split(4, counts.tune, "validation"), "held_out": split(10, counts.test, "test"),
        },
        unlabelled=Split(20, len(windows.starts.inputs), UNSEEN), principal_components=PRINCIPAL_COMPONENTS,
        architecture=ARCHITECTURE, settings=vars(sizes) | _geometry(windows), members=training.members,
        epochs=training.epochs, batch=training.batch, seed=training.seed, window=max(1, WINDOW_BYTES // sample),
    )  # fmt: skip


def _geometry(windows: Windows) -> dict[str, int | float]:
    """What the network knows of the grid and of time."""
    file, store = windows.recipe, windows.store
    return {
        "variables": len(windows.states), "statics": len(windows.static), "steps": file.steps,
        "step_hours": file.step_hours, "rows": len(store.latitude), "columns": len(store.longitude),
        "south": float(store.latitude[0]), "north": float(store.latitude[-1]), "west": float(store.longitude[0]),
        "east": float(store.longitude[-1]), "periodic": int(store.is_periodic),
        "zonal_shift": int("zonal_shift" in file.training.augment),
    }  # fmt: skip
