"""Forecasts over HTTP: frames, lead times, valid times, streams, files, and every odd request."""

import asyncio
import base64
import io
import json
import shutil
import struct
import threading

import httpx
import numpy as np
import pytest
import xarray
from PIL import Image

from api.app import create_app
from api.encodings import frames as binary
from api.settings import Settings
from models.repository import SHIPPED
from tests.api.test_errors import assert_problem

SLOW = 2.0  # seconds: longer than the first frame takes on a busy machine
BURGERS, FLOOD, WEATHER = (f"/v1/models/{name}" for name in ("burgers", "flood", "site_weather"))


def from_buffer(array: dict) -> np.ndarray:
    raw = base64.b64decode(array["data"]["buffer"])
    return np.frombuffer(raw, dtype=array["dtype"]).reshape(array["shape"])


def example(client: httpx.Client, url: str, seed: int = 0, **options: object) -> dict:
    body = client.get(f"{url}/example", params={"seed": seed, "encoding": "base64", "call": "forecast"}).json()
    return body | {"encoding": "base64"} | options


def changed(body: dict, name: str, values: np.ndarray) -> dict:
    raw = base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()
    array = {"shape": list(values.shape), "dtype": "float32", "data": {"buffer": raw, "encoding": "base64"}}
    return body | {"inputs": body["inputs"] | {name: array}}


def post(client: httpx.Client, url: str, body: dict, **headers: str) -> httpx.Response:
    return client.post(f"{url}/forecast", json=body, headers=headers)


def test_a_trajectory_at_any_lead_times(client):
    body = example(client, BURGERS, lead_times=[0.0, 0.123, 0.5, 1.0])
    answer = post(client, BURGERS, body).json()
    assert answer["lead_times"] == {"units": "1", "data": [0.0, 0.123, 0.5, 1.0]}
    assert answer["outputs"]["velocity"]["dims"] == ["lead_time", "x"]
    velocity = from_buffer(answer["outputs"]["velocity"]["data"])
    assert velocity.shape == (4, 512)
    np.testing.assert_allclose(velocity[0], from_buffer(body["inputs"]["initial_velocity"]), atol=1e-5)
    guaranteed = [s for s in answer["statements"] if s["kind"] == "guaranteed"]
    assert {s["lead_time"] for s in guaranteed} == {0.0, 0.123, 0.5, 1.0}
    assert {s["norm"] for s in guaranteed} == {"primitive_oscillation", "l1"}
    bands = [s for s in answer["statements"] if s["norm"] == "band"]
    assert len(bands) == 4
    assert all("whole trajectory" in s["scope"] for s in bands)


def test_a_deadline_that_passes_while_the_client_takes_a_frame_is_told(client, tmp_path):
    """Not by breaking off: what failed is the last line."""
    shutil.copytree(SHIPPED / "burgers", tmp_path / "burgers")
    app = create_app(Settings(zoo=tmp_path, reload_seconds=0))
    content = [json.dumps(example(client, BURGERS, steps=3)).encode()]
    received: list[bytes] = []

    async def receive() -> dict:
        if content:
            return {"type": "http.request", "body": content.pop(), "more_body": False}
        return await asyncio.Future()  # it stays

    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            received.append(message["body"])
            if len(received) == 2:
                await asyncio.sleep(SLOW)

    async def ask() -> None:
        headers = {"content-type": "application/json", "accept": "application/x-ndjson", "x-request-timeout": str(SLOW)}
        path = f"{BURGERS}/forecast"
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "http_version": "1.1",
            "scheme": "http", "server": ("s", 80), "client": ("c", 1),
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    asyncio.run(ask())
    first, frame, last = [json.loads(line) for line in b"".join(received).splitlines()]
    assert "lead_times" in first and frame["frame"] == 0
    assert (last["problem"]["code"], last["problem"]["status"]) == ("deadline-passed", 504)


def test_a_frame_equals_the_prediction_at_its_time(client):
    body = example(client, BURGERS, seed=1, lead_times=[0.25, 0.75])
    frames = from_buffer(post(client, BURGERS, body).json()["outputs"]["velocity"]["data"])
    single = {"inputs": body["inputs"] | {"time": 0.75}, "encoding": "base64"}
    answer = client.post(f"{BURGERS}/predict", json=single).json()
    np.testing.assert_allclose(frames[1], from_buffer(answer["outputs"]["velocity"]["data"]), rtol=1e-4, atol=1e-6)


