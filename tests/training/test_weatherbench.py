"""A user's own ERA5-schema store: read the same however it is laid out, checked, trained on, served."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from zarr.errors import ZarrUserWarning

from models.fields import LEAD_TIME
from models.forecast import Forecast, choose_lead_times
from models.physical_model import PhysicalModel
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Question, Surrogate
from training import calibrate, cluster, command_line, dataset, derivatives, export, fit, publish, sources
from training.architectures.state_unet import StateUNet
from training.fit import build_network
from training.weatherbench_checks import scan
from training.weatherbench_recipe import PERIODS, Variable, read
from training.weatherbench_scores import REACH, Climatology, Judge, anomaly_correlation, area_mean, area_weights, rmse
from training.weatherbench_store import HOUR, Store
from training.weatherbench_variables import plausible_range

STEP = 6
VARIABLES = ("temperature", "geopotential")
RECIPE = """
name = "toy_weather"
title = "An advected wave"
licence = "Generated data."
store = "{store}"
variables = ["temperature@850", "geopotential@500"]
static = ["land_sea_mask"]
step_hours = 6
steps = 2
{extra}
[periods]
fit = [2001-01-01, 2001-04-10]
validation = [2001-04-21, 2001-07-29]
calibration = [2001-08-09, 2003-01-08]
test = [2003-01-19, 2003-03-10]
gap_days = {gap}
minimum_years = {years}

[windows]
validation = 12
tune = 30
calibration = 60
test = 30

[training]
epochs = 2
augment = ["zonal_shift"]

