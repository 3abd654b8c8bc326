"""Tesseract with its stock client, and the points of its protocol that the client does not show."""

import asyncio

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.routing import Route
from tesseract_core import Tesseract

from api.errors import STATUS, NotAcceptable
from api.protocols import tesseract as face
from api.protocols.ensemble import require_finite
from api.protocols.tesseract import arrays
from api.protocols.tesseract.failures import fault, handlers
from api.protocols.tesseract.negotiation import negotiate
from models.errors import OutOfRange
from models.repository import SHIPPED
from tests.conftest import serving
from tests.served_examples import example, numbers, predicted, read, run_page, skeleton

FINE = 1e-6  # single precision on both sides
ADJOINT = 1e-5
COARSE = 2e-3  # central differences with steps of 2 %
MEDIUM = np.where(np.arange(85 * 85).reshape(85, 85) % 7 < 3, 12.0, 3.0)
NAMES = [folder.name for folder in sorted(SHIPPED.iterdir()) if folder.is_dir()]


def connect(server: str, name: str) -> Tesseract:
    return Tesseract.from_url(f"{server}/tesseract/{name}")


def abstract(inputs: dict[str, np.ndarray]) -> dict:
    return {name: {"shape": list(np.shape(v)), "dtype": "float32"} for name, v in inputs.items()}


def wire(values: np.ndarray, encoding: str = "json", **changes: object) -> dict:
    data = {"buffer": np.asarray(values).tolist(), "encoding": encoding}
    return {"shape": list(np.shape(values)), "dtype": "float64", "data": data} | changes


@pytest.mark.parametrize("name", NAMES)
def test_apply_gives_the_numbers_of_v1(client, server, name):
    document, inputs = example(client, name)
    answer, found = predicted(client, name, document), connect(server, name).apply(inputs)
    assert float(found["validity"]) == pytest.approx(answer["validity"]["p_value"], abs=FINE)
    for field, shown in answer["outputs"].items():
        bands = answer["uncertainty"][field]
        for key, expected in (
            (field, shown["data"]),
            (f"{field}_lower", bands["lower"]),
            (f"{field}_upper", bands["upper"]),
        ):
            values = read(expected)
            assert found[key].dtype == np.float32
            if values is None:
                assert np.isnan(found[key]).all()
            else:
                np.testing.assert_allclose(found[key], values, rtol=FINE, atol=FINE * np.abs(values).max())
    assert any(read(answer["uncertainty"][field]["lower"]) is not None for field in answer["outputs"])


