"""A real server answers a real Darcy problem in every encoding."""

import base64
import io

import httpx
import numpy as np
import pytest

from models.catalog.darcy import reference, sampler
from models.repository import SHIPPED, bundle_folders

MODEL = "/v1/models/darcy"
SINGLE = 1e-6  # float32 of the same numbers


@pytest.fixture(scope="module")
def medium() -> np.ndarray:
    return sampler.draw(321, 0, 421)[::5, ::5]


def as_buffer(values: np.ndarray, dtype: str = "float32") -> dict:
    raw = np.ascontiguousarray(values, dtype=dtype).tobytes()
    return {
        "shape": list(values.shape), "dtype": dtype,
        "data": {"buffer": base64.b64encode(raw).decode(), "encoding": "base64"},
    }  # fmt: skip


def from_buffer(array: dict) -> np.ndarray:
    raw = base64.b64decode(array["data"]["buffer"])
    return np.frombuffer(raw, dtype=array["dtype"]).reshape(array["shape"])


def test_answer_has_field_band_statements_validity_and_route(client: httpx.Client, medium):
    answer = client.post(f"{MODEL}/predict", json={"inputs": {"permeability": medium.tolist()}})
    assert answer.status_code == 200
    body = answer.json()
    field = np.array(body["outputs"]["pressure"]["data"])
    assert body["outputs"]["pressure"]["dims"] == ["x", "y"]
    assert field.shape == (85, 85)
    classical = reference.solve(medium)
    assert np.linalg.norm(field - classical) < 0.01 * np.linalg.norm(classical)
    band = body["uncertainty"]["pressure"]
    assert band["band"] == "simultaneous" and band["level"] == 0.9
    lower, upper = np.array(band["lower"]), np.array(band["upper"])
    assert np.all(lower <= field) and np.all(field <= upper)
    kinds = {(s["norm"], s["relative"]): s["kind"] for s in body["statements"]}
    assert kinds[("energy", False)] == "guaranteed"
    assert kinds[("band", False)] == "statistical"
    energy = next(s for s in body["statements"] if s["norm"] == "energy" and not s["relative"])
    assert 0 < energy["lower"] <= energy["value"]
    assert body["validity"]["in_domain"] is True
    assert [step["step"] for step in body["route"]] == [
        "decode", "validate", "surrogate", "uncertainty", "bound", "validity", "encode",
    ]  # fmt: skip
    assert body["provenance"]["bundle"].startswith("sha256:")


def test_all_encodings_give_the_same_numbers(client, medium):
    url = f"{MODEL}/predict"
    plain = np.array(
        client.post(url, json={"inputs": {"permeability": medium.tolist()}}).json()["outputs"]["pressure"]["data"]
    )
    body = {"inputs": {"permeability": as_buffer(medium, "uint8")}, "encoding": "base64"}
    coded = from_buffer(client.post(url, json=body).json()["outputs"]["pressure"]["data"])
    raw = io.BytesIO()
    np.save(raw, medium)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    binary = np.load(io.BytesIO(client.post(url, content=raw.getvalue(), headers=headers).content))
    raw = io.BytesIO()
    np.save(raw, np.asfortranarray(medium))
    fortran = np.load(io.BytesIO(client.post(url, content=raw.getvalue(), headers=headers).content))
    for other in (coded, binary, fortran):
        np.testing.assert_allclose(other, plain, rtol=SINGLE)