def test_forty_one_frames_are_the_default_and_steps_choose_fewer(client):
    body = example(client, BURGERS, include=["outputs"])
    assert len(post(client, BURGERS, body).json()["lead_times"]["data"]) == 41
    answer = post(client, BURGERS, body | {"steps": 4}).json()
    assert answer["lead_times"]["data"] == [0.25, 0.5, 0.75, 1.0]
    assert "statements" not in answer


def test_a_flood_has_frames_and_a_maximum_with_probabilities(client):
    body = example(client, FLOOD, lead_times=[3600, 7200], thresholds={"maximum_depth": [0.1, 0.5]}, quantiles=[0.9])
    answer = post(client, FLOOD, body).json()
    assert answer["outputs"]["depth"]["dims"] == ["lead_time", "y", "x"]
    assert answer["outputs"]["maximum_depth"]["dims"] == ["y", "x"]
    depth, highest = (from_buffer(answer["outputs"][n]["data"]) for n in ("depth", "maximum_depth"))
    assert depth.shape == (2, 64, 64) and highest.min() >= 0
    uncertainty = answer["uncertainty"]["maximum_depth"]
    assert from_buffer(uncertainty["lower"]).min() >= 0
    first, second = (from_buffer(e["probability"]) for e in uncertainty["exceedance"])
    assert np.all(first >= second) and first.min() >= 0 and first.max() <= 1
    assert {s["norm"]: s["kind"] for s in answer["statements"] if s["norm"] != "band"} == {
        "l2": "none", "mass": "indicator",
    }  # fmt: skip


def test_a_site_forecast_has_valid_times_and_quantiles_in_order(client):
    body = example(client, WEATHER, seed=3, lead_times=[1, 6, 24], quantiles=[0.1, 0.5, 0.9])
    answer = post(client, WEATHER, body).json()
    start = np.datetime64(body["inputs"]["reference_time"].rstrip("Z"))
    hours = (np.array([t.rstrip("Z") for t in answer["valid_times"]], "datetime64[s]") - start) / np.timedelta64(1, "h")
    assert hours.tolist() == [1, 6, 24]
    for name, unit in (("wind_speed", "m s-1"), ("air_temperature", "degC"), ("surface_pressure", "hPa")):
        assert answer["outputs"][name]["dims"] == ["lead_time", "station"]
        assert answer["outputs"][name]["units"] == unit
        low, middle, high = (from_buffer(v) for v in answer["uncertainty"][name]["quantiles"].values())
        assert np.all(low <= middle) and np.all(middle <= high)
    widths = [s["value"] for s in answer["statements"] if s["quantity"] == "surface_pressure" and s["norm"] == "band"]
    assert widths[0] < widths[1] < widths[2]
    assert all(s["truth"].startswith("observations") for s in answer["statements"])


def test_an_offset_is_converted_and_a_naive_time_refused(client):
    body = example(client, WEATHER, lead_times=[1])
    zulu = body["inputs"]["reference_time"]
    local = (np.datetime64(zulu.rstrip("Z")) + np.timedelta64(2, "h")).item().strftime("%Y-%m-%dT%H:%M:%S+02:00")
    same = post(client, WEATHER, body | {"inputs": body["inputs"] | {"reference_time": local}}).json()
    assert same["valid_times"] == post(client, WEATHER, body).json()["valid_times"]
    for wrong in (zulu.rstrip("Z"), "yesterday", 412_000):
        answer = post(client, WEATHER, body | {"inputs": body["inputs"] | {"reference_time": wrong}})
        assert_problem(answer, 422, "wrong-type", "inputs.reference_time")


@pytest.mark.parametrize("url", [BURGERS, FLOOD, WEATHER])
def test_lines_leave_as_they_are_computed_and_add_up_to_the_whole(client, url):
    steps = 3
    body = example(client, url, steps=steps)
    whole = post(client, url, body).json()
    answer = post(client, url, body, Accept="application/x-ndjson")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    head, *frames, summary = [json.loads(line) for line in answer.text.splitlines()]
    assert head["lead_times"] == whole["lead_times"] and head["validity"] == whole["validity"]
    assert [frame["lead_time"] for frame in frames] == whole["lead_times"]["data"]
    assert summary["summary"] is True and summary["route"]
    for name, field in whole["outputs"].items():
        if field["dims"][0] == "lead_time":
            stacked = np.stack([from_buffer(frame["outputs"][name]["data"]) for frame in frames])
            np.testing.assert_allclose(stacked, from_buffer(field["data"]), rtol=1e-5, atol=1e-6)
        else:
            assert name in summary["outputs"]
    said = [s["norm"] for frame in frames for s in frame["statements"]] + [s["norm"] for s in summary["statements"]]
    assert sorted(said) == sorted(s["norm"] for s in whole["statements"])


