"""The client says what /v1 says, in xarray's words: every shipped model, every call, refusals, patience."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import xarray as xr

from api import client as notebook
from api.client import Busy, Model, NotServed, Problem, Zoo, _Connection, connect, statements, storable
from models.repository import SHIPPED, bundle_folders
from tests.api.test_forecast import from_buffer

NAMES = sorted({folder.parent.name for folder in bundle_folders(SHIPPED)})
SAME = {"rtol": 1e-5, "atol": 1e-6}  # the same graph on the same numbers, perhaps in another batch
EVERYTHING = ["outputs", "uncertainty", "statements", "validity", "members"]


@pytest.fixture(scope="module")
def zoo(server: str) -> Iterator[Zoo]:
    with connect(server) as zoo:
        yield zoo


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, zoo: Zoo) -> Model:
    return zoo[request.param]


def raw_body(client: httpx.Client, model: Model, seed: int = 0, call: str = "predict") -> dict:
    parameters = {"seed": seed, "encoding": "base64", "call": call}
    body = client.get(f"/v1/models/{model.name}/example", params=parameters).json()
    return body | {"encoding": "base64"}


def raw(client: httpx.Client, model: Model, call: str, body: dict) -> dict:
    answer = client.post(f"/v1/models/{model.name}/{call}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_same_answer(found: xr.Dataset, document: dict) -> None:
    for name, part in document["outputs"].items():
        variable, band = found[name], document["uncertainty"][name]
        assert list(variable.dims) == part["dims"]
        assert variable.attrs["units"] == part["units"]
        np.testing.assert_allclose(variable, from_buffer(part["data"]), **SAME)
        for key in ("standard_deviation", "lower", "upper"):
            assert found[f"{name}_{key}"].dims == variable.dims
            np.testing.assert_allclose(found[f"{name}_{key}"], from_buffer(band[key]), **SAME)
        for key, values in band["quantiles"].items():
            np.testing.assert_allclose(found[f"{name}_quantiles"].sel(quantile=float(key)), from_buffer(values), **SAME)
        np.testing.assert_allclose(found[f"{name}_members"], from_buffer(document["members"][name]), **SAME)
    assert {k: found.attrs[k] for k in ("in_domain", "reasons")} == {
        k: document["validity"][k] for k in ("in_domain", "reasons")
    }
    assert found.attrs["bundle"] == document["provenance"]["bundle"]
    said = [(s["quantity"], s["norm"], s["kind"], s["lead_time"]) for s in found.attrs["statements"]]
    assert said == [(s["quantity"], s["norm"], s["kind"], s["lead_time"]) for s in document["statements"]]


def assert_on_its_axes(variable: xr.DataArray, axes: list[dict]) -> None:
    for axis in axes:
        expected = axis["labels"] or np.linspace(axis["start"], axis["stop"], axis["points"])
        assert variable.coords[axis["name"]].values.tolist() == list(expected)
        if not axis["labels"]:
            assert variable.coords[axis["name"]].attrs["units"] == axis["units"]


def test_the_zoo_is_a_mapping_of_what_is_served(zoo, client):
    served = {entry["name"]: entry["title"] for entry in client.get("/v1/models").json()["models"]}
    assert list(zoo) == list(served) and len(zoo) == len(served) and next(iter(served)) in zoo and "nothing" not in zoo
    for name, title in served.items():
        assert title in repr(zoo) and title in zoo._repr_html_()
        assert zoo[name].title == title and zoo[name, zoo[name].version].description == zoo[name].description
        assert zoo[name, int(zoo[name].version)].version == zoo[name].version


def test_a_model_shows_itself(model, client):
    for item in (*model.description["inputs"], *model.description["outputs"]):
        assert item["name"] in repr(model) and item["description"] in repr(model)
    assert model.card == client.get(f"/v1/models/{model.name}/card").text == model.card._repr_markdown_()


def test_what_is_not_served_is_a_key_error(zoo):
    assert zoo.get("atlantis") is None
    with pytest.raises(NotServed, match=r"unknown-model in name.*darcy.*'atlantis'"):
        zoo["atlantis"]
    with pytest.raises(KeyError, match="'9'"):
        zoo["darcy", "9"]


def test_examples_have_coordinates_and_units(model, client):
    document = raw_body(client, model, seed=3)["inputs"]
    found = model.example(seed=3)
    assert list(found) == [item["name"] for item in model.description["inputs"]] == list(document)
    for item in model.description["inputs"]:
        variable, sent = found[item["name"]], document[item["name"]]
        assert_on_its_axes(variable, item["axes"])
        if isinstance(sent, str):
            assert np.datetime_as_string(variable.values, unit="s") + "Z" == sent
            continue
        assert variable.attrs["units"] == item["units"]
        assert variable.values.tolist() == (from_buffer(sent).tolist() if item["axes"] else sent)


def test_predict_is_the_raw_answer_with_coordinates(model, client):
    options = {"level": 0.8, "band": "pointwise", "quantiles": [0.1, 0.9], "include": EVERYTHING}
    document = raw(client, model, "predict", raw_body(client, model) | options)
    answer = model.predict(model.example(), level=0.8, band="pointwise", quantiles=[0.1, 0.9], members=True)
    assert_same_answer(answer, document)
    for item in model.description["outputs"]:
        assert_on_its_axes(answer[item["name"]], item["axes"])
        assert answer[f"{item['name']}_upper"].attrs["level"] == 0.8
        assert answer[f"{item['name']}_upper"].attrs["units"] == item["units"]
    assert (answer.attrs["model"], answer.attrs["version"]) == (model.name, model.version)


def test_forecast_is_the_raw_answer_along_lead_times(model, client):
    if model.description["time"] != "forecast":
        with pytest.raises(Problem, match="steady"):
            model.forecast(model.example())
        return
    options = {"steps": 2, "quantiles": [0.5], "include": EVERYTHING}
    document = raw(client, model, "forecast", raw_body(client, model, call="forecast") | options)
    answer = model.forecast(model.example(), steps=2, quantiles=[0.5], members=True)
    assert_same_answer(answer, document)
    assert answer["lead_time"].values.tolist() == document["lead_times"]["data"]
    assert answer["lead_time"].attrs["units"] == document["lead_times"]["units"]
    assert ("valid_time" in answer.coords) == ("valid_times" in document)
    same = model.forecast(model.example(), document["lead_times"]["data"], bounds=False)
    assert "statements" not in same.attrs
    xr.testing.assert_allclose(same[list(model.outputs)], answer[list(model.outputs)])


def test_valid_times_are_numpy_times_of_every_sample(zoo):
    model = zoo["site_weather"]
    example = model.example()
    starts = example["reference_time"].values + np.array([0, 48], "timedelta64[h]")
    answer = model.forecast(example, [1, 6], reference_time=starts)
    assert answer["valid_time"].dims == ("batch", "lead_time")
    hours = (answer["valid_time"].values - starts[:, None]) / np.timedelta64(1, "h")
    assert hours.tolist() == [[1, 6], [1, 6]]
    frame = next(model.stream(example, [1, 6], reference_time=starts))
    assert (frame["valid_time"].values == starts + np.timedelta64(1, "h")).all()


@pytest.mark.parametrize("kind", ["text", "datetime", "list"])
def test_dates_come_in_every_form(zoo, kind):
    model = zoo["site_weather"]
    example = model.example()
    text = f"{np.datetime_as_string(example['reference_time'].values, unit='s')}+00:00"
    forms = {"text": text, "datetime": notebook.datetime.fromisoformat(text), "list": [text]}
    answer = model.forecast(example, [1], reference_time=forms[kind])
    np.testing.assert_array_equal(answer["valid_time"].values.ravel(), model.forecast(example, [1])["valid_time"])


def test_explain_is_the_raw_attribution_on_the_inputs_axes(model, client):
    quantity = {"type": "linear", "weights": np.ones(next(iter(model.outputs.values())).shape)}
    asked = {"quantity": quantity | {"weights": quantity["weights"].tolist()}, "method": "gradient"}
    document = raw(client, model, "explain", raw_body(client, model) | asked)
    answer = model.explain(model.example(), quantity=quantity, method="gradient")
    assert answer.attrs["quantity"]["value"] == pytest.approx(document["quantity"]["value"], rel=1e-5)
    assert len(answer.attrs["regions"]) == len(document["regions"])
    assert document["quantity"]["statement"]["kind"] in repr(statements(answer))
    for name, part in document["attribution"].items():
        np.testing.assert_allclose(answer[name], from_buffer(part["data"]), **SAME)
        np.testing.assert_allclose(
            answer[f"{name}_standard_deviation"], from_buffer(part["standard_deviation"]), **SAME
        )
        assert_on_its_axes(
            answer[name], [a for i in model.description["inputs"] if i["name"] == name for a in i["axes"]]
        )


def test_a_change_and_its_smoothed_map_come_back_as_arrays_and_attributes(zoo):
    model = zoo["burgers"]
    example = model.example()
    change = {"initial_velocity": example["initial_velocity"] * 0.01}
    quantity = {"type": "region_mean", "x": [0.2, 0.4], "lead_time": [0.2, 0.4]}
    answer = model.explain(example, quantity=quantity, method="what_if", change=change, smoothing=0.05, regions=2)
    response = answer.attrs["response"]
    assert response["linear"] == pytest.approx(response["true"], rel=0.05)  # of a change by one per cent
    assert float(answer["initial_velocity"].sum()) == pytest.approx(response["linear"], rel=1e-3)
    assert answer["initial_velocity_smoothed"].dims == answer["initial_velocity"].dims


def test_a_baseline_may_be_a_data_array_on_turned_axes(zoo):
    model, quantity = zoo["flood"], {"type": "region_mean", "x": [10, 700]}
    example = model.example()
    asked = {"quantity": quantity, "method": "occlusion", "wrt": ["elevation"], "regions": 2}
    turned = model.explain(example, **asked, baseline={"elevation": (example["elevation"] * 0 + 100.0).T})
    plain = model.explain(example, **asked, baseline={"elevation": 100.0})
    assert turned.attrs["baseline"] == plain.attrs["baseline"]
    xr.testing.assert_allclose(turned, plain)


def test_derivatives_are_the_raw_ones_and_adjoint(model, client):
    example = model.example()
    grids = {name: value for name, value in example.items() if not model.inputs[name].is_time}
    generator = np.random.default_rng(5)
    tangent = {name: value.copy(data=generator.standard_normal(value.shape)) for name, value in grids.items()}
    weights = {name: generator.standard_normal(item.shape) for name, item in model.outputs.items()}
    lists = {name: np.float32(value).tolist() for name, value in tangent.items()}
    document = raw(client, model, "jvp", raw_body(client, model) | {"tangent": lists})
    forward, backward = model.jvp(example, tangent), model.vjp(example, weights)
    for name, part in document["derivative"].items():
        scale = np.abs(from_buffer(part["data"])).max()
        np.testing.assert_allclose(forward[f"{name}_derivative"], from_buffer(part["data"]), atol=1e-5 * scale)
    for name in model.outputs:
        assert "units" not in forward[f"{name}_derivative"].attrs and "units" in forward[name].attrs
    pushed = sum(float((forward[f"{name}_derivative"].astype(float) * w).sum()) for name, w in weights.items())
    pulled = sum(float((backward[name].astype(float) * t).sum()) for name, t in tangent.items())
    size = sum(float(abs(backward[name].astype(float) * t).sum()) for name, t in tangent.items())
    assert abs(pushed - pulled) <= 1e-4 * size  # both in single precision, which cancels in the sums


def test_a_batch_of_one_input_takes_the_others_along(zoo):
    model = zoo["flood"]
    example = model.example()
    storms = xr.concat([example["rain"], 0.5 * example["rain"]], dim="storm").assign_attrs(units="mm h-1")
    answer = model.predict(example, rain=storms, thresholds={"maximum_depth": [0.1, 0.5]})
    assert answer["depth"].dims == ("batch", "lead_time", "y", "x")
    assert answer["maximum_depth_exceedance"].dims == ("threshold", "batch", "y", "x")
    assert answer["threshold"].attrs["units"] == "m" and answer["threshold"].values.tolist() == [0.1, 0.5]
    assert len(answer.attrs["in_domain"]) == 2 and {s["sample"] for s in answer.attrs["statements"]} == {0, 1}
    for index in (0, 1):
        single = model.predict(example, rain=storms.isel(storm=index))
        np.testing.assert_allclose(answer["maximum_depth"].isel(batch=index), single["maximum_depth"], **SAME)


def test_a_parameter_may_be_a_coordinate_of_a_dataset(zoo):
    """As it is once one of many runs has been chosen."""
    burgers = zoo["burgers"]
    inputs = burgers.example()
    runs = xr.concat([xr.Dataset(inputs | {"viscosity": value}) for value in (0.02, 0.05)], "run").set_coords(
        "viscosity"
    )
    chosen = burgers.predict(runs.isel(run=1))["velocity"].values
    np.testing.assert_array_equal(chosen, burgers.predict(inputs, viscosity=0.05)["velocity"].values)
    np.testing.assert_allclose(burgers.predict(runs)["velocity"][1].values, chosen, rtol=1e-5, atol=1e-6)


def test_thresholds_of_several_fields_keep_their_own_axes(zoo):
    model = zoo["site_weather"]
    asked = {"wind_speed": [10.0], "air_temperature": [0.0, 20.0]}
    answer = model.predict(model.example(), thresholds=asked)
    for name, values in asked.items():
        assert answer[f"{name}_exceedance"].dims[0] == f"{name}_threshold"
        assert answer[f"{name}_threshold"].values.tolist() == values
        assert answer[f"{name}_threshold"].attrs["units"] == model.outputs[name].units


def test_axes_are_found_by_name(model):
    example = model.example()
    turned = {name: value.transpose() for name, value in example.items()}
    if any(item.shape[::-1] == item.shape and len(item.shape) > 1 for item in model.inputs.values()):
        name = next(n for n, v in example.items() if v.ndim > 1)
        assert not np.array_equal(turned[name].values, example[name].values)
    expected = model.predict(example, bounds=False)
    found = model.predict(xr.Dataset(turned), bounds=False)
    xr.testing.assert_allclose(found, expected)


def first_axis(model: Model) -> tuple[str, str]:
    name = next(name for name, item in model.inputs.items() if item.axes)
    return name, model.inputs[name].dims[-1]


def shifted(value: xr.DataArray, dim: str) -> xr.DataArray:
    """Half a cell away, or the last label first."""
    nodes = value[dim].values
    return value.assign_coords(
        {dim: np.roll(nodes, 1) if nodes.dtype.kind == "U" else nodes + (nodes[1] - nodes[0]) / 2}
    )


WRONG: dict[str, tuple[str, Callable[[xr.DataArray, str], object]]] = {
    "half a cell away": ("wrong-coordinates", shifted),
    "turned round": ("wrong-coordinates", lambda value, dim: value.isel({dim: slice(None, None, -1)})),
    "too short": ("wrong-coordinates", lambda value, dim: value.isel({dim: slice(1, None)})),
    "dates": (
        "wrong-coordinates",
        lambda value, dim: value.assign_coords({dim: np.arange(value.sizes[dim]).astype("datetime64[D]")}),
    ),
    "another name": ("wrong-dimensions", lambda value, dim: value.rename({dim: "elsewhere"})),
    "two more axes": ("wrong-dimensions", lambda value, _: value.expand_dims(("a", "b"))),
    "another unit": ("wrong-units", lambda value, _: value.assign_attrs(units="furlong")),
    "text": ("wrong-type", lambda *_: "heavy"),
    "masked": ("wrong-type", lambda value, _: np.ma.masked_equal(value.values, value.values.flat[0])),
    "complex": ("wrong-type", lambda value, _: value.values + 0j),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_sent(model, name, monkeypatch):
    code, spoil = WRONG[name]
    field, dim = first_axis(model)
    example = model.example()
    monkeypatch.setattr(httpx.Client, "send", lambda *_, **__: pytest.fail("something was sent"))
    with pytest.raises(Problem, match=field) as caught:
        model.predict({**example, field: spoil(example[field], dim)})
    assert (caught.value.code, caught.value.status) == (code, None)
    assert caught.value.expected and caught.value.got and caught.value.remedy


def test_a_coordinate_in_single_precision_or_none_passes(model):
    field, dim = first_axis(model)
    example = model.example()
    expected = model.predict(example, bounds=False)
    kept = [example[field].drop_vars(dim)]
    if example[field].coords[dim].dtype.kind == "f":
        kept.append(example[field].assign_coords({dim: example[field][dim].astype(np.float32)}))
    for value in kept:
        xr.testing.assert_allclose(model.predict({**example, field: value}, bounds=False), expected)


def test_withdrawn_bands_are_nan(zoo):
    model = zoo["darcy"]
    inside = model.example()["permeability"]
    outside = xr.full_like(inside, 3.0)
    answer = model.predict(permeability=xr.concat([inside, outside], dim="batch"), quantiles=[0.5])
    assert answer.attrs["in_domain"] == [True, False] and answer.attrs["reasons"][1]
    for name, axis in (("lower", 0), ("upper", 0), ("quantiles", 1)):
        missing = np.isnan(answer[f"pressure_{name}"].values).all(axis=(-2, -1))
        assert missing.take([0, 1], axis=axis).ravel().tolist() == [False, True], name
    alone = model.predict(permeability=outside)
    assert np.isnan(alone["pressure_upper"]).all() and not np.isnan(alone["pressure"]).any()
    assert alone["pressure_upper"].dims == ("x", "y")


REFUSED = {
    "unknown field": ({"snow": 1.0}, "unknown-field", "inputs.snow"),
    "not finite": ({"viscosity": float("nan")}, "not-finite", "viscosity"),
    "out of range": ({"viscosity": 7.0}, "out-of-range", "viscosity"),
    "wrong shape": ({"initial_velocity": np.zeros(3)}, "wrong-shape", "inputs.initial_velocity"),
    "level": ({"level": 2.0}, "unsupported-level", "level"),
    "band": ({"band": "rubber"}, "unknown-option", "band"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_services_refusals_are_problems(zoo, name):
    change, code, field = REFUSED[name]
    model = zoo["burgers"]
    with pytest.raises(Problem) as caught:
        model.predict(model.example(), **change)
    problem = caught.value
    assert (problem.code, problem.field, problem.status) == (code, field, 422)
    assert problem.expected in str(problem) and problem.got in str(problem) and code in str(problem)


def test_statements_read_as_a_table_and_survive_a_file(zoo, tmp_path):
    model = zoo["darcy"]
    answer = model.predict(model.example())
    table = statements(answer)
    assert len(table.rows) == len(answer.attrs["statements"]) > 0
    for claim in answer.attrs["statements"]:
        assert claim["kind"] in repr(table) and claim["truth"] in repr(table)
    assert "<script>" not in notebook.Table(["a"], [["<script>"]])._repr_html_()
    storable(answer).to_netcdf(tmp_path / "answer.nc")
    with xr.open_dataset(tmp_path / "answer.nc") as stored:
        assert repr(statements(stored)) == repr(table)
        xr.testing.assert_equal(stored, answer)


def frames_computed(client: httpx.Client, model: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("surrogate_frames_total{") and f'"{model}"' in line]
    return float(found[0].split()[-1]) if found else 0.0


def test_streamed_frames_are_those_of_the_forecast(model):
    if model.description["time"] != "forecast":
        with pytest.raises(Problem, match="steady"):
            model.stream(model.example())
        return
    whole = model.forecast(model.example(), steps=3, quantiles=[0.5], members=True)
    stream = model.stream(model.example(), steps=3, quantiles=[0.5], members=True)
    assert stream.lead_times.tolist() == whole["lead_time"].values.tolist() and stream.summary is None
    frames = list(stream)
    for frame, lead_time in zip(frames, stream.lead_times, strict=True):
        assert float(frame["lead_time"]) == lead_time
        for name in frame.data_vars:
            expected = whole[name].sel(lead_time=lead_time)
            np.testing.assert_allclose(frame[name], expected.transpose(*frame[name].dims), rtol=1e-4, atol=1e-5)
    apart = {name for name in whole.data_vars if "lead_time" not in whole[name].dims}
    assert set(stream.summary.data_vars) == apart
    said = sum(len(part.attrs["statements"]) for part in (*frames, stream.summary))
    assert said == len(whole.attrs["statements"])
    assert list(stream) == []


def test_the_first_frame_is_there_before_the_last_is_computed(zoo, client):
    """A client that does not read on stops the service: what was computed does not depend on how fast anyone is."""
    model, steps = zoo["burgers"], 1001
    example = model.example()
    two = xr.concat([example["initial_velocity"]] * 2, dim="batch")
    before = frames_computed(client, "burgers")
    with model.stream(example, initial_velocity=two, steps=steps) as stream:
        first = next(stream)
        assert first.sizes["batch"] == 2 and float(first["lead_time"]) == pytest.approx(1 / steps)
        assert 0 < frames_computed(client, "burgers") - before < steps


def test_a_problem_among_the_frames_is_raised():
    head = {"id": "1", "model": "m", "version": "1", "lead_times": {"units": "h", "data": [1.0]}, "fields": {}}
    failure = {"problem": {"code": "deadline-passed", "status": 504, "detail": "Expected an answer within 1 s."}}
    lines = "".join(json.dumps(line) + "\n" for line in (head, failure)).encode()
    with pytest.raises(Problem, match="deadline-passed"):
        next(notebook.Frames({}, httpx.Response(200, content=lines)))
    with pytest.raises(Problem, match="incomplete-answer"):
        next(notebook.Frames({}, httpx.Response(200, content=lines.split(b"\n")[0] + b"\n")))


@contextmanager
def answering(*answers: tuple[int, dict[str, str]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A real server that gives the answers in turn, the last for ever; yields its address and the headers it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers = answers[min(len(got), len(answers) - 1)]
            got.append(dict(self.headers) | {"when": str(time.monotonic())})
            good = {"models": []}
            bad = {"code": "overloaded", "status": status, "detail": "Expected less.", "remedy": "Wait."}
            content = json.dumps(good if status == 200 else bad).encode()
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", got
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses the client asks for; the clock goes on by them, and nobody waits."""
    found: list[float] = []
    true = time.monotonic
    monkeypatch.setattr(notebook.time, "sleep", found.append)
    monkeypatch.setattr(notebook.time, "monotonic", lambda: true() + sum(found))
    return found


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_busy_service_is_asked_again_when_it_says(form, naps):
    later = "7" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    headers = {"Retry-After": later}
    with answering((503, headers), (503, headers), (200, {})) as (address, got), connect(address, timeout=30) as zoo:
        assert len(zoo) == 0
    assert len(got) == 3
    slack = 0.0 if form == "seconds" else 2.0  # dates count whole seconds, and time has passed
    assert all(7.0 - slack <= nap <= 7.0 * (1 + notebook.JITTER) for nap in naps) and len(naps) == 2
    left = [float(headers["X-Request-Timeout"]) for headers in got]
    assert left[0] <= 30 and left[1] <= 30 - naps[0] and left[2] <= 30 - sum(naps)