def test_no_band_is_claimed_out_of_domain(server):
    found = connect(server, "darcy").apply({"permeability": np.full((85, 85), 6.0)})
    assert found["validity"] == 0.0 and np.isfinite(found["pressure"]).all()
    assert np.isnan(found["pressure_lower"]).all() and np.isnan(found["pressure_upper"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_abstract_eval_says_what_apply_returns(client, server, name):
    _, inputs = example(client, name)
    tesseract = connect(server, name)
    found = tesseract.abstract_eval(abstract(inputs))
    given = tesseract.apply(inputs)
    assert {key: (tuple(v["shape"]), v["dtype"]) for key, v in found.items()} == {
        key: (v.shape, str(v.dtype)) for key, v in given.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_document_lists_what_is_offered_and_no_more(client, server, name):
    tesseract = connect(server, name)
    described = client.get(f"/v1/models/{name}").json()
    offered = set(tesseract.available_endpoints)
    assert {"apply", "abstract_eval", "health"} <= offered
    assert ("jacobian_vector_product" in offered) == ("jvp" in described["derivatives"])
    assert ("vector_jacobian_product" in offered) == ("vjp" in described["derivatives"])
    sizes = [
        sum(int(np.prod([a["points"] for a in f["axes"]])) for f in described[kind] if f["role"] != "reference_time")
        for kind in ("outputs", "inputs")
    ]
    assert ("jacobian" in offered) == (sizes[0] * sizes[1] <= 1_000_000)
    assert tesseract.health() == {"status": "ok"}
    schemas = tesseract.openapi_schema["components"]["schemas"]
    takes, gives = schemas["ApplyInputSchema"], schemas["ApplyOutputSchema"]
    assert set(gives["differentiable_arrays"]) == {f["name"] for f in described["outputs"]}
    timeless = {f["name"] for f in described["inputs"] if f["role"] != "reference_time"}
    assert set(takes["differentiable_arrays"]) == timeless
    for field in described["inputs"]:
        schema = schemas["Apply_InputSchema"]["properties"][field["name"]]
        assert schema["properties"]["shape"]["minItems"] == len(field["axes"])
        assert "array_flags" in schema and schema["description"]
    assert tesseract.openapi_schema["info"]["title"] == name
    assert tesseract.openapi_schema["paths"]["/apply"]["post"]["description"]


def test_products_agree_with_differences_and_each_other(server, generator):
    x = np.linspace(0.0, 1.0, 85)
    medium = 6.0 + 2.0 * np.outer(np.sin(5 * x), np.cos(3 * x))
    direction, weights = medium * np.outer(np.cos(x), 1 + x), generator.standard_normal((85, 85)) + 1.0
    tesseract, step = connect(server, "darcy"), 0.02
    ahead, behind = (tesseract.apply({"permeability": medium + s * step * direction})["pressure"] for s in (1, -1))
    arguments = ({"permeability": medium}, ["permeability"], ["pressure"])
    along = tesseract.jacobian_vector_product(*arguments, {"permeability": direction})["pressure"]
    pulled = tesseract.vector_jacobian_product(*arguments, {"pressure": weights})["permeability"]
    differences = (ahead - behind) / (2 * step)
    assert np.linalg.norm(along - differences) <= COARSE * np.linalg.norm(along)
    assert abs((pulled * direction).sum() - (weights * along).sum()) <= ADJOINT * np.linalg.norm(
        weights
    ) * np.linalg.norm(along)


@pytest.mark.parametrize(("along", "of"), [
    (["wind_speed", "surface_pressure"], ["surface_pressure"]),  # fewer outputs than inputs: by rows
    (["air_temperature"], ["wind_speed", "air_temperature", "surface_pressure"]),  # fewer inputs: by columns
])  # fmt: skip
def test_jacobians_agree_with_products(client, server, generator, along, of):
    _, inputs = example(client, "site_weather")
    tesseract = connect(server, "site_weather")
    whole = tesseract.jacobian(inputs, along, of)
    directions = {name: generator.standard_normal(inputs[name].shape) for name in along}
    pushed = tesseract.jacobian_vector_product(inputs, along, of, directions)
    weights = {name: generator.standard_normal(pushed[name].shape) for name in of}
    pulled = tesseract.vector_jacobian_product(inputs, along, of, weights)
    for name in of:
        terms = [np.tensordot(whole[name][item], directions[item], directions[item].ndim) for item in along]
        assert np.linalg.norm(sum(terms) - pushed[name]) <= ADJOINT * sum(map(np.linalg.norm, terms))
    for item in along:
        terms = [np.tensordot(weights[name], whole[name][item], weights[name].ndim) for name in of]
        assert whole[of[0]][item].shape == (*weights[of[0]].shape, *inputs[item].shape)
        assert np.linalg.norm(sum(terms) - pulled[item]) <= ADJOINT * sum(map(np.linalg.norm, terms))


def test_scalars_casts_and_broadcasting(client, server):
    tesseract = connect(server, "burgers")
    wave = np.sin(2 * np.pi * np.arange(512) / 512).astype(np.float32)
    expected = tesseract.apply({"initial_velocity": wave, "viscosity": np.array(0.01), "time": np.array(0.5)})
    found = tesseract.apply({"initial_velocity": wave.astype(np.float64), "viscosity": 0.01, "time": np.float16(0.5)})
    np.testing.assert_array_equal(found["velocity"], expected["velocity"])
    still = {"initial_velocity": np.array([2], dtype=np.int16), "viscosity": np.array(0.01), "time": np.array(0.5)}
    np.testing.assert_array_equal(
        tesseract.apply(still)["velocity"], tesseract.apply(still | {"initial_velocity": np.full(512, 2.0)})["velocity"]
    )


def test_plain_nested_lists_are_taken_as_the_runtime_takes_them(server):
    """The client sends a list as it is."""
    tesseract = connect(server, "darcy")
    medium, along = MEDIUM[:1], np.ones_like(MEDIUM)
    expected = tesseract.apply({"permeability": medium})
    found = tesseract.apply({"permeability": medium.tolist()})
    np.testing.assert_array_equal(found["pressure"], expected["pressure"])
    names = (["permeability"], ["pressure"])
    pushed = [
        tesseract.jacobian_vector_product({"permeability": medium}, *names, {"permeability": tangent})["pressure"]
        for tangent in (along, along.tolist())
    ]
    np.testing.assert_array_equal(*pushed)


@pytest.mark.parametrize("encoding", ["json", "raw"])
def test_nested_lists_go_both_ways(client, server, encoding):
    tesseract = connect(server, "darcy")
    expected = tesseract.apply({"permeability": MEDIUM})
    with tesseract.with_encoding(output_format="json") as plain:
        found = plain.apply({"permeability": MEDIUM})
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)
    body = {"inputs": {"permeability": wire(MEDIUM, encoding)}}
    answer = client.post("/tesseract/darcy/apply", json=body, headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()["pressure"]["data"]
    assert data["encoding"] == "json"
    np.testing.assert_array_equal(np.array(data["buffer"], np.float32), expected["pressure"])


@pytest.mark.parametrize(("header", "form"), [
    ("", "json+base64"), ("*/*", "json+base64"), ("application/*; gpu_transport=none", "json+base64"),
    ("application/json+base64; gpu_transport=none", "json+base64"), ("application/json", "json"),
    ('Application/JSON; GPU_Transport="NONE"', "json"), ("text/html, application/json;q=0.5", "json"),
    ("application/json;q=0.2, application/json+base64;q=0.9", "json+base64"),
    ("application/json; q=high, application/json+base64; q=0.1", "json+base64"),
    ("application/json; gpu_transport=cuda_ipc, application/json; compression=none", "json"),
    ("application/json, application/json+base64", "json"),
])  # fmt: skip
def test_the_first_range_that_can_be_had_wins(header, form):
    assert negotiate(header) == form


@pytest.mark.parametrize("header", [
    "text/html", "application/json+binref", "application/*; gpu_transport=cuda_ipc", "*/*; compression=lz4",
    "application/json; q=0",
])  # fmt: skip
def test_formats_that_cannot_be_had_are_refused(client, header):
    with pytest.raises(NotAcceptable):
        negotiate(header)
    answer = client.post("/tesseract/darcy/apply", json={"inputs": {}}, headers={"Accept": header})
    assert answer.status_code == 406 and isinstance(answer.json()["detail"], str)


GOOD = {"permeability": wire(MEDIUM)}
CALL = {"inputs": GOOD, "jvp_inputs": ["permeability"], "jvp_outputs": ["pressure"], "tangent_vector": GOOD}
JVP = "jacobian_vector_product"
BAD = {
    "no JSON": ("apply", b"{", "json_invalid", ["body"]),
    "no object": ("apply", b"null", "json_invalid", ["body"]),
    "no inputs": ("apply", {}, "missing", ["body", "inputs"]),
    "inputs that are no object": ("apply", {"inputs": [1]}, "wrong_type", ["body", "inputs"]),
    "an unknown key": ("apply", {"inputs": GOOD, "level": 0.5}, "extra_forbidden", ["body", "level"]),
    "a missing field": ("apply", {"inputs": {}}, "missing", ["body", "inputs", "permeability"]),
    "an unknown field": ("apply", {"inputs": GOOD | {"x": 1}}, "extra_forbidden", ["body", "inputs", "x"]),
    "a plain list of another shape": ("apply", {"inputs": {"permeability": MEDIUM[:84].tolist()}}, "wrong_shape",
                                      ["body", "inputs", "permeability"]),
    "a plain ragged list": ("apply", {"inputs": {"permeability": [[1.0], 2.0]}}, "malformed_array", ["body", "inputs", "permeability"]),
    "a plain number for a field": ("apply", {"inputs": {"permeability": 3.0}}, "wrong_shape", ["body", "inputs", "permeability"]),
    "plain texts": ("apply", {"inputs": {"permeability": [["a"]]}}, "wrong_type", ["body", "inputs", "permeability"]),
    "neither array nor list": ("apply", {"inputs": {"permeability": "3"}}, "wrong_type", ["body", "inputs", "permeability"]),
    "no shape": ("apply", {"inputs": {"permeability": {"dtype": "float32"}}}, "missing", ["body", "inputs", "permeability", "shape"]),
    "no data": ("apply", {"inputs": {"permeability": {"dtype": "float32", "shape": [85, 85]}}}, "missing",
                ["body", "inputs", "permeability", "data"]),
    "an odd shape": ("apply", {"inputs": {"permeability": wire(MEDIUM, shape=[85.0])}}, "malformed_array",
                     ["body", "inputs", "permeability", "shape"]),
    "another shape": ("apply", {"inputs": {"permeability": wire(MEDIUM[:84])}}, "wrong_shape",
                      ["body", "inputs", "permeability", "shape"]),
    "complex numbers": ("apply", {"inputs": {"permeability": wire(MEDIUM, dtype="complex64")}}, "wrong_type",
                        ["body", "inputs", "permeability", "dtype"]),
    "a file": ("apply", {"inputs": {"permeability": wire(MEDIUM, data={"buffer": "a:0", "encoding": "binref"})}},
               "malformed_array", ["body", "inputs", "permeability", "data"]),
    "compressed": ("apply", {"inputs": {"permeability": wire(
        MEDIUM, data={"buffer": "", "encoding": "base64", "compression": "lz4"})}},
        "malformed_array", ["body", "inputs", "permeability", "data", "compression"]),
    "too few bytes": ("apply", {"inputs": {"permeability": wire(MEDIUM, data={"buffer": "AAAA", "encoding": "base64"})}},
                      "malformed_array", ["body", "inputs", "permeability", "data", "buffer"]),
    "too few numbers": ("apply", {"inputs": {"permeability": wire(MEDIUM, data={"buffer": [1.0], "encoding": "json"})}},
                        "malformed_array", ["body", "inputs", "permeability", "data", "buffer"]),
    "ragged": ("apply", {"inputs": {"permeability": wire(MEDIUM, data={"buffer": [[1.0], 2.0], "encoding": "json"})}},
               "malformed_array", ["body", "inputs", "permeability", "data", "buffer"]),
    "texts": ("apply", {"inputs": {"permeability": wire(MEDIUM, data={"buffer": ["a"], "encoding": "json"})}},
              "wrong_type", ["body", "inputs", "permeability", "data", "buffer"]),
    "out of range": ("apply", {"inputs": {"permeability": wire(-MEDIUM)}}, "out_of_range", ["body", "inputs", "permeability"]),
    "beyond single precision": ("apply", {"inputs": {"permeability": wire(MEDIUM * 1e300)}}, "out_of_range",
                                ["body", "inputs", "permeability"]),
    "no list of names": (JVP, CALL | {"jvp_inputs": "permeability"}, "wrong_type", ["body", "jvp_inputs"]),
    "no names": (JVP, CALL | {"jvp_outputs": []}, "unknown_option", ["body", "jvp_outputs"]),
    "a name twice": (JVP, CALL | {"jvp_outputs": ["pressure"] * 2}, "unknown_option", ["body", "jvp_outputs"]),
    "a band has no derivative": (JVP, CALL | {"jvp_outputs": ["pressure_lower"]}, "extra_forbidden",
                                 ["body", "jvp_outputs", "pressure_lower"]),
    "no tangent": (JVP, CALL | {"tangent_vector": {}}, "missing", ["body", "tangent_vector", "permeability"]),
    "a tangent too many": (JVP, CALL | {"tangent_vector": GOOD | {"x": 1}}, "extra_forbidden", ["body", "tangent_vector", "x"]),
    "an abstract input of another shape": ("abstract_eval", {"inputs": {"permeability": {"shape": [3], "dtype": "float32"}}},
                                           "wrong_shape", ["body", "inputs", "permeability", "shape"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_bodies_are_refused_with_the_place_of_the_fault(client, case):
    call, body, kind, place = BAD[case]
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = client.post(f"/tesseract/darcy/{call}", **sent)
    assert answer.status_code == 422, answer.text[:300]
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["loc"]) == (kind, place)
    assert entry["msg"] and set(entry["ctx"]) == {"expected", "got", "remedy"}


@pytest.mark.parametrize(("change", "words"), [
    ({"permeability": -MEDIUM}, "permeability"), ({"permeability": MEDIUM[:3]}, "shape"),
    ({"permeability": np.where(MEDIUM > 5, np.nan, MEDIUM)}, "finite"), ({}, "missing"),
])  # fmt: skip
def test_the_client_raises_a_validation_error(server, change, words):
    with pytest.raises(ValidationError, match=words):
        connect(server, "darcy").apply(change)


def test_directions_must_be_finite(server):
    arguments = ({"permeability": MEDIUM}, ["permeability"], ["pressure"])
    with pytest.raises(ValidationError, match=r"cotangent_vector.pressure"):
        connect(server, "darcy").vector_jacobian_product(*arguments, {"pressure": np.full((85, 85), np.inf)})


def test_unknown_models_calls_and_methods(client, server):
    with pytest.raises(RuntimeError, match=r"404.*atlantis"):
        connect(server, "atlantis").health()
    with pytest.raises(NotImplementedError):
        connect(server, "darcy").jacobian({"permeability": MEDIUM}, ["permeability"], ["pressure"])
    for method, path, status in (
        ("POST", "/tesseract/darcy/jacobian", 404), ("POST", "/tesseract/darcy/check_gpu_transport", 404),
        ("GET", "/tesseract/darcy/apply", 405), ("GET", "/tesseract/atlantis/openapi.json", 404),
        ("GET", "/tesseract/darcy/health/", 404), ("GET", "/tesseract/", 404), ("POST", "/tesseract/atlantis/apply", 404),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert list(answer.json()) == ["detail"] and isinstance(answer.json()["detail"], str)


def test_limits_of_size_time_and_admission(client):
    big = client.post("/tesseract/darcy/apply", content=b" " * (2 * 2**20 + 1))
    packed = client.post("/tesseract/darcy/apply", json={"inputs": GOOD}, headers={"Content-Encoding": "gzip"})
    late = client.post("/tesseract/darcy/apply", json={"inputs": GOOD}, headers={"X-Request-Timeout": "0.000001"})
    slow = client.post(f"/tesseract/darcy/{JVP}", json=CALL, headers={"X-Request-Timeout": "0.000001"})
    assert [answer.status_code for answer in (big, packed, late, slow)] == [413, 415, 504, 504]
    assert all(isinstance(answer.json()["detail"], str) for answer in (big, packed, late, slow))
    odd = client.post("/tesseract/darcy/apply", json={"inputs": GOOD}, headers={"X-Request-Timeout": "soon"})
    assert odd.json()["detail"][0]["loc"] == ["header", "x-request-timeout"]
    with serving(SHIPPED, SURROGATE_MAX_WAITING_BYTES="65536") as address:
        digits = {"permeability": wire(MEDIUM + 1 / 3)}
        full = httpx.post(f"{address}/tesseract/darcy/{JVP}", json=CALL | {"inputs": digits})
        assert full.status_code == 503 and int(full.headers["Retry-After"]) >= 1
        assert isinstance(full.json()["detail"], str)


def test_the_type_of_the_content_does_not_matter_and_run_ids_are_ignored(client):
    for kind in ("", "text/plain", "application/json"):
        answer = client.post(
            "/tesseract/darcy/abstract_eval?run_id=7", headers={"Content-Type": kind},
            content=b'{"inputs": {"permeability": {"shape": [85, 85], "dtype": "float32"}}}',
        )  # fmt: skip
        assert answer.status_code == 200


def test_no_dictionary_of_a_reply_looks_like_an_array_by_mistake(client):
    """Clients up to 1.12 take every dictionary with a shape for an array."""
    answer = client.post("/tesseract/darcy/apply", json={"inputs": GOOD}).json()
    for value in answer.values():
        assert value["object_type"] == "array" and set(value) == {"object_type", "shape", "dtype", "data"}
        assert "shape" not in value["data"]


def test_numbers_without_axes_have_an_empty_shape():
    for form in ("json", "json+base64"):
        found = arrays.encode(np.array(0.25), form)
        assert found["shape"] == [] and found["dtype"] == "float32"


def test_the_place_of_a_fault_is_in_the_inputs_unless_it_says_otherwise():
    assert fault(OutOfRange("permeability", "a", "b"))["loc"] == ["body", "inputs", "permeability"]
    assert fault(OutOfRange("tangent_vector.permeability", "a", "b"))["loc"] == [
        "body",
        "tangent_vector",
        "permeability",
    ]


def test_every_domain_error_has_an_answer():
    handler = next(answer for kind, answer in handlers().items() if kind.__name__ == "SurrogateError")
    for kind, status in STATUS.items():
        error = kind.__new__(kind)
        error.expected, error.got, error.remedy, error.field, error.retry_after = "a", "b", "c", None, 1.0
        error.needed, error.headers = "predict", {}
        assert handler(None, error).status_code == (422 if status in (400, 422) else status)


def test_crashes_and_answers_that_are_no_numbers_are_server_errors():
    async def nan(request):
        require_finite("pressure", np.array([np.nan]))

    async def post(app: Starlette, path: str, method: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path)

    app = Starlette(routes=[Route("/nan", nan)], exception_handlers=handlers())
    for target, path, method in ((app, "/nan", "GET"), (face.application(), "/darcy/apply", "POST")):
        answer = asyncio.run(post(target, path, method))
        assert answer.status_code == 500 and isinstance(answer.json()["detail"], str)
        assert "visit" not in answer.text and "Traceback" not in answer.text


def test_the_example_of_the_page_prints_what_it_says(server):
    printed, shown = run_page("tesseract.md", server)
    assert skeleton(printed) == skeleton(shown)
    assert numbers(printed) == pytest.approx(numbers(shown), rel=2e-3)