def test_binary_records_hold_the_same_frames(client):
    body = example(client, BURGERS, steps=2, include=["outputs"])
    whole = from_buffer(post(client, BURGERS, body).json()["outputs"]["velocity"]["data"])
    rest = post(client, BURGERS, {**body, "encoding": "json"}, Accept="application/x-frames").content
    records = []
    while rest:
        (length,) = struct.unpack_from("<I", rest)
        assert 0 < length < len(rest)
        header, arrays, rest = binary.decode(rest)
        records.append((header, arrays))
    assert [header.get("lead_time") for header, _ in records] == [None, 0.5, 1.0, None]
    found = np.stack([arrays[header["outputs"]["velocity"]["data"]["offset"]] for header, arrays in records[1:3]])
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def computed_frames(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith('surrogate_frames_total{model="burgers"}')]
    return float(found[0].split()[-1]) if found else 0.0


def test_a_client_that_goes_away_stops_the_work(server):
    with httpx.Client(base_url=server, timeout=60) as client:
        before = computed_frames(client)
        times = np.linspace(0, 1, 1001).tolist()
        body = example(client, BURGERS, lead_times=times, include=["outputs"])
        with client.stream(
            "POST", f"{BURGERS}/forecast", json=body, headers={"Accept": "application/x-ndjson"}
        ) as answer:
            for number, _ in enumerate(answer.iter_lines()):
                if number == 3:
                    break
        threading.Event().wait(2.0)
        first = computed_frames(client) - before
        threading.Event().wait(1.0)
        assert computed_frames(client) - before == first  # nothing goes on
        assert 3 <= first < 900


@pytest.mark.parametrize("url", [BURGERS, FLOOD, WEATHER])
def test_netcdf_opens_with_the_right_coordinates(client, url, tmp_path):
    body = example(client, url, steps=2, quantiles=[0.9], include=["outputs", "uncertainty", "statements", "members"])
    answer = post(client, url, body, Accept="application/x-netcdf")
    assert answer.headers["content-type"] == "application/x-netcdf"
    path = tmp_path / "answer.nc"
    path.write_bytes(answer.content)
    with xarray.open_dataset(path, decode_timedelta=False) as found:
        assert json.loads(found.attrs["surrogate_statements"])
        names = [item["name"] for item in client.get(url).json()["outputs"]]
        for name in names:
            for part in ("", "_standard_deviation", "_lower", "_upper", "_p90", "_member"):
                assert f"{name}{part}" in found
        if url == WEATHER:
            assert found["time"].dtype.kind == "M"
            assert found["wind_speed"].attrs["units"] == "m s-1"


@pytest.mark.parametrize("url", [BURGERS, FLOOD, WEATHER])
def test_pictures_show_the_frames(client, url):
    answer = post(client, url, example(client, url, steps=3), Accept="image/png")
    picture = Image.open(io.BytesIO(answer.content))
    assert getattr(picture, "n_frames", 1) == (1 if url == WEATHER else 3)


