"""Site forecasts: nothing leaks between periods, baselines are right, the data are what they should be."""

from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest

from models import catalog
from models.catalog.site_weather import reference, sampler, series, spec, summary

DATA = find_spec(series.PACKAGE) is not None
needs_data = pytest.mark.skipif(not DATA, reason="the data package is not installed")


def test_without_the_data_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(series, "find_spec", lambda _: None)
    series.load.cache_clear()
    with pytest.raises(series.DataMissing, match="pip install --no-deps brightwind"):
        sampler.draw(0, 0, 4, "2014")
    assert not series.is_available()


def test_examples_need_no_data_and_lie_in_the_declared_ranges():
    model = catalog.load("site_weather")
    for index in range(5):
        sample = sampler.draw(0, index, 4, "examples")
        for field in model.inputs(4):
            values = sample[field.name]
            assert values.shape == field.shape
            assert field.minimum <= values.min() and values.max() <= field.maximum


@needs_data
def test_no_hour_is_in_windows_of_two_periods():
    """First and last hour of the extreme windows: history of one period starts after the last truth of the one before."""
    spans = {}
    for period in ("2000-2012", "2013", "2014", "2015-2017"):
        count = sampler.windows(period)
        hours = np.array([sampler._reference_hour(0, index, period) for index in range(count)])
        assert len(np.unique(hours)) == count
        spans[period] = (hours.min() - spec.HISTORY + 1, hours.max() + spec.LEAD_TIMES.frames)
    ordered = sorted(spans.values())
    assert all(before[1] < after[0] for before, after in pairwise(ordered))
    assert spans["2015-2017"][1] == series.HOURS - 1


@needs_data
def test_every_recipe_trains_before_it_calibrates_and_calibrates_before_it_tests():
    for recipe in catalog.load("site_weather").recipes.values():
        periods = {name: sampler._hours(split.family) for name, split in recipe.splits.items()}
        assert periods["train"][1] <= periods["validation"][0] < periods["calibration"][0]
        assert periods["tune"][1] <= periods["calibration"][0]
        assert periods["calibration"][1] <= periods["test"][0] == periods["held_out"][0]
        fitted, counted = (sampler._hours(split.family) for split in (recipe.detectors, recipe.unlabelled))
        assert fitted[1] <= counted[0]
        assert counted[1] <= periods["calibration"][0]


@needs_data
def test_a_window_is_the_series_around_its_time():
    inputs, outputs = sampler.pair(3, 17, 4, "2014")
    now = int(inputs["reference_time"]) - series.FIRST_HOUR
    values = series.load().values["air_temperature"]
    np.testing.assert_array_equal(inputs["air_temperature"][-1], values[now])
    np.testing.assert_array_equal(outputs["air_temperature"][5], values[now + 6])
    assert np.datetime64(int(inputs["reference_time"]), "h").astype("datetime64[Y]") == np.datetime64("2014")


@pytest.mark.parametrize("period", sampler.PERIODS)
@pytest.mark.parametrize("count", [50, 500, 2000, 6000])
def test_the_first_few_windows_are_spread_over_the_period(period, count):
    total = sampler.windows(period)
    hours = np.sort([sampler._reference_hour(0, index, period) for index in range(count)])
    gaps = np.diff(np.append(hours, hours[0] + total))
    assert gaps.max() < 3.0 * total / count + 2  # no clumps: weather an hour apart is the same weather
    assert np.bincount(hours % 24, minlength=24).min() > 0.8 * count / 24


def test_all_windows_of_a_period_come_once():
    hours = {sampler._reference_hour(3, index, "2014") for index in range(sampler.windows("2014"))}
    assert len(hours) == sampler.windows("2014")


@needs_data
def test_months_and_last_value_of_the_baselines():
    assert reference.months(np.array([388_128.0])).tolist() == [3]  # 2014-04-12T00:00Z
    inputs, _ = sampler.pair(0, 0, 4, "2014")
    batch = {name: values[None] for name, values in inputs.items()}
    np.testing.assert_array_equal(reference._last(batch)[0, 1, 0], inputs["air_temperature"][-1])


def test_ridge_regression_recovers_a_persistent_anomaly(monkeypatch):
    """Synthetic windows whose future repeats the last anomaly: ridge regression finds it, damping is one."""
    generator = np.random.default_rng(5)

    def windows(period: str):
        hours = 300_000.0 + np.arange(2000) * 11.0
        level = generator.standard_normal((2000, 1, 4))
        noise = generator.standard_normal((4, 2000, 25, 4))
        inputs = {
            "wind_speed": 8 + noise[0], "wind_direction": 180 + 40 * noise[1], "air_temperature": 10 + level + 0 * noise[2],
            "surface_pressure": 1000 + noise[3], "reference_time": hours,
        }  # fmt: skip
        future = np.stack([8 + 0 * noise[0, :, :24], 10 + np.repeat(level, 24, axis=1), 1000 + 0 * noise[3, :, :24]], 1)
        yield inputs, future

    monkeypatch.setattr(reference, "_windows", windows)
    fitted = reference.fit("synthetic")
    inputs, future = next(windows("again"))
    means = fitted.means(inputs)
    error = np.abs(means["ridge regression"][:, 1] - future[:, 1])
    assert error.mean() < 0.05
    np.testing.assert_allclose(fitted.damping[1], 1.0, atol=0.05)
    np.testing.assert_allclose(means["persistence"][:, 1], future[:, 1], atol=1e-9)


def _stacked(count: int) -> dict[str, np.ndarray]:
    drawn = [sampler.draw(0, index, 4, "examples") for index in range(count)]
    return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def test_the_summary_names_every_number_and_is_finite_for_dead_sensors():
    inputs = _stacked(3)
    found = summary.numbers(inputs)
    assert found.shape == (3, len(summary.LABELS))
    dead = {name: np.full_like(values, values.flat[0]) for name, values in inputs.items()}
    dead["wind_speed"][:] = 0.0
    assert np.isfinite(summary.numbers(dead)).all()


def test_a_level_a_contrast_and_a_steady_sensor_are_the_numbers_they_are_called():
    inputs = _stacked(4)
    before, places = summary.numbers(inputs), {label: k for k, label in enumerate(summary.LABELS)}
    warmer = inputs | {"air_temperature": inputs["air_temperature"] + 8.0}
    change = summary.numbers(warmer) - before
    assert np.flatnonzero(np.abs(change).max(axis=0) > 1e-4).tolist() == [places["the mean of temperature"]]
    assert change[:, places["the mean of temperature"]] == pytest.approx(8.0, abs=1e-4)
    frozen = {name: values.copy() for name, values in inputs.items()}
    frozen["surface_pressure"][:, :, 1] = inputs["surface_pressure"][:, :1, 1]
    step = (summary.numbers(frozen) - before)[:, places["the hourly step of pressure at NW"]]
    assert step.max() < -5.0  # e-folds
