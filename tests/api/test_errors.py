"""Every bad request gets a problem document that names the field and the remedy, and the service keeps answering."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.encodings.npy import decode
from api.errors import STATUS, code_of
from api.settings import BATCH_SETTING, BODY_SETTING, PREFIX, VALUES_SETTING, Settings
from models import errors
from models.fields import Axis, Field

PREDICT = "/v1/models/darcy/predict"
GOOD = np.where(np.arange(85 * 85).reshape(85, 85) % 7 < 3, 12.0, 3.0)


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_domain_error_has_a_status():
    assert subclasses(errors.SurrogateError) - {errors.SurrogateError} <= set(STATUS)


def body(values: object = None, **options: object) -> dict:
    return {"inputs": {"permeability": GOOD.tolist() if values is None else values}, **options}


def changed(value: object) -> list:
    rows = GOOD.tolist()
    rows[3][5] = value
    return rows


def buffer(**changes: object) -> dict:
    raw = base64.b64encode(GOOD.astype("<f4").tobytes()).decode()
    data = {"buffer": raw, "encoding": "base64"}
    return {"shape": [85, 85], "dtype": "float32", "data": data} | changes


def data(text: str) -> dict:
    return {"data": {"buffer": text, "encoding": "base64"}}


NAN = base64.b64encode(np.full((85, 85), np.nan, "<f4").tobytes()).decode()
INF = base64.b64encode(np.full((85, 85), np.inf, "<f4").tobytes()).decode()
SHORT = base64.b64encode(b"1234").decode()
BAD = {
    "missing inputs": ({}, 422, "missing-field", "inputs"),
    "inputs not an object": ({"inputs": 3}, 422, "wrong-type", "inputs"),
    "missing field": ({"inputs": {}}, 422, "missing-field", "inputs.permeability"),
    "unknown field": ({"inputs": {"porosity": [[1.0]]}}, 422, "unknown-field", "inputs.porosity"),
    "wrong rank": (body([1.0, 2.0]), 422, "wrong-shape", "permeability"),
    "rank four": (body([[GOOD.tolist()]]), 422, "wrong-shape", "permeability"),
    "wrong shape": (body(GOOD[:84].tolist()), 422, "wrong-shape", "permeability"),
    "empty": (body([]), 422, "wrong-shape", "permeability"),
    "ragged": (body([*GOOD.tolist()[:84], [1.0]]), 422, "malformed-array", "permeability"),
    "a string inside": (body(changed("three")), 422, "wrong-type", "permeability"),
    "null inside": (body(changed(None)), 422, "wrong-type", "permeability"),
    "a boolean for a field": (body(True), 422, "wrong-type", "permeability"),
    "a list too deep inside": (body(changed([1.0])), 422, "malformed-array", "permeability"),
    "negative": (body(changed(-1.0)), 422, "out-of-range", "permeability"),
    "zero": (body(changed(0.0)), 422, "out-of-range", "permeability"),
    "too large a value": (body(changed(1e6)), 422, "out-of-range", "permeability"),
    "an integer beyond 64 bits": (body(changed(10**30)), 422, None, "permeability"),
    "NaN": (body(buffer(**data(NAN))), 422, "not-finite", "permeability"),
    "infinity": (body(buffer(**data(INF))), 422, "not-finite", "permeability"),
    "bad base64": (body(buffer(**data("!" * 38536))), 422, "malformed-array", "buffer"),
    "truncated buffer": (body(buffer(**data(SHORT))), 422, "malformed-array", "buffer"),
    "shape that lies": (body(buffer(shape=[3, 85, 85])), 422, "malformed-array", "buffer"),
    "huge shape": (body(buffer(shape=[10**12, 85, 85])), 413, "too-large", "permeability"),
    "negative shape": (body(buffer(shape=[-85, -85])), 422, "malformed-array", "shape"),
    "wrong dtype": (body(buffer(dtype="object")), 422, "wrong-type", "dtype"),
    "complex dtype": (body(buffer(dtype="complex64")), 422, "wrong-type", "dtype"),
    "unknown encoding of data": (body(buffer(data={"buffer": "", "encoding": "gzip"})), 422, "malformed-array", "data"),
    "batch too large": (body([GOOD.tolist()] * 5), 413, "too-large", "permeability"),
    "level one": (body(level=1.0), 422, "unsupported-level", "level"),
    "level negative": (body(level=-0.5), 422, "unsupported-level", "level"),
    "level beyond calibration": (body(level=0.9999), 422, "unsupported-level", "level"),
    "level a string": (body(level="high"), 422, "unknown-option", "level"),
    "unknown option": (body(temperature=0.7), 422, "unknown-option", "temperature"),
    "unknown part": (body(include=["weights"]), 422, "unknown-option", "include"),
    "unknown answer encoding": (body(encoding="xml"), 422, "unknown-option", "encoding"),
    "unknown band": (body(band="widest"), 422, "unknown-option", "band"),
}


def assert_problem(answer: httpx.Response, status: int, code: str | None, field: str | None) -> dict:
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    if code is not None:
        assert problem["code"] == code
        assert problem["type"].endswith(code)
    if field is not None:
        assert field in problem["field"]
        for key in ("expected", "got", "remedy", "detail"):
            assert problem[key]
    return problem


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_name_the_field_and_the_remedy(client: httpx.Client, name: str):
    document, status, code, field = BAD[name]
    assert_problem(client.post(PREDICT, json=document), status, code, field)
    assert client.get("/healthz").status_code == 200


def test_of_a_long_name_no_more_is_repeated_than_can_be_read(client):
    refused = client.post(PREDICT, json={"inputs": {"x" * 100_000: [1.0]}})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown-field")
    assert len(refused.content) < 3000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1, 2",
        b'{"inputs": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
    ],
    ids=["empty", "open", "list", "nan", "deep list", "deep object", "bytes", "null", "array", "string"],
)
def test_malformed_json_is_a_bad_request(client, text):
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post(PREDICT, content=text, headers=headers), 400, "malformed-body", "body")


def test_wrong_and_missing_content_types(client):
    text = json.dumps(body()).encode()
    for kind in ("text/plain", "application/xml", ""):
        answer = client.post(PREDICT, content=text, headers={"Content-Type": kind})
        assert_problem(answer, 415, "unsupported-media-type", "Content-Type")
    answer = client.post(PREDICT, json=body(), headers={"Accept": "video/mp4"})
    assert_problem(answer, 406, "not-acceptable", "Accept")
    answer = client.post(
        PREDICT, content=text, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    assert_problem(answer, 415, "unsupported-media-type", "Content-Encoding")


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_body_that_is_said_to_be_plain_is_read(client, encoding):
    headers = {"Content-Encoding": encoding}
    assert client.post(PREDICT, json=body(), headers=headers).status_code == 200
    assert client.post("/umbridge/ModelInfo", json={"name": "darcy"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("application/x-npy;q=0.1, application/json", "application/json"),
        ("application/json;q=0, application/x-npy", "application/x-npy"),
        ("application/json;q=0.2, image/*;q=0.3", "image/png"),
        ("Text/HTML, */*;q=0.1", "application/json"),
    ],
)
def test_the_format_is_the_one_most_wanted(client, header, kind):
    assert client.post(PREDICT, json=body(), headers={"Accept": header}).headers["content-type"] == kind


def test_a_header_of_several_lines_is_one(client):
    lines = [("Accept", "image/webp"), ("Accept", "application/x-npy")]
    answer = client.post(PREDICT, json=body(), headers=lines)
    assert answer.headers["content-type"] == "application/x-npy"
    medium = {"permeability": {"shape": [85, 85], "dtype": "float32"}}
    answer = client.post(
        "/tesseract/darcy/abstract_eval", json={"inputs": medium}, headers=[lines[0], ("Accept", "*/*")]
    )
    assert answer.status_code == 200


def test_a_format_without_weight_is_not_wanted(client):
    answer = client.post(PREDICT, json=body(), headers={"Accept": "application/json;q=0"})
    assert_problem(answer, 406, "not-acceptable", "Accept")


def test_bodies_beyond_the_limit_are_refused_by_header_and_by_count(client, server):
    big = b" " * (2 * 2**20 + 1)
    assert_problem(
        client.post(PREDICT, content=big, headers={"Content-Type": "application/json"}), 413, "too-large", "body"
    )

    def chunks():
        for _ in range(5):
            yield b" " * 2**19

    headers = {"Content-Type": "application/json"}
    assert_problem(client.post(PREDICT, content=chunks(), headers=headers), 413, "too-large", "body")


def test_a_refusal_of_too_much_names_the_setting(client):
    found = client.post(PREDICT, content=b" " * (2 * 2**20 + 1), headers={"Content-Type": "application/json"}).json()
    assert BODY_SETTING in found["remedy"]
    found = client.post(PREDICT, json=body([GOOD.tolist()] * 5)).json()
    assert BATCH_SETTING in found["remedy"]
    for setting in (BODY_SETTING, BATCH_SETTING, VALUES_SETTING):
        assert setting.removeprefix(PREFIX).lower() in Settings.model_fields


def npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"not an npy file", "malformed-array"),
        (b"\x93NUMPY\x01\x00", "malformed-array"),
        (npy(GOOD)[:-8], "malformed-array"),
        (npy(GOOD) + b"x", "malformed-array"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "wrong-type"),
        (npy(GOOD.astype(complex)), "wrong-type"),
        (npy(GOOD[:5]), "wrong-shape"),
        (b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 85, 85)}".ljust(117) + b"\n", None),
    ],
)  # fmt: skip
def test_bad_npy_bodies(client, raw, code):
    answer = client.post(PREDICT, content=raw, headers={"Content-Type": "application/x-npy"})
    assert answer.status_code in (413, 422)
    assert_problem(answer, answer.status_code, code, "permeability")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_every_version_of_npy_is_read(client, version):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, GOOD, version=version)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    assert client.post(PREDICT, content=stream.getvalue(), headers=headers).status_code == 200


SIDE = Axis("x", "1", 85, 0.0, 1.0)
MEDIUM = Field("permeability", "a", "1", "Permeability.", (SIDE, SIDE))
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (85, 85), }"
PIECES = ("(", ")", "'", "'f4,f4'", "()", "[]", "{[]: 1}", "-" * 3000, "L", "None", "\\", "\n", ":", "\0", "\xff")


@given(st.integers(0, len(HEADER)), st.integers(0, 12), st.sampled_from(PIECES), st.sampled_from([1, 2, 3]))
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")  # a header of Python 2
def test_headers_of_npy_files_that_make_no_sense_are_refused(place, dropped, piece, version):
    text = (HEADER[:place] + piece + HEADER[place + dropped :]).encode("latin-1")
    raw = b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text
    with pytest.raises(errors.InvalidInput):
        decode(MEDIUM, raw, 1)


def test_head_answers_what_get_does_without_the_body(client):
    for path in ("/", "/healthz", "/readyz", "/v1/models", "/v1/models/darcy", "/docs"):
        got, asked = client.get(path), client.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == got.headers["content-length"]
    assert client.head(PREDICT).status_code == 405


def test_unknown_models_versions_routes_and_methods(client):
    assert_problem(client.post("/v1/models/atlantis/predict", json=body()), 404, "unknown-model", "name")
    assert_problem(client.post("/v1/models/darcy/versions/99/predict", json=body()), 404, "unknown-version", "version")
    assert_problem(client.get("/v1/models/..%2f..%2fetc"), 404, None, None)
    assert_problem(client.get("/v3"), 404, "not-found", None)
    answer = client.delete(PREDICT)
    assert_problem(answer, 405, "method-not-allowed", None)
    assert "POST" in answer.headers["allow"]


def test_example_refuses_odd_seeds(client):
    for seed in ("-1", "x", str(2**70)):
        assert_problem(client.get("/v1/models/darcy/example", params={"seed": seed}), 422, "unknown-option", "seed")


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({}, "quantity"),
        ({"quantity": {"type": "point", "x": 9.0, "y": 0.5}}, "quantity.x"),
        ({"quantity": {"type": "mode"}}, "quantity.type"),
        ({"quantity": {"type": "norm"}, "method": "tea leaves"}, "method"),
        ({"quantity": {"type": "norm"}, "regions": 99}, "regions"),
        ({"quantity": {"type": "norm"}, "baseline": -3.0}, "baseline"),
        ({"quantity": {"type": "norm"}, "baseline": [[1.0, 2.0]]}, "baseline"),
        ({"quantity": {"type": "norm"}, "baseline": "average"}, "baseline"),
        ({"quantity": {"type": "norm", "polygon": {"x": [0, 1], "y": [0, 1]}}}, "quantity.polygon"),
        ({"quantity": {"type": "norm", "lead_time": 1.0}}, "quantity.lead_time"),
        ({"quantity": {"type": "norm"}, "regions": [{"name": "a", "x": [2, 3]}]}, "regions.0.x"),
        ({"quantity": {"type": "norm"}, "method": "what_if"}, "change"),
        ({"quantity": {"type": "norm"}, "baselines": 99}, "baselines"),
        ({"quantity": {"type": "norm"}, "smoothing": 0.9}, "smoothing"),
    ],
)
def test_bad_explanations(client, extra, field):
    assert_problem(client.post("/v1/models/darcy/explain", json=body() | extra), 422, None, field)


def test_shapley_values_of_too_many_regions_are_refused(client):
    asked = {"quantity": {"type": "norm"}, "method": "shapley", "regions": 4}
    assert_problem(client.post("/v1/models/darcy/explain", json=body() | asked), 413, "too-large", "regions")


def test_derivatives_check_their_second_array(client):
    assert_problem(client.post("/v1/models/darcy/jvp", json=body()), 422, "missing-field", "tangent")
    wrong = body() | {"cotangent": {"pressure": [[1.0]]}}
    assert_problem(client.post("/v1/models/darcy/vjp", json=wrong), 422, "wrong-shape", "cotangent.pressure")
    infinite = body() | {"tangent": {"permeability": buffer(**data(INF))}}
    assert_problem(client.post("/v1/models/darcy/jvp", json=infinite), 422, "not-finite", "tangent.permeability")
    batch = body() | {"tangent": {"permeability": [GOOD.tolist()] * 2}}
    assert_problem(client.post("/v1/models/darcy/jvp", json=batch), 422, "wrong-shape", "tangent.permeability")
    steep = body() | {"tangent": {"permeability": [[1e38] * 85] * 85}}
    assert_problem(client.post("/v1/models/darcy/jvp", json=steep), 422, "invalid-input", None)


def test_codes_are_kebab_case():
    assert code_of(errors.NotFinite) == "not-finite"