def test_a_batch_of_forecasts_answers_each_as_if_alone(client):
    first, second = (example(client, FLOOD, seed=s, steps=1) for s in (0, 1))
    stacked = {
        name: np.stack([from_buffer(body["inputs"][name]) for body in (first, second)]) for name in first["inputs"]
    }
    body = first
    for name, values in stacked.items():
        body = changed(body, name, values)
    together = post(client, FLOOD, body).json()
    alone = post(client, FLOOD, second).json()
    assert together["outputs"]["depth"]["dims"] == ["batch", "lead_time", "y", "x"]
    found = from_buffer(together["outputs"]["depth"]["data"])[1]
    np.testing.assert_allclose(found, from_buffer(alone["outputs"]["depth"]["data"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("url", "options", "status", "code", "field"),
    [
        (WEATHER, {"lead_times": [6, 1]}, 422, "unknown-option", "lead_times"),
        (WEATHER, {"lead_times": [1.5]}, 422, "unknown-option", "lead_times"),
        (WEATHER, {"lead_times": [48]}, 422, "out-of-range", "lead_times"),
        (WEATHER, {"steps": 25}, 413, "too-large", "steps"),
        (WEATHER, {"steps": 1, "lead_times": [1]}, 422, "unknown-option", "steps"),
        (BURGERS, {"lead_times": [0.5, 0.5]}, 422, "unknown-option", "lead_times"),
        (BURGERS, {"lead_times": [2.0]}, 422, "out-of-range", "lead_times"),
        (BURGERS, {"steps": 5000}, 413, "too-large", "steps"),
        (BURGERS, {"lead_times": "all"}, 422, "unknown-option", "lead_times"),
        (FLOOD, {"lead_times": [1800]}, 422, "out-of-range", "lead_times"),
        (FLOOD, {"thresholds": {"height": [1.0]}}, 422, "unknown-option", "thresholds.height"),
        (FLOOD, {"quantiles": [1.0]}, 422, "unsupported-level", "level"),
    ],
)
def test_impossible_questions_are_refused(client, url, options, status, code, field):
    assert_problem(post(client, url, example(client, url, **options)), status, code, field)


def test_forcing_terrain_and_history_that_make_no_sense_are_refused(client):
    flood, weather = example(client, FLOOD), example(client, WEATHER)
    short = assert_problem(post(client, FLOOD, changed(flood, "rain", np.ones(3))), 422, "wrong-shape", "inputs.rain")
    assert "3 steps cover 2700 s of the 5400 s needed" in short["expected"]
    assert_problem(post(client, FLOOD, changed(flood, "rain", -np.ones(6))), 422, "out-of-range", "rain")
    hole = from_buffer(flood["inputs"]["elevation"]).copy()
    hole[3, 4] = np.nan
    assert_problem(post(client, FLOOD, changed(flood, "elevation", hole)), 422, "not-finite", "elevation")
    other = np.ones((32, 64))
    assert_problem(post(client, FLOOD, changed(flood, "roughness", other)), 422, "wrong-shape", "inputs.roughness")
    kelvin = from_buffer(weather["inputs"]["air_temperature"]) + 273.15
    warm = assert_problem(post(client, WEATHER, changed(weather, "air_temperature", kelvin)), 422, "out-of-range", None)
    assert "degC" in warm["expected"] and "unit" in warm["remedy"]
    pascal = 100 * from_buffer(weather["inputs"]["surface_pressure"])
    assert_problem(post(client, WEATHER, changed(weather, "surface_pressure", pascal)), 422, "out-of-range", None)
    gap = from_buffer(weather["inputs"]["wind_speed"]).tolist()
    gap[7][2] = None
    body = weather | {"inputs": weather["inputs"] | {"wind_speed": gap}}
    assert_problem(post(client, WEATHER, body), 422, "wrong-type", "inputs.wind_speed")


def test_clocks_scalars_and_batches_are_checked(client):
    body = example(client, BURGERS, steps=1)
    inputs = body["inputs"]
    extra = body | {"inputs": inputs | {"time": 0.5}}
    assert_problem(post(client, BURGERS, extra), 422, "unknown-field", "inputs.time")
    for wrong in ("thick", None, True, [[0.1]]):
        answer = post(client, BURGERS, body | {"inputs": inputs | {"viscosity": wrong}})
        assert_problem(answer, 422, "wrong-type", "inputs.viscosity")
    mixed = body | {"inputs": inputs | {"viscosity": [0.01, 0.02]}}
    assert_problem(post(client, BURGERS, mixed), 422, "wrong-shape", "inputs.initial_velocity")
    assert_problem(post(client, BURGERS, body | {"inputs": inputs | {"viscosity": 7.0}}), 422, "out-of-range", None)


def test_a_steady_model_offers_no_forecast(client):
    body = client.get("/v1/models/darcy/example", params={"encoding": "base64"}).json()
    assert_problem(client.post("/v1/models/darcy/forecast", json=body), 404, "not-offered", None)
    answer = client.get("/v1/models/darcy/example", params={"call": "forecast"})
    assert_problem(answer, 404, "not-offered", None)


def test_npy_holds_one_field_only(client):
    answer = client.post(f"{FLOOD}/predict", content=b"", headers={"Content-Type": "application/x-npy"})
    assert_problem(answer, 415, "unsupported-media-type", "Content-Type")


def test_an_answer_beyond_the_limit_is_refused_before_work(client):
    body = example(client, BURGERS, lead_times=np.linspace(0, 1, 1001).tolist())
    velocity = np.stack([from_buffer(body["inputs"]["initial_velocity"])] * 4)
    big = changed(body, "initial_velocity", velocity)
    big["inputs"]["viscosity"] = [0.01] * 4
    assert_problem(post(client, BURGERS, big), 413, "too-large", "inputs")