def test_the_client_really_sleeps():
    with answering((503, {"Retry-After": "1"}), (200, {})) as (address, got), connect(address):
        pass
    first, second = (float(headers["when"]) for headers in got)
    assert second - first >= 1.0


def test_a_service_that_stays_busy_is_busy(naps):
    with (
        answering((503, {"Retry-After": "1"})) as (address, got),
        pytest.raises(Busy, match=r"overloaded.*503") as caught,
    ):
        connect(address, retries=3)
    assert len(got) == 4 and len(naps) == 3
    assert caught.value.status == 503 and caught.value.remedy == "Wait."


def test_nobody_waits_longer_than_the_time_allowed(naps):
    with answering((503, {"Retry-After": "40"})) as (address, got), pytest.raises(Busy):
        connect(address, timeout=60, retries=9)
    assert len(got) == 2 and sum(naps) < 60
    with answering((503, {"Retry-After": "3600"})) as (address, got), pytest.raises(Busy):
        connect(address)
    assert len(got) == 1


def test_a_connection_that_came_to_nothing_is_closed(monkeypatch):
    closed: list[_Connection] = []
    close = _Connection.close
    monkeypatch.setattr(_Connection, "close", lambda self: (closed.append(self), close(self)))
    with answering((404, {})) as (address, _), pytest.raises(Problem):
        connect(address)
    assert len(closed) == 1