def test_picture_is_a_png(client, medium):
    answer = client.post(
        f"{MODEL}/predict", json={"inputs": {"permeability": medium.tolist()}}, headers={"Accept": "image/png"}
    )
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_a_batch_answers_each_sample_as_if_alone(client, medium):
    batch = np.stack([medium, medium.T])
    body = {"inputs": {"permeability": as_buffer(batch)}, "encoding": "base64"}
    together = client.post(f"{MODEL}/predict", json=body).json()
    alone = client.post(f"{MODEL}/predict", json={**body, "inputs": {"permeability": as_buffer(medium.T)}}).json()
    fields = from_buffer(together["outputs"]["pressure"]["data"])
    assert together["outputs"]["pressure"]["dims"] == ["batch", "x", "y"]
    single = from_buffer(alone["outputs"]["pressure"]["data"])
    np.testing.assert_allclose(fields[1], single, rtol=1e-4, atol=1e-5 * single.max())
    assert {s["sample"] for s in together["statements"]} == {0, 1}
    assert len(together["validity"]) == 2


def test_out_of_domain_withdraws_the_band_and_keeps_the_bound(client):
    medium = sampler.draw(322, 0, 421, "log_normal")[::5, ::5]
    body = client.post(f"{MODEL}/predict", json={"inputs": {"permeability": medium.tolist()}}).json()
    assert body["validity"]["in_domain"] is False
    assert body["validity"]["reasons"]
    kinds = {s["norm"]: s for s in body["statements"]}
    assert kinds["band"]["kind"] == "none" and "out of domain" in kinds["band"]["assumptions"][0]
    assert kinds["l2"]["kind"] == "guaranteed"
    assert body["uncertainty"]["pressure"]["lower"] is None


def test_only_the_parts_asked_for_are_returned(client, medium):
    body = {"inputs": {"permeability": medium.tolist()}, "include": ["members", "validity"]}
    answer = client.post(f"{MODEL}/predict", json=body).json()
    assert "outputs" not in answer and "statements" not in answer
    assert np.array(answer["members"]["pressure"]).shape == (4, 85, 85)


def test_levels_widen_the_band_and_pointwise_is_narrower(client, medium):
    def width(**options: object) -> float:
        body = {"inputs": {"permeability": medium.tolist()}, **options}
        band = client.post(f"{MODEL}/predict", json=body).json()["uncertainty"]["pressure"]
        return float(np.mean(np.array(band["upper"]) - np.array(band["lower"])))

    assert width(level=0.5) < width(level=0.9) < width(level=0.99)
    assert width(level=0.9, band="pointwise") < width(level=0.9)


def test_pinned_version_answers_like_the_latest(client, medium):
    version = client.get("/v1/models").json()["models"][0]["version"]
    body = {"inputs": {"permeability": medium.tolist()}}
    pinned = client.post(f"{MODEL}/versions/{version}/predict", json=body).json()
    assert pinned["outputs"] == client.post(f"{MODEL}/predict", json=body).json()["outputs"]


def test_explain_jvp_and_vjp_agree_with_each_other(client, medium, generator):
    inputs = {"permeability": medium.tolist()}
    quantity = {"type": "region_mean", "x": [0.25, 0.5], "y": [0.25, 0.5]}
    explained = client.post(f"{MODEL}/explain", json={"inputs": inputs, "quantity": quantity}).json()
    assert explained["completeness"]["relative"] <= 1e-4
    assert len(explained["regions"]) == 16
    tangent, weights = generator.standard_normal((2, 85, 85))
    pushed = client.post(f"{MODEL}/jvp", json={"inputs": inputs, "tangent": {"permeability": tangent.tolist()}}).json()
    pulled = client.post(f"{MODEL}/vjp", json={"inputs": inputs, "cotangent": {"pressure": weights.tolist()}}).json()
    left = float(np.vdot(weights, np.array(pushed["derivative"]["pressure"]["data"])))
    right = float(np.vdot(tangent, np.array(pulled["gradient"]["permeability"]["data"])))
    scale = np.linalg.norm(weights) * np.linalg.norm(pushed["derivative"]["pressure"]["data"])
    assert abs(left - right) <= 1e-5 * scale


def test_quantiles_have_the_probability_that_was_asked_for_as_their_name(client, medium):
    wanted = [0.1, 0.123456789, 0.9, 0.9000001]
    asked = {"inputs": {"permeability": medium.tolist()}, "quantiles": wanted}
    answer = client.post(f"{MODEL}/predict", json=asked).json()
    assert [float(name) for name in answer["uncertainty"]["pressure"]["quantiles"]] == wanted


