"""Windows of the series: 25 hours of history and the 24 hours that followed, by period.

Families are periods of time; a window belongs to one when its first and its last hour do, so no hour is in windows of two
periods. "examples" are windows of 2015–2017 that ship with this folder, for services without the data package.
Window number `index` of a period is found by a stride through their number whose continued fraction has small quotients:
any first few are spread evenly over the whole period (three-gap theorem), and all of them together are all windows. `seed`
shifts the start.
"""

from functools import cache
from pathlib import Path

import numpy as np

from models.catalog.site_weather import series
from models.catalog.site_weather.spec import HISTORY, LEAD_TIMES
from models.physical_model import Arrays

EXAMPLES = Path(__file__).parent / "examples.npz"
PERIODS = {
    "2015-2017": ("2015-01-01", "2017-07-01"),
    "2014": ("2014-01-01", "2015-01-01"),
    "2013": ("2013-01-01", "2014-01-01"),
    "2000-2012": ("2000-01-01", "2013-01-01"),
    "2000-2013": ("2000-01-01", "2014-01-01"),
    "2000-2006": ("2000-01-01", "2007-01-01"),
    "2007-2013": ("2007-01-01", "2014-01-01"),
}
FAMILIES = (*PERIODS, "examples")
TARGETS = ("wind_speed", "air_temperature", "surface_pressure")


def _hours(period: str) -> tuple[int, int]:
    """First and one past the last hour, counted from the start of the series."""
    first, stop = (int(np.datetime64(day, "h").astype(int)) - series.FIRST_HOUR for day in PERIODS[period])
    return first, stop


def windows(period: str) -> int:
    """How many windows lie entirely in a period."""
    first, stop = _hours(period)
    return stop - first - (HISTORY - 1) - LEAD_TIMES.frames


def _largest_quotient(count: int, stride: int) -> int:
    """Largest quotient of the continued fraction of count / stride; `count` itself where they share a factor."""
    largest, dividend, divisor = 0, count, stride
    while divisor:
        quotient, remainder = divmod(dividend, divisor)
        largest, dividend, divisor = max(largest, quotient), divisor, remainder
    return largest if dividend == 1 else count


@cache
def _stride(count: int) -> int:
    """The stride from 0.6 to 0.65 of `count` that spreads best."""
    candidates = range(round(0.6 * count), round(0.65 * count) + 1)
    return min(candidates, key=lambda stride: _largest_quotient(count, stride))


def _reference_hour(seed: int, index: int, period: str) -> int:
    """The hour of the series that is `now` in a window."""
    count = windows(period)
    return _hours(period)[0] + HISTORY - 1 + (index * _stride(count) + seed * 7919) % count


@cache
def _examples() -> dict[str, np.ndarray]:
    with np.load(EXAMPLES, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def draw(seed: int, index: int, points: int, family: str) -> Arrays:
    """Window number `index` of a period.

    Raises series.DataMissing for every family but "examples" where the data package is not installed.
    """
    if family == "examples":
        stored = _examples()
        return {name: values[index % len(values)] for name, values in stored.items()}
    return _inputs(_reference_hour(seed, index, family))


def _inputs(now: int) -> Arrays:
    values = series.load().values
    found: Arrays = {name: values[name][now - HISTORY + 1 : now + 1] for name in series.COLUMNS}
    return found | {"reference_time": np.array(series.FIRST_HOUR + now, dtype=np.float32)}


def pair(seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
    """A window's inputs and what followed."""
    if family == "examples":
        now = int(_examples()["reference_time"][index % len(_examples()["reference_time"])]) - series.FIRST_HOUR
    else:
        now = _reference_hour(seed, index, family)
    values = series.load().values
    return _inputs(now), {name: values[name][now + 1 : now + 1 + LEAD_TIMES.frames] for name in TARGETS}


def write_examples(count: int = 48, seed: int = 99) -> None:
    """Write examples.npz anew from the series."""
    rows = [draw(seed, index, len(TARGETS), "2015-2017") for index in range(count)]
    np.savez_compressed(
        EXAMPLES, allow_pickle=False, **{name: np.stack([row[name] for row in rows]) for name in rows[0]}
    )


def week(inputs: Arrays) -> np.ndarray:
    """Number of the week of each window: windows of one week resemble each other."""
    return np.asarray(inputs["reference_time"].astype(np.int64) // 168)