def test_an_odd_retry_after_is_a_growing_pause(naps):
    with answering((503, {"Retry-After": "soon"})) as (address, _), pytest.raises(Busy):
        connect(address, retries=3)
    assert naps[0] < naps[1] < naps[2] < 1.0


def test_other_refusals_are_final(naps):
    with answering((504, {"Retry-After": "1"})) as (address, got), pytest.raises(Problem) as caught:
        connect(address)
    assert len(got) == 1 and naps == [] and not isinstance(caught.value, Busy)


def test_where_nothing_listens_is_said_after_the_retries(naps):
    with answering((200, {})) as (address, _):
        pass
    with pytest.raises(httpx.ConnectError) as caught:
        connect(address, retries=2)
    assert len(naps) == 2 and address in caught.value.__notes__[0]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://x", ""])
def test_an_address_without_its_scheme_is_said(url):
    with pytest.raises(Problem, match=r"bad-address.*http://") as caught:
        connect(url)
    assert caught.value.field == "url"


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_at_all_is_said(server, timeout):
    with pytest.raises(Problem, match="bad-timeout"):
        connect(server, timeout=timeout)


def test_another_site_is_no_service(server):
    with pytest.raises(Problem, match=r"no-service.*without /v1"):
        connect(f"{server}/v1")


def test_the_file_works_alone(server, tmp_path):
    shutil.copy(notebook.__file__, tmp_path / "surrogates.py")
    code = (
        "import sys, surrogates\n"
        f"with surrogates.connect({server!r}) as zoo: model = zoo['darcy']; print(list(model.predict(model.example())))\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('api', 'models', 'training')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pressure" in done.stdout.splitlines()[0] and done.stdout.splitlines()[1] == "[]"


def test_what_the_extra_installs_is_what_the_file_imports():
    import ast
    import tomllib

    tree = ast.parse(Path(notebook.__file__).read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    foreign = {str(name).split(".")[0] for name in names} - set(sys.stdlib_module_names)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert foreign == {line.split("==")[0] for line in extras["client"]} | {"numpy"}
    assert set(extras["client"]) <= {*extras["dev"], *extras["training"]}