[network]
channels_1 = 12
channels_2 = 16
channels_3 = 16
blocks = 0
bottom_blocks = 1
"""
SMALL_TIMES, LONG_TIMES = 60, 3220
ROUNDING = 1e-6  # of weights made in double precision, relative
ADJOINT = 1e-5  # relative, float32: measured 1e-7 to 2e-6
NETWORK_ROUNDING = 1e-4  # of float32 sums over a network, relative to values of order one


def weather(times: int, rows: int, columns: int) -> xarray.Dataset:
    """Waves that travel east, plus noise; latitude ascending, as (time, level, latitude, longitude)."""
    generator = np.random.default_rng(0)
    step = np.arange(times)[:, None, None, None]
    latitude = -90.0 + 180.0 / rows * (np.arange(rows) + 0.5)
    longitude = 360.0 / columns * np.arange(columns)
    cosine, angle = np.cos(np.deg2rad(latitude))[:, None], np.deg2rad(longitude)
    wave = cosine * (np.cos(2 * angle - 0.35 * step) + 0.5 * np.cos(3 * angle - 0.6 * step + 1.0))
    wave = wave + 0.02 * generator.normal(size=(times, 2, rows, columns))
    dimensions = ("time", "level", "latitude", "longitude")
    values = {
        "temperature": 250.0 + 20.0 * cosine + 8.0 * wave,
        "geopotential": np.array([5.4e4, 1.3e4])[:, None, None] + 800.0 * wave,
    }
    fields = {name: (dimensions, v.astype(np.float32)) for name, v in values.items()}
    land = generator.uniform(size=(rows, columns)).astype(np.float32)
    dates = np.datetime64("2001-01-01T00", "ns") + STEP * np.arange(times) * np.timedelta64(1, "h")
    coordinates = {"time": dates, "level": [500, 850], "latitude": latitude, "longitude": longitude}
    return xarray.Dataset({**fields, "land_sea_mask": (dimensions[2:], land)}, coordinates)


def write(data: xarray.Dataset, store: Path, zarr_format: int = 3, consolidated: bool = False, chunk: int = 1) -> Path:
    chunks = {name: (chunk, *data[name].shape[1:]) for name in VARIABLES if name in data and "time" in data[name].dims}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # consolidated metadata is no part of Zarr 3, and widespread
        data.to_zarr(
            store, zarr_format=zarr_format, consolidated=consolidated, mode="w",
            encoding={name: {"chunks": size} for name, size in chunks.items()},
        )  # fmt: skip
    return store


def write_recipe(
    folder: Path, store: Path, gap: float = 10, years: float = 0.2, extra: str = "", **changes: str
) -> Path:
    text = RECIPE.format(store=store.name, gap=gap, years=years, extra=extra)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    return file


def changed(file: Path, *pairs: tuple[str, str]) -> Path:
    """The recipe with some words exchanged, beside the original."""
    text = file.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    other = file.with_name(f"changed-{abs(hash(pairs))}.toml")
    other.write_text(text, encoding="utf-8")
    return other


@pytest.fixture(scope="module")
def small() -> xarray.Dataset:
    return weather(SMALL_TIMES, 32, 64)


@pytest.fixture(scope="module")
def long() -> xarray.Dataset:
    return weather(LONG_TIMES, 16, 32)


@pytest.fixture(scope="module")
def recipe_file(long, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    return write_recipe(folder, write(long, folder / "long.zarr", chunk=100))


@pytest.fixture(scope="module")
def model(recipe_file) -> PhysicalModel:
    return sources.load(f"weatherbench:{recipe_file}")


@pytest.fixture(scope="module")
def fitted(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "full"
    folder.mkdir()
    recipe = model.recipes["full"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "run", lambda function, tasks, _: map(function, tasks))
        dataset.sample(model, recipe, folder / "data", None)
    fit.fit(model, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def served(model, fitted) -> Surrogate:
    recipe = model.recipes["full"]
    export.export(model, recipe, fitted)
    calibrate.calibrate(model, recipe, fitted)
    return load_surrogate(publish.publish(model, recipe, fitted, fitted / "zoo", "1", False), RuntimeOptions())


LAYOUTS: dict[str, tuple[Callable[[xarray.Dataset], xarray.Dataset], dict[str, Any]]] = {
    "zarr 2": (lambda d: d, {"zarr_format": 2}),
    "zarr 2, consolidated": (lambda d: d, {"zarr_format": 2, "consolidated": True}),
    "zarr 3": (lambda d: d, {"zarr_format": 3}),
    "zarr 3, consolidated": (lambda d: d, {"zarr_format": 3, "consolidated": True}),
    "longitude before latitude": (lambda d: d.transpose("time", "level", "longitude", "latitude"), {}),
    "longitude first, zarr 2": (lambda d: d.transpose("time", "level", "longitude", "latitude"), {"zarr_format": 2}),
    "latitude descends": (lambda d: d.isel(latitude=slice(None, None, -1)), {"zarr_format": 2}),
    "latitude descends, longitude first": (
        lambda d: d.isel(latitude=slice(None, None, -1)).transpose("time", "level", "longitude", "latitude"), {}),
    "several times per chunk": (lambda d: d, {"chunk": 7}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(small, tmp_path, layout):
    arrange, options = LAYOUTS[layout]
    store = Store(
        write(arrange(small), tmp_path / "s.zarr", **options),
        [Variable("temperature", 850), Variable("geopotential", 500)], [Variable("land_sea_mask", None)],
    )  # fmt: skip
    chosen = [0, 9, 31]
    for name, level in (("temperature", 850), ("geopotential", 500)):
        expected = small[name].sel(level=level).values[chosen]
        np.testing.assert_array_equal(store.read(Variable(name, level), chosen), expected)
    np.testing.assert_array_equal(store.read_static(Variable("land_sea_mask", None)), small["land_sea_mask"].values)
    np.testing.assert_array_equal(store.latitude, small["latitude"].values)
    assert (store.step_hours, store.is_periodic) == (STEP, True)
    assert store.hours[1] == (np.datetime64("2001-01-01T06") - np.datetime64("1970-01-01T00")) / np.timedelta64(1, "h")


def test_a_netcdf_file_gives_the_same_arrays(small, tmp_path):
    small.to_netcdf(tmp_path / "s.nc", engine="scipy")
    store = Store(tmp_path / "s.nc", [Variable("temperature", 500)], [])
    np.testing.assert_array_equal(store.read(Variable("temperature", 500), [3])[0], small["temperature"].values[3, 0])


def test_area_weights_have_mean_one_and_are_those_of_the_bands():
    for latitude in (np.linspace(-87.1875, 87.1875, 32), np.linspace(-90, 90, 121), np.linspace(35.0, 60.0, 26)):
        weights = area_weights(latitude)
        assert weights.mean() == pytest.approx(1.0, rel=1e-14)
        middle = len(latitude) // 2
        ratio = np.cos(np.deg2rad(latitude[middle])) / np.cos(np.deg2rad(latitude[1]))
        assert weights[middle] / weights[1] == pytest.approx(ratio, rel=1e-12)
    # bounds at ±90°, 0° and ±45° between nodes at ±67.5° and ±22.5°: sines 0, ½√2, 1
    np.testing.assert_allclose(area_weights(np.array([-67.5, -22.5, 22.5, 67.5])), 2 * np.array(
        [1 - 0.5**0.5, 0.5**0.5, 0.5**0.5, 1 - 0.5**0.5]), rtol=1e-14)  # fmt: skip


def test_no_window_leaves_its_period_and_periods_keep_their_gap(model, recipe_file):
    periods = read(recipe_file).periods
    reach = model.lead_times.stop
    seen = {}
    for name, split in {**model.recipes["full"].splits, "unseen": model.recipes["full"].unlabelled}.items():
        inputs = [model.draw(split.seed, i, 16, split.family)["reference_time"] for i in range(split.count)]
        first = np.datetime64("1970-01-01T00", "s") + np.array(inputs).astype(int) * HOUR
        assert len(np.unique(first)) == split.count
        seen[name] = (first, first + (0 if name == "unseen" else int(reach)) * HOUR)
        if name != "unseen":
            period = periods[split.family.partition(" ")[0]]
            assert seen[name][0].min() >= period.start
            assert seen[name][1].max() < period.stop
    for name, (first, last) in seen.items():
        if name != "train":
            distance = np.abs(first[:, None] - seen["train"][1])
            before = np.abs(seen["train"][0][:, None] - last)
            assert min(distance.min(), before.min()) >= np.timedelta64(10, "D"), name
    test_times = np.concatenate([seen["test"][0], seen["held_out"][0]])
    for name in ("validation", "tune", "calibration", "unseen"):
        assert np.abs(seen[name][1][:, None] - test_times).min() >= np.timedelta64(10, "D")


def test_a_pair_is_a_state_and_the_states_after_it(model, long):
    inputs, truths = model.pair(3, 7, 16, model.recipes["full"].splits["calibration"].family)
    start = np.datetime64("1970-01-01T00", "ns") + int(inputs["reference_time"]) * np.timedelta64(1, "h")
    for name, variable, level in (("temperature_850", "temperature", 850), ("geopotential_500", "geopotential", 500)):
        series = long[variable].sel(level=level)
        np.testing.assert_array_equal(inputs[name], series.sel(time=start).values)
        for index, lead in enumerate((6, 12)):
            np.testing.assert_array_equal(
                truths[name][index], series.sel(time=start + np.timedelta64(lead, "h")).values
            )


def test_fields_say_what_they_are(model):
    inputs, outputs = model.inputs(16), model.outputs(16)
    assert [(f.name, f.role) for f in inputs] == [
        ("geopotential_500", "initial_state"), ("temperature_850", "initial_state"), ("land_sea_mask", "static"),
        ("reference_time", "reference_time"),
    ]  # fmt: skip
    assert [axis.name for axis in outputs[0].axes] == [LEAD_TIME, "latitude", "longitude"]
    assert (inputs[1].units, inputs[1].standard_name) == ("K", "air_temperature")
    assert inputs[0].axes[1].periodic
    np.testing.assert_array_equal(outputs[0].axes[0].coordinates, [6.0, 12.0])


REFUSED = {
    "unknown variable": ([("temperature@850", "humidity@850")], "the variable humidity .*got geopotential, land_sea_mask"),
    "unknown level": ([("temperature@850", "temperature@700")], "level 700 hPa of temperature, got 500, 850"),
    "level forgotten": ([("temperature@850", "temperature")], "dimensions time, latitude, longitude.*Name a level"),
    "level of a surface field": ([('"land_sea_mask"', '"land_sea_mask@500"')], "Leave the level away"),
    "not a multiple": ([("step_hours = 6", "step_hours = 9")], "multiple of the 6 h between times.*got 9"),
    "outside the store": ([("2003-03-10", "2004-03-10")], "test within the store's .*got 2003-01-19 to 2004-03-10"),
    "gap too short": ([("2001-04-21", "2001-04-15")], "at least 10 days between periods, got 4 days between fit"),
    "overlap": ([("2001-08-09", "2001-07-20")], "got an overlap of validation"),
    "too few years": ([("minimum_years = 0.2", "minimum_years = 2")], r"at least 2 years to fit, got 0\.27"),
    "too short a period": ([("2003-01-19, 2003-03-10", "2003-01-19, 2003-01-22")], "at least 20 forecasts of 12 h in test"),
    "too little for validity": ([("2003-01-08", "2001-12-31")], "at least 2400 times in validation and calibration"),
    "implausible": ([("steps = 2", 'steps = 2\nplausible = {"temperature@850" = [300, 310]}')],
                    r"temperature@850 in \[300, 310\] K, got 2.*Convert the store to K"),
    "unknown key": ([("title =", "tittle =")], "got tittle. Remove"),
    "missing key": ([("step_hours = 6", "")], "Expected step_hours in the recipe, got none"),
    "wrong type": ([("epochs = 2", 'epochs = "2"')], "a whole number as epochs in .training., got '2'"),
    "no steps": ([("steps = 2", "steps = 0")], "steps of at least 1, got 0"),
    "unknown augmentation": ([("zonal_shift", "mirror")], r"among zonal_shift, got \['mirror'\]"),
    "bad variable": ([("temperature@850", "temperature@high")], "name@level, got 'temperature@high'"),
    "bad period": ([("[2001-01-01, 2001-04-10]", '["soon", "later"]')], "Expected dates such as 2015-12-31 for fit"),
    "traced batch": ([("steps = 2", "steps = 7")], "Expected steps other than 7"),
    "no store": ([("long.zarr", "other.zarr")], "nothing at 'other.zarr'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_that_does_not_fit_is_refused_with_a_remedy(recipe_file, name):
    pairs, message = REFUSED[name]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sources.load(f"weatherbench:{changed(recipe_file, *pairs)}").inputs(16)


def missing_share(data: xarray.Dataset, share: float) -> xarray.Dataset:
    values = data["temperature"].values.copy()
    values[np.random.default_rng(1).uniform(size=values.shape) < share] = np.nan
    return data.assign(temperature=(data["temperature"].dims, values))


SPOILED: dict[str, tuple[Callable[[xarray.Dataset], xarray.Dataset], str]] = {
    "gap in time": (lambda d: d.isel(time=[i for i in range(SMALL_TIMES) if i != 20]), "12 h after 2001-01-05T18:00:00"),
    "repeated time": (lambda d: d.isel(time=[0, *range(SMALL_TIMES)]), "1 others: 0 h after 2001-01-01"),
    "forecast store": (lambda d: d.expand_dims(prediction_timedelta=[0, 6]), "a store of forecasts"),
    "ensemble store": (lambda d: d.expand_dims(number=2), "a store of ensembles"),
    "other names": (lambda d: d.rename(latitude="lat", longitude="lon"), "coordinates time, latitude and longitude, got"),
    "uneven latitudes": (lambda d: d.isel(latitude=[0, 1, 2, 4, 5, 6, 8, 9]), "evenly spaced latitude"),
    "time of a static field": (lambda d: d.assign(land_sea_mask=d["temperature"].isel(level=0, drop=True)),
                               "land_sea_mask with dimensions latitude, longitude, got time"),
    "times that are numbers": (lambda d: d.assign_coords(time=np.arange(SMALL_TIMES)), "times as dates, got int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_store_of_another_shape_is_refused_with_a_remedy(small, tmp_path, name):
    spoil, message = SPOILED[name]
    store = write(spoil(small), tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=message):
        Store(store, [Variable("temperature", 850)], [Variable("land_sea_mask", None)])


@pytest.mark.parametrize(("factor", "message"), [
    (1 / 9.81, r"geopotential@500 in \[45000, 60000\] m2 s-2, got 5\d{3}"), (1.0, None)])  # fmt: skip
def test_units_are_checked_by_plausible_ranges(small, tmp_path, factor, message):
    spoiled = small.assign(geopotential=small["geopotential"] * np.float32(factor))
    recipe = read(write_recipe(tmp_path, write(spoiled, tmp_path / "s.zarr")))
    store = Store(recipe.store, recipe.variables, recipe.static)
    if message is None:
        scan(recipe, store)
        return
    with pytest.raises(ValueError, match=message):
        scan(recipe, store)


def test_ranges_of_geopotential_follow_the_level():
    assert plausible_range("geopotential", 500) == pytest.approx((4.5e4, 6.0e4))
    low, high = plausible_range("geopotential", 600)
    assert 2.1e4 < low < 4.5e4 < high < 6e4
    assert plausible_range("my_own", None) is None


def test_few_missing_values_are_filled_and_many_are_refused(small, tmp_path):
    few = missing_share(small, 0.002)
    recipe = read(write_recipe(tmp_path, write(few, tmp_path / "s.zarr")))
    means = scan(recipe, Store(recipe.store, recipe.variables, recipe.static))
    expected = np.nanmean(few["temperature"].sel(level=850).values, axis=0)
    np.testing.assert_allclose(means["temperature_850"], expected, rtol=ROUNDING)
    write(missing_share(small, 0.02), tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=r"at most 1% of temperature@850 missing, got 2\.\d%"):
        scan(recipe, Store(recipe.store, recipe.variables, recipe.static))


def test_scores_of_a_perfect_and_a_shifted_forecast():
    generator = np.random.default_rng(2)
    truth, weights = generator.normal(size=(5, 3, 8, 16)), area_weights(np.linspace(-78.75, 78.75, 8))
    normal = np.zeros_like(truth)
    np.testing.assert_allclose(anomaly_correlation(truth, truth, normal, weights), 1.0)
    np.testing.assert_allclose(anomaly_correlation(-truth, truth, normal, weights), -1.0)
    np.testing.assert_allclose(rmse(truth + 2.0, truth, weights), 2.0)
    # the time mean is taken before the root: errors of 1 and 3 give √5, not 2
    error = np.array([1.0, 3.0])[:, None, None, None] * np.ones((2, 1, 8, 16))
    np.testing.assert_allclose(rmse(error, 0.0 * error, weights), np.sqrt(5.0))


def test_climatology_is_by_day_and_hour_and_smooth():
    hours = np.arange(0, 24 * 365 * 3, 6.0)
    yearly = np.cos(2 * np.pi * hours / (24 * 365.25)) + np.where(hours % 24 == 12, 5.0, 0.0)
    normal = Climatology([(hours, yearly[:, None, None])], (1, 1), 6)
    found = normal.at(hours)[:, 0, 0]
    # smoothing with triangular weights over ±31 days damps the annual wave by sinc²(31/365.25) ≈ 0.976
    assert np.abs(found - yearly).max() < 0.04
    assert normal.at(np.array([[12.0, 36.0]])).shape == (1, 2, 1, 1)


def test_climatology_of_days_never_seen_is_the_mean():
    hours = np.arange(0, 24.0 * 10, 6.0)
    normal = Climatology([(hours, np.full((len(hours), 1, 1), 3.0))], (1, 1), 6)
    far = 24.0 * (10 + REACH + 100)
    np.testing.assert_allclose(normal.at(np.array([far]))[0, 0, 0], 3.0)


def test_damped_persistence_lies_between_its_parents():
    generator = np.random.default_rng(3)
    times, shape = 24.0 * np.arange(400), (4, 8)
    first = generator.normal(size=(400, *shape))
    later = 0.5 * first + np.sqrt(0.75) * generator.normal(size=first.shape)
    inputs, truths = {"t": first, "reference_time": times}, {"t": later[:, None]}
    zero = Climatology([(times, np.zeros((400, *shape)))], shape, 24)
    judge = Judge({"t": "K"}, (24,), np.ones(4), lambda: {"t": zero}, lambda: (inputs, truths))
    assert judge.damping["t"][0] == pytest.approx(0.5, abs=0.02)
    scores = judge.comparison(inputs, truths, {}, truths)["RMSE t 24 h, K"]
    assert scores["surrogate"] == 0.0
    # 1, 1 and √¾ by construction, up to the noise of 12,800 values
    assert scores["damped persistence"] == pytest.approx(0.75**0.5, rel=0.03)
    assert scores["damped persistence"] < scores["climatology"] == pytest.approx(1.0, rel=0.03)
    assert scores["persistence"] == pytest.approx(1.0, rel=0.03)


def network_inputs(model: PhysicalModel, count: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    pairs = [model.pair(0, i, 16, model.training_family) for i in range(count)]
    inputs, truths = (
        {k: torch.from_numpy(np.stack([p[part][k] for p in pairs])) for k in pairs[0][part]} for part in (0, 1)
    )
    return inputs, truths


@pytest.fixture
def network(model) -> StateUNet:
    torch.manual_seed(0)
    built = build_network(model.recipes["full"])
    assert isinstance(built, StateUNet)
    built.absorb(*network_inputs(model, 20))
    return built


def test_an_untrained_network_is_persistence(model, network):
    inputs, truths = network_inputs(model, 4)
    with torch.no_grad():
        found = network(*(inputs[f.name] for f in model.inputs(16)))
    assert len(found) == 4
    np.testing.assert_allclose(found[0][:, 1, 1], inputs["geopotential_500"], rtol=ROUNDING)
    members, mean = network.errors(*network.prepare(inputs, truths))
    np.testing.assert_allclose(mean.detach(), 1.0, rtol=1e-3)
    assert members.shape == (4,)


def test_the_network_turns_with_the_earth(model, network):
    """Everything shifted in longitude, sun included, shifts the forecast: no seam, no preferred meridian."""
    torch.nn.init.normal_(network.project.weight, std=0.3)
    prepared = network.prepare(*network_inputs(model, 2))
    state, fixed, longitude, time, _ = (t[:, None] for t in prepared)
    turned = [t.roll(4, -1) for t in (state, fixed, longitude)]  # the grid is halved twice
    with torch.no_grad():
        plain, _ = network.rollout(state, fixed, longitude, time[:, :], 2)
        other, _ = network.rollout(*turned, time[:, :], 2)
    torch.testing.assert_close(other, plain.roll(4, -1), rtol=NETWORK_ROUNDING, atol=NETWORK_ROUNDING)


def test_augmentation_turns_states_and_truths_together(model, network):
    prepared = network.prepare(*network_inputs(model, 3))
    batch = tuple(torch.stack([t, t]) for t in prepared)
    state, fixed, longitude, _, later = network.augment(batch, torch.Generator().manual_seed(1))
    for member in range(2):
        shift = next(k for k in range(32) if torch.equal(state[member], prepared[0].roll(k, -1)))
        assert torch.equal(later[member], prepared[4].roll(shift, -1))
        assert torch.equal(fixed[member], prepared[1].roll(shift, -1))
        assert torch.equal(longitude[member], prepared[2].roll(shift, -1))


def test_whole_rollouts_are_trained_at_the_end(model, network):
    batch = tuple(torch.stack([t, t]) for t in network.prepare(*network_inputs(model, 2)))
    lengths = []
    plain = network.rollout
    network.rollout = lambda *given: lengths.append(given[-1]) or plain(*given)
    for taken in (0, network.updates - 1):
        network.taken.fill_(taken)
        assert network.loss(*batch).shape == (2,)
    assert lengths == [1, 2]


@pytest.mark.slow
def test_training_falls_below_persistence(fitted):
    log = [json.loads(line) for line in (fitted / "fit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["ensemble"] < 0.9  # persistence is 1


@pytest.mark.slow
def test_the_bundle_forecasts_with_bands_of_each_lead_time(model, served):
    inputs = {k: np.asarray(v)[None] for k, v in model.draw(5, 3, 16, model.held_out[0]).items()}
    forecast = Forecast(served, inputs, choose_lead_times(served.lead_times, None, None, 10), Question())
    frames = list(forecast.frames())
    assert [frame.lead_time for frame in frames] == [6.0, 12.0]
    assert forecast.validity[0].in_domain, forecast.validity[0].reasons
    first, second = ({s.quantity: s.value for s in frame.statements[0]} for frame in frames)
    assert all(first[name] < second[name] for name in ("geopotential_500", "temperature_850"))
    assert frames[0].predictions["temperature_850"].mean.shape == (1, 16, 32)
    assert {s.kind for s in forecast.summary().statements[0]} == {"none"}


@pytest.mark.slow
def test_the_served_forecast_beats_persistence_climatology_and_their_mixture(model, served, fitted):
    inputs, truths = dataset.load(fitted / "data", "test")
    means = {name: p.mean for name, p in served.run(inputs).items()}
    scores, others = model.scores(inputs, means, {}, truths), model.comparison(inputs, means, {}, truths)
    row = others["RMSE temperature_850 6 h, K"]
    assert min(row, key=row.get) == "surrogate"
    assert {name: row["surrogate"] for name, row in others.items()} == {
        name: value for name, value in scores.items() if name.startswith("RMSE")
    }
    error = means["temperature_850"].astype(float) - truths["temperature_850"]
    bias = area_mean(error, area_weights(np.linspace(-84.375, 84.375, 16))).mean(axis=0)
    assert scores["bias temperature_850 12 h, K"] == pytest.approx(bias[1])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_derivative_graphs_take_any_batch_and_are_adjoint(model, served, generator, count):
    samples = [model.draw(5, i, 16, model.held_out[0]) for i in range(count)]
    inputs = {k: np.stack([np.asarray(s[k]) for s in samples]) for k in samples[0]}
    tangents = {k: generator.normal(size=v.shape).astype(np.float32) for k, v in inputs.items()}
    members, pushed = served.jvp(inputs, tangents)
    cotangents = {k: generator.normal(size=v.shape).astype(np.float32) for k, v in members.items()}
    again, pulled = served.vjp(inputs, cotangents)
    left = sum(float(np.vdot(cotangents[k], v)) for k, v in pushed.items())
    right = sum(float(np.vdot(v, tangents[k])) for k, v in pulled.items())
    sizes = (np.sqrt(sum(float(np.square(v).sum()) for v in part.values())) for part in (cotangents, pushed))
    assert abs(left - right) < ADJOINT * np.prod(list(sizes))
    for name, prediction in served.run(inputs).items():
        np.testing.assert_allclose(members[name], prediction.members, rtol=ADJOINT)
        np.testing.assert_allclose(again[name], prediction.members, rtol=ADJOINT)


def test_second_derivatives_of_grouped_convolutions_keep_the_batch_free():
    """torch's own fix it to the batch of the example: a served graph would then take seven samples or none."""
    kernel, spread = torch.randn(6, 1, 3, 3), torch.randn(6, 2, 2, 2)

    def function(field: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inner = torch.nn.functional.conv2d(torch.sin(field), kernel, torch.ones(6), padding=1, groups=6)
        return (torch.nn.functional.conv_transpose2d(torch.sin(inner), spread, stride=2, groups=3),)

    field, tangent = torch.randn(2, derivatives.EXAMPLE_BATCH, 6, 8, 10).unbind()
    traced = derivatives.trace(derivatives.push(function, 1), field, tangent)
    found, derivative = traced(field[:3], tangent[:3])
    expected = torch.func.jvp(function, (field[:3],), (tangent[:3],))
    torch.testing.assert_close((found, derivative), (expected[0][0], expected[1][0]))


@pytest.mark.slow
def test_a_static_field_other_than_the_trained_one_is_out_of_domain(model, served):
    inputs = {k: np.asarray(v) for k, v in model.draw(5, 3, 16, model.held_out[0]).items()}
    inputs["land_sea_mask"] = inputs["land_sea_mask"][::-1]
    verdict = served.domain.assess(inputs, None)
    assert not verdict.in_domain


def test_the_command_checks_a_store_without_training(recipe_file, tmp_path, capsys):
    command_line.main(["weatherbench", str(recipe_file), "--stages", "--runs", str(tmp_path)])
    assert "checked: temperature@850, geopotential@500 every 6 h up to 12 h ahead" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Expected a recipe file"):
        command_line.main(["weatherbench", str(tmp_path / "none.toml"), "--stages"])


def test_periods_are_those_the_page_names():
    page = (Path(__file__).resolve().parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page or f"\n{name} =" in page for name in PERIODS)


def test_the_example_of_the_page_is_a_recipe(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    (tmp_path / "example.toml").write_text(example, encoding="utf-8")
    recipe = read(tmp_path / "example.toml")
    assert recipe.steps * recipe.step_hours == 24
