"""A store of the WeatherBench 2 / ERA5 schema, read by dimension name and a piece of time at a time.

Zarr 2 or 3, consolidated or not, or one NetCDF file. Whatever the order of dimensions and the direction of latitude in
the store, values come as (time, latitude, longitude) with both coordinates ascending. A piece is one chunk of the store
along time; as many as fit in CACHE_BYTES stay in memory.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray

from training.weatherbench_recipe import Variable

DIMENSIONS = ("time", "level", "latitude", "longitude")
EPOCH = np.datetime64("1970-01-01T00", "s")
HOUR = np.timedelta64(3600, "s")
CACHE_BYTES = 256 * 2**20
SPACING_TOLERANCE = 1e-3  # of a grid step: coordinates stored in single precision
SHOWN = 5


def _open(path: Path) -> xarray.Dataset:
    if path.is_file():
        return xarray.open_dataset(path, decode_timedelta=False, cache=False)
    if not path.is_dir():
        raise FileNotFoundError(f"Expected a Zarr store or NetCDF file, got nothing at '{path.name}'. Correct `store`.")
    try:
        return xarray.open_dataset(
            path, engine="zarr", consolidated=_is_consolidated(path), decode_timedelta=False, cache=False
        )
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected a Zarr store in '{path.name}', got a folder that is none. Correct `store`."
        ) from error


def _is_consolidated(path: Path) -> bool:
    """Zarr 2 keeps consolidated metadata in a file of its own, Zarr 3 inside the group's."""
    group = path / "zarr.json"
    if group.exists():
        return json.loads(group.read_text(encoding="utf-8")).get("consolidated_metadata") is not None
    return (path / ".zmetadata").exists()


