"""The recipe file of a weather model trained on a user's own store, read from TOML and checked; nothing is opened here.

The keys are those of the dataclasses below: `Recipe file` at the top, then one table per section.
"""

import datetime
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

PERIODS = ("fit", "validation", "calibration", "test")
AUGMENTATIONS = ("zonal_shift",)
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Section = TypeVar("Section")


@dataclass(frozen=True)
class Variable:
    """A variable of the store, on one pressure level (hPa) where it has levels."""

    name: str
    level: int | None

    @classmethod
    def from_text(cls, text: str) -> "Variable":
        """From `name` or `name@level`.

        Raises ValueError.
        """
        name, mark, level = text.partition("@")
        if not name or (mark and not level.isdigit()):
            raise ValueError(
                f"Expected a variable as name or name@level, got '{text}'. An example is geopotential@500."
            )
        return cls(name, int(level) if mark else None)

    @property
    def field(self) -> str:
        """Name of the input and output field."""
        return self.name if self.level is None else f"{self.name}_{self.level}"

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}@{self.level}"


@dataclass(frozen=True)
class Period:
    """Times from `start` on and before `stop`."""

    start: np.datetime64
    stop: np.datetime64

    @property
    def years(self) -> float:
        """Length in years of 365.25 days."""
        return float((self.stop - self.start) / np.timedelta64(1, "D")) / 365.25

    def __str__(self) -> str:
        return f"{self.start.astype('datetime64[D]')} to {(self.stop - 1).astype('datetime64[D]')}"


@dataclass(frozen=True)
class Windows:
    """How many windows of a period are used at most; those of `fit` all, one starting every `every_hours` (0: every time)."""

    every_hours: int = 0
    validation: int = 100
    tune: int = 200
    calibration: int = 500
    test: int = 300