def test_a_field_without_axes_is_a_number_in_json(client):
    """As its dimensions say; in a batch, a list of them."""
    example = client.get("/v1/models/burgers/example").json()
    inputs = {name: [value] for name, value in example["inputs"].items()}
    weights = {"cotangent": {"velocity": [1.0] * 512}}
    one = client.post("/v1/models/burgers/vjp", json=example | weights).json()["gradient"]["viscosity"]
    batch = {"inputs": inputs, "cotangent": {"velocity": [weights["cotangent"]["velocity"]]}}
    many = client.post("/v1/models/burgers/vjp", json=batch).json()["gradient"]["viscosity"]
    assert (one["dims"], many["dims"]) == ([], ["batch"])
    assert isinstance(one["data"], float) and many["data"] == [one["data"]]


def test_catalogue_describes_what_is_served(client):
    listed = client.get("/v1/models").json()["models"]
    assert [entry["name"] for entry in listed] == sorted({folder.parent.name for folder in bundle_folders(SHIPPED)})
    described = client.get(MODEL).json()
    assert described["inputs"][0]["axes"][0]["points"] == 85
    assert described["inputs"][0]["minimum"] > 0
    assert described["report"]["accuracy"]["outputs"]["pressure"]["relative_l2"] < 0.008
    for call, link in described["links"].items():
        if call in ("self", "example", "card"):
            assert client.get(link).status_code == 200
    assert client.get(f"{MODEL}/card").text.startswith("# Darcy")
    page = client.get(f"{MODEL}/card", headers={"Accept": "text/html"})
    assert "<table>" in page.text
    assert client.get(f"{MODEL}/card/cost.png").content.startswith(b"\x89PNG")
    assert client.get(f"{MODEL}/card/weights.bin").status_code == 404


def test_examples_are_ready_to_post_and_differ_by_seed(client):
    first, second = (client.get(f"{MODEL}/example", params={"seed": s, "encoding": "base64"}).json() for s in (0, 1))
    assert first != second
    assert client.post(f"{MODEL}/predict", json=first).json()["validity"]["in_domain"]


def test_operations_endpoints(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert "darcy/1" in client.get("/readyz").json()["models"]
    client.get(f"{MODEL}/example")
    lines = client.get("/metrics").text.splitlines()
    assert any(line.startswith("surrogate_requests_total{") and 'model="darcy"' in line for line in lines)


def test_pages_load_without_any_other_host(client):
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/static/docs/{name}").status_code == 200


@pytest.mark.parametrize("accept", ["application/x-netcdf", "image/png"])
def test_files_and_pictures_are_whole_whatever_parts_of_json_are_asked_for(client, accept):
    body = client.get(f"{MODEL}/example").json() | {"include": ["outputs"]}
    assert client.post(f"{MODEL}/predict", json=body, headers={"Accept": accept}).status_code == 200


def test_the_wildest_terrain_that_is_accepted_is_answered_alike_by_predict_and_forecast(client, generator):
    """The network's own scales overflow there; the ceiling of the band cuts them."""
    body = client.get("/v1/models/flood/example").json()
    body["inputs"]["elevation"] = generator.uniform(-500.0, 9000.0, (64, 64)).tolist()
    found = [client.post(f"/v1/models/flood/{call}", json=body) for call in ("predict", "forecast")]
    assert [answer.status_code for answer in found] == [200, 200], found[0].text[:300]
    one, other = (answer.json() for answer in found)
    assert one["validity"]["in_domain"] is False
    for name, field in one["uncertainty"].items():
        assert np.isfinite(np.array(field["standard_deviation"], dtype=float)).all()
        np.testing.assert_allclose(one["outputs"][name]["data"], other["outputs"][name]["data"], rtol=1e-5)