class Store:
    """An opened store; nothing but coordinates is read before it is asked for.

    Raises FileNotFoundError, ValueError when coordinates or dimensions are not of the schema.
    """

    def __init__(self, path: Path, variables: Iterable[Variable], static: Iterable[Variable]) -> None:
        self.data, self.name = _open(path), path.name
        variables, static = tuple(variables), tuple(static)
        self._check_coordinates()
        for variable in (*variables, *static):
            self._check_variable(variable, variable in static)
        self.times = self.data["time"].values.astype("datetime64[s]")
        self.step_hours = self._regular_step()
        self.latitude, self.longitude = (np.sort(self.data[k].values.astype(np.float64)) for k in DIMENSIONS[2:])
        self._rows, self._columns = (np.argsort(self.data[k].values) for k in DIMENSIONS[2:])
        for name, values in (("latitude", self.latitude), ("longitude", self.longitude)):
            _check_uniform(name, values)
        grid = 4 * len(self.latitude) * len(self.longitude)
        largest = max((self._piece_length(v) for v in variables), default=1)
        self._piece = lru_cache(max(2 * len(variables), CACHE_BYTES // (grid * largest)))(self._read_piece)

    @property
    def hours(self) -> np.ndarray:
        """Times as hours since 1970-01-01T00:00Z."""
        return (self.times - EPOCH) / HOUR

    @property
    def is_periodic(self) -> bool:
        """Whether the longitudes go round the globe."""
        step = self.longitude[1] - self.longitude[0]
        return bool(abs(len(self.longitude) * step - 360.0) < 0.01 * step)

    def _check_coordinates(self) -> None:
        missing = [name for name in ("time", "latitude", "longitude") if name not in self.data.coords]
        if missing:
            found = ", ".join(str(name) for name in self.data.coords)
            raise ValueError(
                f"Expected coordinates time, latitude and longitude, got {found or 'none'} in '{self.name}'. Rename "
                "them in the store."
            )
        if not np.issubdtype(self.data["time"].dtype, np.datetime64):
            kind = self.data["time"].dtype
            raise ValueError(
                f"Expected times as dates, got {kind}. Give `time` CF units such as hours since 1970-01-01."
            )

    def _check_variable(self, variable: Variable, static: bool) -> None:
        if variable.name not in self.data:
            found = ", ".join(sorted(str(name) for name in self.data.data_vars))
            raise ValueError(
                f"Expected the variable {variable.name} in '{self.name}', got {found}. Correct the recipe."
            )
        dimensions = set(self.data[variable.name].dims)
        expected = {"latitude", "longitude"} | ({"level"} if variable.level is not None else set())
        expected |= set() if static else {"time"}
        if dimensions != expected:
            raise ValueError(
                f"Expected {variable} with dimensions {_listed(expected)}, got {_listed(dimensions)}. "
                + _remedy(dimensions, expected)
            )
        if variable.level is not None:
            levels = self.data["level"].values
            if not np.any(np.abs(levels - variable.level) < 0.5):
                listed = ", ".join(f"{value:g}" for value in levels)
                raise ValueError(f"Expected level {variable.level} hPa of {variable.name}, got {listed}. Choose one.")

    def _regular_step(self) -> int:
        """Hours between times."""
        if len(self.times) < 2:
            raise ValueError(f"Expected many times in '{self.name}', got {len(self.times)}. Give a longer store.")
        gaps = np.diff(self.times)
        values, counts = np.unique(gaps, return_counts=True)
        step = values[counts.argmax()]
        odd = np.flatnonzero(gaps != step)
        if len(odd) or step < HOUR or step % HOUR:
            listed = ", ".join(f"{gaps[i] / HOUR:g} h after {self.times[i]}" for i in odd[:SHOWN])
            more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
            raise ValueError(
                f"Expected times a whole number of hours apart and regular, got steps of {step / HOUR:g} h with "
                f"{len(odd)} others: {listed or 'none'}{more}. Fill the gaps, or cut the store before or after them."
            )
        return int(step / HOUR)

    def _piece_length(self, variable: Variable) -> int:
        """Times per piece."""
        return max(1, int(self.data[variable.name].encoding.get("preferred_chunks", {}).get("time", 1)))

    def _select(self, variable: Variable) -> xarray.DataArray:
        found = self.data[variable.name]
        if variable.level is None:
            return found
        return found.isel(level=int(np.abs(self.data["level"].values - variable.level).argmin()))

    def _read_piece(self, variable: Variable, number: int) -> np.ndarray:
        length = self._piece_length(variable)
        part = self._select(variable).isel(time=slice(number * length, (number + 1) * length))
        return self._ascending(part.transpose("time", "latitude", "longitude").values)

    def _ascending(self, values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values[..., self._rows[:, None], self._columns], dtype=np.float32)

    def read(self, variable: Variable, indices: Iterable[int]) -> np.ndarray:
        """Values at some times, (time, latitude, longitude)."""
        length = self._piece_length(variable)
        return np.stack([self._piece(variable, index // length)[index % length] for index in map(int, indices)])

    def read_static(self, variable: Variable) -> np.ndarray:
        """A field without time, (latitude, longitude)."""
        return self._ascending(self._select(variable).transpose("latitude", "longitude").values)

    def attribute(self, name: str, key: str) -> str | None:
        """A text attribute of a variable."""
        value = self.data[name].attrs.get(key)
        return value if isinstance(value, str) else None


def _listed(names: Iterable[str]) -> str:
    known = [name for name in DIMENSIONS if name in names]
    return ", ".join([*known, *sorted(str(name) for name in set(names) - set(DIMENSIONS))])


def _remedy(found: Iterable[str], expected: Iterable[str]) -> str:
    extra = set(found) - set(expected)
    if "prediction_timedelta" in extra:
        return "This is a store of forecasts: give one of analyses, whose `time` is the valid time."
    if extra & {"number", "realization"}:
        return "This is a store of ensembles: choose one member and write it to a store of its own."
    if "level" in extra:
        return "Name a level, such as geopotential@500."
    if "level" in expected and "level" not in found:
        return "Leave the level away."
    return "Rename or select dimensions in the store."


def _check_uniform(name: str, values: np.ndarray) -> None:
    steps = np.diff(values)
    if len(values) < 2 or steps.min() <= 0 or np.ptp(steps) > SPACING_TOLERANCE * steps.mean() + 1e-4:
        low, high = (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 0.0)
        raise ValueError(
            f"Expected an evenly spaced {name}, got {len(values)} nodes {low:g} to {high:g} degrees apart. Regrid the "
            "store to an equiangular grid (Gauss grids are not supported)."
        )