@dataclass(frozen=True)
class Training:
    """Length and kind of training."""

    members: int = 2
    epochs: int = 20
    batch: int = 8
    seed: int = 0
    augment: tuple = ()


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of the network: channels of its three levels, blocks; the share of training on single steps."""

    channels_1: int = 48
    channels_2: int = 64
    channels_3: int = 96
    blocks: int = 1
    bottom_blocks: int = 2
    scale_weight: float = 0.05
    one_step_share: float = 0.7


@dataclass(frozen=True)
class WeatherRecipe:
    """A recipe file; see docs/own_data.md for every key."""

    file: Path
    name: str
    title: str
    licence: str
    store: Path
    variables: tuple[Variable, ...]
    static: tuple[Variable, ...]
    step_hours: int
    steps: int
    periods: Mapping[str, Period]
    gap_days: float
    minimum_years: float
    windows: Windows
    training: Training
    network: NetworkSizes
    plausible: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class _Top:
    name: str
    title: str
    licence: str
    store: str
    variables: tuple
    step_hours: int
    steps: int
    periods: dict
    static: tuple = ()
    windows: dict | None = None
    training: dict | None = None
    network: dict | None = None
    plausible: dict | None = None


@dataclass(frozen=True)
class _Periods:
    fit: tuple
    validation: tuple
    calibration: tuple
    test: tuple
    gap_days: float = 10.0
    minimum_years: float = 2.0


def _section(kind: type[Section], table: Mapping[str, Any], where: str) -> Section:
    """A dataclass from a table of the file; unknown and missing keys and wrong types are refused."""
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"Expected keys among {', '.join(known)} in {where}, got {', '.join(unknown)}. Remove them.")
    missing = [name for name, item in known.items() if item.default is MISSING and name not in table]
    if missing:
        raise ValueError(f"Expected {', '.join(missing)} in {where}, got none. Add what is missing.")
    values = {name: _typed(value, known[name].type, f"{name} in {where}") for name, value in table.items()}
    return kind(**values)


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    allowed = dict if kind == dict | None else kind
    if not isinstance(value, allowed) or isinstance(value, bool):
        names = {str: "text", int: "a whole number", float: "a number", tuple: "a list", dict: "a table"}
        raise ValueError(f"Expected {names[allowed]} as {where}, got {value!r}. Correct the recipe.")  # noqa: TRY004
    return value


def read(file: Path) -> WeatherRecipe:
    """Read a recipe file; paths in it are relative to its folder.

    Raises FileNotFoundError, ValueError.
    """
    if not file.is_file():
        raise FileNotFoundError(f"Expected a recipe file, got no file '{file.name}'. Give the path of a TOML file.")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"Expected TOML in {file.name}, got text that is not: {error}. Correct it.") from error
    top = _section(_Top, document, "the recipe")
    periods = _section(_Periods, top.periods, "[periods]")
    recipe = WeatherRecipe(
        file, top.name, top.title, top.licence, file.parent / top.store,
        tuple(Variable.from_text(str(text)) for text in top.variables),
        tuple(Variable.from_text(str(text)) for text in top.static), top.step_hours, top.steps,
        {name: _period(getattr(periods, name), name) for name in PERIODS}, periods.gap_days, periods.minimum_years,
        _section(Windows, top.windows or {}, "[windows]"), _section(Training, top.training or {}, "[training]"),
        _section(NetworkSizes, top.network or {}, "[network]"),
        {name: _range(value, name) for name, value in (top.plausible or {}).items()},
    )  # fmt: skip
    _check(recipe)
    return recipe


def _period(given: tuple, name: str) -> Period:
    """Two years, or two dates, the last one included."""
    years = all(isinstance(value, int) for value in given)
    dates = all(isinstance(value, str | datetime.date) for value in given)
    if len(given) != 2 or not (years or dates):
        raise ValueError(f"Expected {name} in [periods] as two years or two dates, got {list(given)}. Correct it.")
    unit = "Y" if years else "D"
    try:
        first, last = (np.datetime64(str(value), unit) for value in given)
    except ValueError as error:
        raise ValueError(f"Expected dates such as 2015-12-31 for {name}, got {list(given)}. Correct them.") from error
    if last < first:
        raise ValueError(f"Expected {name} to end after it starts, got {list(given)}. Exchange the two.")
    return Period(first.astype("datetime64[s]"), (last + 1).astype("datetime64[s]"))


def _range(value: Any, name: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not value[0] < value[1]:
        raise ValueError(f"Expected [lowest, highest] for {name} in [plausible], got {value}. Correct it.")
    return float(value[0]), float(value[1])


def _check(recipe: WeatherRecipe) -> None:
    if not NAME.fullmatch(recipe.name):
        raise ValueError(f"Expected a name of a–z, 0–9 and _, got '{recipe.name}'. It becomes part of addresses.")
    if not recipe.variables or len({v.field for v in recipe.variables}) != len(recipe.variables):
        listed = ", ".join(str(v) for v in recipe.variables)
        raise ValueError(f"Expected one or more different variables, got [{listed}]. Correct the list.")
    counts = {
        "step_hours": recipe.step_hours, "steps": recipe.steps, "members": recipe.training.members,
        "epochs": recipe.training.epochs, "batch": recipe.training.batch,
    }  # fmt: skip
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"Expected {name} of at least 1, got {value}. Correct the recipe.")
    unknown = [name for name in recipe.training.augment if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(f"Expected augmentations among {', '.join(AUGMENTATIONS)}, got {unknown}. Remove the others.")
    _check_gaps(recipe)


def _check_gaps(recipe: WeatherRecipe) -> None:
    """No two periods come closer than the gap: weather remembers itself for days."""
    order = sorted(recipe.periods.items(), key=lambda item: item[1].start)
    for (name, period), (following, other) in pairwise(order):
        days = float((other.start - period.stop) / np.timedelta64(1, "h")) / 24.0
        if days < recipe.gap_days:
            got = f"{days:g} days between" if days >= 0 else "an overlap of"
            raise ValueError(
                f"Expected at least {recipe.gap_days:g} days between periods, got {got} {name} ({period}) and "
                f"{following} ({other}). Move one of them, or lower gap_days."
            )
    years = recipe.periods["fit"].years
    if years < recipe.minimum_years - 0.01:
        raise ValueError(
            f"Expected at least {recipe.minimum_years:g} years to fit, got {years:.2f} ({recipe.periods['fit']}). "
            "Lengthen the period, or lower minimum_years."
        )
