"""Seventeen years of hourly MERRA-2 at four points, from the package that ships them.

The PyPI package `brightwind` 2.7.0 (MIT; data: NASA MERRA-2, open) holds one CSV file per point, 2000-01-01 to 2017-06-30,
153,384 hours without a gap. The files are read; the package is never imported.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from models.catalog.site_weather.spec import STATIONS

PACKAGE = "brightwind"
FILE = "MERRA-2_{point}_2000-01-01_2017-06-30.csv"
FIRST_HOUR = 262_968  # 2000-01-01T00:00Z in hours since 1970
HOURS = 153_384
COLUMNS = ("wind_speed", "wind_direction", "air_temperature", "surface_pressure")


class DataMissing(RuntimeError):
    """The package with the series is not installed."""

    def __init__(self) -> None:
        super().__init__(
            f"Expected the package {PACKAGE} 2.7.0, which ships the MERRA-2 series, got none. Install it with "
            f"`pip install --no-deps {PACKAGE}==2.7.0` (33 MB; only training needs it)."
        )


@dataclass(frozen=True)
class Series:
    """Hourly values by variable, (hour, station) in float32; hour 0 is FIRST_HOUR."""

    values: dict[str, np.ndarray]


def is_available() -> bool:
    """Whether the data package is installed."""
    return find_spec(PACKAGE) is not None


@cache
def load() -> Series:
    """Read the four files, once per process.

    Raises DataMissing, ValueError when the files are not the ones this entry was written for.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise DataMissing
    folder = Path(found.origin).parent / "demo_datasets"
    tables = [
        np.loadtxt(folder / FILE.format(point=p), delimiter=",", skiprows=1, usecols=(1, 2, 3, 4)) for p in STATIONS
    ]
    for point, rows in zip(STATIONS, tables, strict=True):
        if len(rows) != HOURS:
            raise ValueError(f"Expected {HOURS} hours at {point}, got {len(rows)}. Install {PACKAGE} 2.7.0.")
    stacked = np.stack(tables, axis=1).astype(np.float32)
    return Series({name: np.ascontiguousarray(stacked[:, :, k]) for k, name in enumerate(COLUMNS)})
