"""NetCDF answers: what xarray reads back, and what the CF checkers say about it."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from api.encodings import netcdf
from models.surrogate import Question
from tests import small_surrogates as small

CHECKER = Path(__file__).parent / "cf_checker.py"
HALF_DIGITS = 3.5e-4  # √ε of float32, in which data are stored
QUESTION = Question(
    quantiles=(0.025, 0.1, 0.5, 0.9),
    thresholds={"velocity": (0.5,), "temperature": (15.0,), "depth": (0.1, 0.5), "maximum_depth": (0.5,)},
)
KINDS = {
    "trajectory": (small.trajectory, small.trajectory_inputs),
    "stations": (small.stations, small.station_inputs),
    "terrain": (small.terrain, small.terrain_inputs),
}


def predicted(kind, count=1, question=QUESTION, members=False, change=None):
    make, draw = KINDS[kind]
    surrogate, inputs = make(), draw(count)
    if change is not None:
        change(inputs)
    answer = surrogate.predict(inputs, question)
    return netcdf.encode_answer(surrogate, inputs, answer, "r-1", members), answer


def forecast(kind, count=1, members=False):
    make, draw = KINDS[kind]
    surrogate, inputs = make(), draw(count)
    found = small.forecast_of(surrogate, inputs, QUESTION)
    return netcdf.encode_forecast(surrogate, inputs, *found, "r-1", members), found


@pytest.fixture
def opened(tmp_path):
    """A function from bytes to a data set, as a client opens it."""
    sets = []

    def open_bytes(content):
        path = tmp_path / f"{len(sets)}.nc"
        path.write_bytes(content)
        sets.append(xarray.open_dataset(path, decode_timedelta=False))
        return sets[-1]

    yield open_bytes
    for data in sets:
        data.close()


def darcy_file(darcy, generator):
    medium = np.where(generator.random((1, 85, 85)) < 0.5, 3.0, 12.0)
    inputs = {"permeability": medium}
    answer = darcy.predict(inputs, Question(quantiles=(0.1, 0.9), thresholds={"pressure": (0.01,)}))
    return netcdf.encode_answer(darcy, inputs, answer, "r-1"), answer


def test_steady_field_has_its_axes(darcy, generator, opened):
    content, answer = darcy_file(darcy, generator)
    data = opened(content)
    assert data["pressure"].dims == ("x", "y")
    np.testing.assert_allclose(data["x"], np.linspace(0, 1, 85), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(data["pressure"], answer.predictions["pressure"].mean[0])
    assert data["pressure"].attrs["units"] == "1"
    assert data["pressure"].encoding["zlib"] and data["pressure"].encoding["shuffle"]
    assert "_FillValue" not in data["x"].encoding


def test_band_says_its_level_and_kind(opened):
    content, answer = predicted("terrain")
    data = opened(content)
    lower = data["depth_lower"]
    np.testing.assert_allclose(lower, answer.bands["depth"].lower[0], rtol=HALF_DIGITS)
    assert lower.attrs["level"] == 0.9 and lower.attrs["kind"] == "statistical"
    assert "simultaneous 90 %" in lower.attrs["long_name"]
    assert set(data["depth"].attrs["ancillary_variables"].split()) <= set(data.variables)


def test_quantiles_and_probabilities(opened):
    content, answer = predicted("terrain")
    data = opened(content)
    law = answer.distributions["depth"]
    np.testing.assert_allclose(data["depth_p10"], law.quantiles[0.1][0], rtol=HALF_DIGITS)
    assert "depth_p02_5" in data
    for number, threshold in ((1, 0.1), (2, 0.5)):
        found = data[f"probability_of_depth_above_threshold_{number}"]
        np.testing.assert_allclose(found, law.exceedance[threshold][0], rtol=HALF_DIGITS)
        assert float(found.coords[f"depth_threshold_{number}"]) == threshold
        assert found.coords[f"depth_threshold_{number}"].attrs["units"] == "m"
    assert "probability_of_maximum_depth_above_threshold" in data


def test_forecast_of_stations_is_dated_and_named(opened):
    content, (_, frames, _) = forecast("stations")
    data = opened(content)
    assert data["temperature"].dims == ("time", "station")
    expected = np.datetime64("2025-11-24T16:00") + np.array([1, 2, 3]) * np.timedelta64(1, "h")
    np.testing.assert_array_equal(data["time"], expected.astype("datetime64[ns]"))
    np.testing.assert_array_equal(data["forecast_period"], [1.0, 2.0, 3.0])
    assert data["forecast_period"].attrs["units"] == "h"
    assert data["forecast_reference_time"].values == np.datetime64("2025-11-24T16:00")
    assert tuple(data["station_name"].values) == small.STATIONS
    np.testing.assert_array_equal(data["temperature"][1], frames[1].predictions["temperature"].mean[0])
    assert data["temperature"].attrs["standard_name"] == "air_temperature"


def test_batch_of_dated_forecasts_has_two_dimensional_times(opened):
    data = opened(forecast("stations", count=2)[0])
    assert data["temperature"].dims == ("sample", "forecast_period", "station")
    assert data["time"].dims == ("sample", "forecast_period")
    assert data["time"].values[1, 0] - data["time"].values[0, 0] == np.timedelta64(1, "h")


def test_trajectory_keeps_its_lead_times(opened):
    content, (found, frames, _) = forecast("trajectory", count=2)
    data = opened(content)
    assert data["velocity"].dims == ("sample", "lead_time", "x")
    np.testing.assert_array_equal(data["lead_time"], found.lead_times)
    assert data["lead_time"].attrs["units"] == "1" and "standard_name" not in data["lead_time"].attrs
    np.testing.assert_array_equal(data["velocity"][:, 3], frames[3].predictions["velocity"].mean)
    upper = frames[3].distributions["velocity"].quantiles[0.9]
    np.testing.assert_allclose(data["velocity_p90"][:, 3], upper, rtol=HALF_DIGITS, atol=HALF_DIGITS)


def test_prediction_at_one_time_says_which(opened):
    data = opened(predicted("trajectory")[0])
    assert data["velocity"].dims == ("x",)
    assert float(data["velocity"].coords["lead_time"]) == 0.25


def test_fields_without_lead_time_stand_beside_the_others(opened):
    data = opened(forecast("terrain")[0])
    assert data["depth"].dims == ("lead_time", "y", "x") and data["maximum_depth"].dims == ("y", "x")
    assert data["lead_time"].attrs == {
        "standard_name": "forecast_period",
        "long_name": "time since the start",
        "units": "s",
    }
    assert data["y"].attrs["standard_name"] == "projection_y_coordinate"


def test_members_only_on_request(opened):
    content, answer = predicted("terrain", members=True)
    assert "depth_member" not in opened(predicted("terrain")[0])
    data = opened(content)
    assert data["depth_member"].dims == ("realization", "lead_time", "y", "x")
    np.testing.assert_array_equal(data["depth_member"], answer.predictions["depth"].members[0])
    assert opened(predicted("terrain", 2, members=True)[0])["depth_member"].dims[:2] == ("realization", "sample")


def test_outside_the_domain_nothing_is_claimed(opened):
    def leave(inputs):
        inputs["elevation"][1] += small.OUTSIDE

    data = opened(predicted("terrain", 2, change=leave)[0])
    claims = ["depth_lower", "depth_upper", "depth_p50", "probability_of_depth_above_threshold_1"]
    for name in claims:
        assert np.isfinite(data[name][0]).all() and np.isnan(data[name][1]).all()
    assert np.isfinite(data["depth"]).all() and np.isfinite(data["depth_standard_deviation"]).all()
    np.testing.assert_array_equal(data["in_domain"], [1, 0])
    assert json.loads(data.attrs["surrogate_validity"])[1]["reasons"] == ["too large"]


def test_provenance_and_statements_travel_along(opened):
    content, answer = predicted("trajectory", 2)
    attributes = opened(content).attrs
    assert attributes["Conventions"] == "CF-1.8, ACDD-1.3"
    assert attributes["source"] == "DL surrogate decay v2"
    assert attributes["model_sha256"] == 64 * "0" and attributes["request_id"] == "r-1"
    said = json.loads(attributes["surrogate_statements"])
    assert [s["sample"] for s in said] == [0] * len(answer.statements[0]) + [1] * len(answer.statements[1])
    assert said[-1]["kind"] == "statistical" and said[-1]["value"] == answer.statements[1][-1].value


def test_without_calibration_there_is_only_the_mean_and_its_spread(opened):
    make, draw = KINDS["trajectory"]
    surrogate, inputs = make(), draw(1)
    object.__setattr__(surrogate, "calibrations", {})
    answer = surrogate.predict(inputs, QUESTION)
    data = opened(netcdf.encode_answer(surrogate, inputs, answer, "r-1"))
    written = {name for name in data.data_vars if name.startswith("velocity")}
    assert written == {"velocity", "velocity_standard_deviation"}


def checked(files):
    command = [sys.executable, "-W", "ignore", str(CHECKER), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_checker_finds_nothing(kind, count, tmp_path):
    files = [tmp_path / "answer.nc", tmp_path / "forecast.nc"]
    files[0].write_bytes(predicted(kind, count)[0])
    files[1].write_bytes(forecast(kind, count)[0])
    status, report = checked(files)
    assert status == 0, report
    assert re.findall(r"WARNINGS given: (\d+)", report) == ["0", "0"], report


def test_checker_finds_nothing_in_a_steady_field(darcy, generator, tmp_path):
    (tmp_path / "darcy.nc").write_bytes(darcy_file(darcy, generator)[0])
    status, report = checked([tmp_path / "darcy.nc"])
    assert status == 0 and "WARNINGS given: 0" in report, report


def test_members_only_add_the_warning_about_bounds(tmp_path):
    # `realization: mean` beside a dimension of that name: an index of members has no bounds
    (tmp_path / "members.nc").write_bytes(forecast("stations", members=True)[0])
    status, report = checked([tmp_path / "members.nc"])
    warned = set(re.findall(r"WARN: (.*)", report))
    assert status == 0 and warned <= {
        "(7.3): Coordinate variable realization should have bounds or climatology attribute"
    }, report


def test_checker_complains_about_broken_units(monkeypatch, tmp_path):
    monkeypatch.setattr(netcdf, "udunits", lambda _: "furlongs squared")
    (tmp_path / "broken.nc").write_bytes(predicted("stations")[0])
    status, report = checked([tmp_path / "broken.nc"])
    assert status > 0, report


def test_second_checker_agrees(tmp_path):
    (tmp_path / "forecast.nc").write_bytes(forecast("stations")[0])
    code = (
        "import sys; from compliance_checker.runner import ComplianceChecker, CheckSuite;"
        "CheckSuite.load_all_available_checkers();"
        "sys.exit(not ComplianceChecker.run_checker([sys.argv[1]], ['cf:1.8'], 0, 'lenient', output_format='text',"
        " output_filename='-')[0])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "forecast.nc")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cf:1.8" in done.stdout and "Errors" not in done.stdout


def test_many_statements_fit(opened):
    _, answer = predicted("trajectory")
    make, draw = KINDS["trajectory"]
    many = replace(answer, statements=(answer.statements[0] * 1000,))
    data = opened(netcdf.encode_answer(make(), draw(1), many, "r-1"))
    assert len(json.loads(data.attrs["surrogate_statements"])) == 1000 * len(answer.statements[0])


@pytest.mark.parametrize(("probability", "name"), [(0.1, "p10"), (0.05, "p05"), (0.025, "p02_5"), (0.999, "p99_9")])
def test_names_of_quantiles(probability, name):
    assert netcdf.quantile_name(probability) == name
