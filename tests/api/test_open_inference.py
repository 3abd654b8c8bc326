"""Triton's stock clients, synchronous and asynchronous, against a real server; the same numbers as /v1 gives."""

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from api.encodings import times
from api.errors import STATUS
from api.protocols.open_inference import compression, reply
from api.protocols.open_inference.failures import HANDLERS, status_of
from api.protocols.open_inference.inference import Asked, read
from api.protocols.open_inference.tensors import contract_of
from models.errors import InvalidOutput, MissingField, NotOffered, Overloaded, TooLarge
from models.repository import SHIPPED
from models.surrogate import Question, Surrogate
from tests.conftest import serving

SAME = 1e-6  # float32 of the same numbers; another batch may be summed in another order
MODELS = ("darcy", "heat", "flood", "site_weather")
HEADER = "Inference-Header-Content-Length"
INFER = "/v2/models/darcy/infer"
SHAPE = (1, 85, 85)
GOOD = np.where(np.arange(85 * 85).reshape(SHAPE) % 7 < 3, 12.0, 3.0).astype(np.float32)

Arrays = dict[str, np.ndarray]


def address(server: str) -> str:
    return server.removeprefix("http://")


@pytest.fixture
def stock(server: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address(server), concurrency=8) as client:
        yield client


def from_buffer(array: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(array["data"]["buffer"]), array["dtype"]).reshape(array["shape"])


def example(client: httpx.Client, name: str) -> tuple[dict, Arrays]:
    """The body of a /v1 request, and its inputs with a batch axis."""
    body = client.get(f"/v1/models/{name}/example", params={"encoding": "base64"}).json()
    arrays = {}
    for key, value in body["inputs"].items():
        if isinstance(value, dict):
            arrays[key] = from_buffer(value)[None]
        elif isinstance(value, str):
            arrays[key] = np.array([times.decode(key, value)])
        else:
            arrays[key] = np.array([value], dtype=np.float32)
    return body, arrays


def as_inputs(arrays: Arrays, binary: bool = True) -> list[triton.InferInput]:
    inputs = []
    for name, values in arrays.items():
        item = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        inputs.append(item.set_data_from_numpy(values, binary_data=binary))
    return inputs


def wanted(*names: str, binary: bool = True) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def out_of_domain() -> np.ndarray:
    """A medium of three phases, where the model knows two."""
    values = GOOD.copy()
    values[0, 40:60, 40:60] = 7.0
    return values


# ---------------------------------------------------------------- metadata


def test_the_stock_client_reads_health_metadata_configuration_statistics_and_index(stock):
    assert stock.is_server_live() and stock.is_server_ready() and stock.is_model_ready("darcy")
    assert stock.is_model_ready("darcy", "1") and not stock.is_model_ready("atlantis")
    assert "binary_tensor_data" in stock.get_server_metadata()["extensions"]
    for name in MODELS:
        found = stock.get_model_metadata(name)
        assert stock.get_model_metadata(name, "1") == found
        assert found["name"] == name and "1" in found["versions"] and found["platform"] == "onnxruntime_onnx"
        configuration = stock.get_model_config(name)
        assert configuration["max_batch_size"] == 4
        for tensors, dims in (("inputs", "input"), ("outputs", "output")):
            shown = {item["name"]: (f"TYPE_{item['datatype']}", item["shape"][1:]) for item in found[tensors]}
            assert shown == {item["name"]: (item["data_type"], item["dims"]) for item in configuration[dims]}
            assert all(item["shape"][0] == -1 for item in found[tensors])
    index = {(row["name"], row["version"]): row["state"] for row in stock.get_model_repository_index()}
    assert index["darcy", "1"] == "READY"


def test_outputs_are_listed_in_their_order(stock):
    names = [item["name"] for item in stock.get_model_metadata("darcy")["outputs"]]
    assert names == [
        "pressure", "pressure_standard_deviation", "pressure_lower", "pressure_upper", "validity", "in_domain",
        "pressure_bound_energy", "pressure_bound_l2", "pressure_members",
    ]  # fmt: skip
    weather = {item["name"]: item for item in stock.get_model_metadata("site_weather")["inputs"]}
    assert weather["reference_time"] == {"name": "reference_time", "datatype": "FP64", "shape": [-1]}
    assert weather["wind_speed"]["shape"] == [-1, 25, 4]


def test_statistics_count_samples_and_runs(stock):
    def counts() -> tuple[int, int, int]:
        (found,) = stock.get_inference_statistics("darcy", "1")["model_stats"]
        assert sum(b["compute_infer"]["count"] for b in found["batch_stats"]) == found["execution_count"]
        assert found["inference_stats"]["compute_infer"]["count"] == found["inference_count"]
        return found["inference_count"], found["execution_count"], found["last_inference"]

    before = counts()
    stock.infer("darcy", as_inputs({"permeability": np.concatenate([GOOD] * 3)}), outputs=wanted("pressure"))
    after = counts()
    assert after[0] == before[0] + 3 and after[1] > before[1] and after[2] > before[2]
    assert {"darcy", "flood"} <= {row["name"] for row in stock.get_inference_statistics()["model_stats"]}


def test_paths_answer_without_redirects_and_in_the_words_of_the_protocol(client):
    for path in ("/v2", "/v2/"):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.json()["name"] == "surrogate-service"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}
    assert client.get("/v2/models/darcy/ready").json() == {"name": "darcy", "ready": True}
    assert client.head("/v2").status_code == 200
    for method, path, status in (
        ("GET", "/v2/logging", 404), ("GET", "/v2/systemsharedmemory/status", 404), ("GET", "/v2/models/", 404),
        ("POST", "/v2/models/darcy/generate", 404), ("GET", INFER, 405), ("DELETE", "/v2", 405),
        ("GET", "/v2/models/a%2Fb", 404), ("GET", "/v2/models/darcy/versions/9", 404), ("GET", "/v2x", 404),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert path == "/v2x" or isinstance(answer.json()["error"], str)


def test_index_may_list_ready_versions_only(client):
    for body in (b"", b'{"ready": true}', b"{}"):
        answer = client.post("/v2/repository/index", content=body)
        assert {row["state"] for row in answer.json()} == {"READY"}
    assert client.post("/v2/repository/index", content=b'{"ready": 1}').status_code == 400


def test_models_are_not_loaded_without_the_operators_leave(stock, client):
    for act in (stock.load_model, stock.unload_model):
        with pytest.raises(InferenceServerException, match="SURROGATE_MODEL_CONTROL"):
            act("darcy")
    assert client.post("/v2/repository/models/darcy/unload").status_code == 403
    assert stock.is_model_ready("darcy")


# ---------------------------------------------------------------- numbers


def expected_of(client: httpx.Client, name: str, body: dict) -> Mapping[str, np.ndarray]:
    """What /v1 says to the same inputs, by the names of the tensors."""
    request = {"inputs": body["inputs"], "encoding": "base64"}
    include = ["outputs", "uncertainty", "statements", "validity", "members"]
    answer = client.post(f"/v1/models/{name}/predict", json=request | {"include": include}).json()
    found = {}
    for field, output in answer["outputs"].items():
        found[field] = from_buffer(output["data"])
        for part in ("standard_deviation", "lower", "upper"):
            value = answer["uncertainty"][field][part]
            found[f"{field}_{part}"] = np.full(found[field].shape, np.nan) if value is None else from_buffer(value)
        found[f"{field}_members"] = from_buffer(answer["members"][field])
    for one in answer["statements"]:
        if one["kind"] == "guaranteed" and not one["relative"]:
            name = f"{one['quantity']}_bound_{one['norm']}"
            timed = one["lead_time"] is not None
            found[name] = np.append(found.get(name, []), one["value"]) if timed else np.array(one["value"])
    found["validity"] = np.array(answer["validity"]["p_value"])
    found["in_domain"] = np.array(answer["validity"]["in_domain"])
    return found


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_those_of_v1(stock, client, name, binary):
    body, arrays = example(client, name)
    expected = expected_of(client, name, body)
    outputs = [item["name"] for item in stock.get_model_metadata(name)["outputs"]]
    assert set(outputs) == set(expected)
    answer = stock.infer(name, as_inputs(arrays, binary), outputs=wanted(*outputs, binary=binary))
    for output in outputs:
        found = answer.as_numpy(output)
        assert found.shape == (1, *expected[output].shape), output
        np.testing.assert_allclose(found[0].astype(float), expected[output], rtol=SAME, atol=SAME, err_msg=output)


def test_without_names_every_output_but_the_members_comes(stock):
    answer = stock.infer("darcy", as_inputs({"permeability": GOOD}), request_id="ünï")
    response = answer.get_response()
    listed = [item["name"] for item in stock.get_model_metadata("darcy")["outputs"]]
    assert [item["name"] for item in response["outputs"]] == listed[:-1]
    assert (response["model_name"], response["model_version"], response["id"]) == ("darcy", "1", "ünï")


def test_a_subset_comes_in_the_order_asked_for(stock):
    batch = {"permeability": np.concatenate([GOOD, GOOD[:, ::-1]])}
    outputs = [*wanted("in_domain"), *wanted("pressure", binary=False), *wanted("pressure_members")]
    answer = stock.infer("darcy", as_inputs(batch), outputs=outputs)
    assert [item["name"] for item in answer.get_response()["outputs"]] == ["in_domain", "pressure", "pressure_members"]
    assert answer.as_numpy("in_domain").dtype == bool
    members, mean = answer.as_numpy("pressure_members"), answer.as_numpy("pressure")
    assert members.shape == (2, 4, 85, 85)
    np.testing.assert_allclose(mean, members.mean(axis=1), rtol=SAME, atol=SAME * np.abs(mean).max())


def test_a_verdict_does_not_depend_on_what_else_is_asked_for(stock):
    def asked(*names: str) -> triton.InferResult:
        return stock.infer("darcy", as_inputs({"permeability": GOOD}), outputs=wanted(*names))

    alone = asked("validity").as_numpy("validity")
    np.testing.assert_array_equal(alone, asked("validity", "pressure_bound_l2").as_numpy("validity"))


def test_level_and_kind_of_band_are_parameters(stock, client):
    _, arrays = example(client, "darcy")

    def width(**parameters: object) -> float:
        inputs = as_inputs(arrays)
        answer = stock.infer("darcy", inputs, outputs=wanted("pressure_lower", "pressure_upper"), parameters=parameters)
        return float((answer.as_numpy("pressure_upper") - answer.as_numpy("pressure_lower")).mean())

    assert width(band="pointwise") < width() < width(level=0.99)


def test_withdrawn_bands_are_nan_in_bytes_and_null_in_json(stock, client):
    batch = np.concatenate([example(client, "darcy")[1]["permeability"], out_of_domain()])
    names = ("in_domain", "pressure_lower", "pressure")
    found = stock.infer("darcy", as_inputs({"permeability": batch}), outputs=wanted(*names))
    assert found.as_numpy("in_domain").tolist() == [True, False]
    lower = found.as_numpy("pressure_lower")
    assert np.isfinite(lower[0]).all() and np.isnan(lower[1]).all()
    assert np.isfinite(found.as_numpy("pressure")).all()
    plain = client.post(INFER, json=document(out_of_domain(), outputs=[{"name": "pressure_lower"}])).json()
    assert plain["outputs"][0]["data"] == [None] * 85**2


def test_every_safe_datatype_gives_the_same_answer(stock):
    expected = stock.infer("darcy", as_inputs({"permeability": GOOD}), outputs=wanted("pressure")).as_numpy("pressure")
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        inputs = as_inputs({"permeability": GOOD.astype(kind)}, binary=True)
        found = stock.infer("darcy", inputs, outputs=wanted("pressure")).as_numpy("pressure")
        np.testing.assert_allclose(found, expected, rtol=SAME, atol=SAME * np.abs(expected).max())


def test_a_limit_is_inside_in_single_precision_too(stock, client):
    """float32(0.0001) is a little less than 0.0001."""
    body, arrays = example(client, "burgers")
    arrays["viscosity"] = np.array([1e-4], dtype=np.float32)
    assert float(arrays["viscosity"][0]) < 1e-4
    expected = expected_of(client, "burgers", body | {"inputs": body["inputs"] | {"viscosity": 1e-4}})
    found = stock.infer("burgers", as_inputs(arrays), outputs=wanted("velocity")).as_numpy("velocity")
    np.testing.assert_allclose(found[0], expected["velocity"], rtol=SAME, atol=SAME)


def test_nested_json_data_is_row_major(client):
    values = GOOD.copy()
    values[0, 3] = 12.0
    flat = client.post(INFER, json=document(values))
    nested = client.post(INFER, json=document(values, data=values.tolist()))
    assert flat.status_code == 200
    assert flat.json() == nested.json()


def test_a_header_of_any_length_leaves_the_numbers_alone(client):
    expected = client.post(INFER, json=document(GOOD)).json()["outputs"][0]["data"]
    for padding in range(4):  # blobs then begin at every offset from a multiple of four
        body, size = binary(GOOD, padding=" " * padding)
        answer = client.post(INFER, content=body, headers={HEADER: str(size)})
        np.testing.assert_allclose(answer.json()["outputs"][0]["data"], expected, rtol=SAME, atol=SAME)


def test_a_raw_request_is_one_sample_and_its_answer_is_bytes(client, stock):
    answer = client.post(INFER, content=GOOD.tobytes(), headers={HEADER: "0"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream"
    found = triton.InferenceServerClient.parse_response_body(answer.content, header_length=int(answer.headers[HEADER]))
    expected = stock.infer("darcy", as_inputs({"permeability": GOOD}))
    for item in expected.get_response()["outputs"]:
        name = item["name"]
        np.testing.assert_allclose(found.as_numpy(name), expected.as_numpy(name), rtol=SAME, atol=SAME)
    for path, body in ((INFER, GOOD.tobytes()[:-4]), (INFER, b""), ("/v2/models/flood/infer", GOOD.tobytes())):
        assert_refused(client.post(path, content=body, headers={HEADER: "0"}), 400, "")


# ---------------------------------------------------------------- compression, concurrency


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_both_directions_may_be_compressed(stock, algorithm):
    inputs = as_inputs({"permeability": GOOD})
    plain = stock.infer("darcy", inputs, outputs=wanted("pressure"))
    packed = stock.infer(
        "darcy", inputs, outputs=wanted("pressure"),
        request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
    )  # fmt: skip
    np.testing.assert_allclose(packed.as_numpy("pressure"), plain.as_numpy("pressure"), rtol=SAME, atol=SAME)


def test_replies_are_packed_only_for_those_who_name_one_encoding(client):
    wanted = (("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate, br", None), ("br", None), ("x-gzip", None))
    for header, packed in wanted:
        answer = client.post(INFER, json=document(GOOD), headers={"Accept-Encoding": header})
        assert answer.headers.get("content-encoding") == packed
        assert answer.json()["outputs"][0]["name"] == "pressure"
        refused = client.post(INFER, json={}, headers={"Accept-Encoding": header})
        metadata = client.get("/v2/models/darcy", headers={"Accept-Encoding": header})
        assert "content-encoding" not in refused.headers and "content-encoding" not in metadata.headers


def test_bodies_that_unpack_beyond_the_limit_are_refused(client):
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = pack(b" " * (64 * 2**20))
        assert len(bomb) < 2**17
        assert_refused(client.post(INFER, content=bomb, headers={"Content-Encoding": encoding}), 413, "unpacked")
        whole = pack(json.dumps(document(GOOD)).encode())
        assert client.post(INFER, content=whole, headers={"Content-Encoding": encoding}).status_code == 200
        for broken in (whole[:-5], whole + b"x", b"", b"not packed"):
            assert_refused(client.post(INFER, content=broken, headers={"Content-Encoding": encoding}), 400, "body")
    for encoding in ("br", "zstd", "gzip, deflate"):
        answer = client.post(INFER, json=document(GOOD), headers={"Content-Encoding": encoding})
        assert_refused(answer, 415, "Content-Encoding")
        assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_gzip_may_have_several_members_and_an_old_name(client):
    text = json.dumps(document(GOOD)).encode()
    members = gzip.compress(text[:50]) + gzip.compress(b"") + gzip.compress(text[50:])
    for name in ("gzip", "x-gzip"):
        answer = client.post(INFER, content=members, headers={"Content-Encoding": name})
        assert answer.json()["outputs"][0]["name"] == "pressure"
    empty = gzip.compress(b"")
    many = client.post(INFER, content=gzip.compress(text) + 2000 * empty, headers={"Content-Encoding": "gzip"})
    assert_refused(many, 400, "members")
    twice = zlib.compress(text[:50]) + zlib.compress(text[50:])
    assert_refused(client.post(INFER, content=twice, headers={"Content-Encoding": "deflate"}), 400, "after its end")


def test_what_a_body_unpacks_to_takes_its_share_of_the_waiting_bytes():
    with serving(SHIPPED, SURROGATE_MAX_WAITING_BYTES=str(2**16)) as found:
        body = json.dumps(document(GOOD)).encode().ljust(2**16)
        headers = {"Content-Encoding": "gzip"}
        fits = httpx.post(found + INFER, content=gzip.compress(body), headers=headers)
        assert fits.status_code == 200
        exceeds = httpx.post(found + INFER, content=gzip.compress(body + b" "), headers=headers)
        assert_refused(exceeds, 503, "bytes waiting for darcy")
        assert int(exceeds.headers["retry-after"]) >= 1
        asked = httpx.post(f"{found}/v2/repository/index", content=b" " * (2**16 + 1))
        assert_refused(asked, 503, "bytes waiting for /v2")


def test_unpacking_stops_at_the_limit():
    packed = zlib.compress(b"a" * 2**18)
    assert compression.unpack(packed, "deflate", 2**18) == b"a" * 2**18
    with pytest.raises(TooLarge):
        compression.unpack(packed, "deflate", 2**18 - 1)


def test_what_the_clients_of_mlserver_say_of_arrays_is_understood(client):
    said = {"parameters": {"content_type": "np"}}
    body = document(GOOD, outputs=[{"name": "pressure"} | said]) | said
    body["inputs"][0] |= said
    expected = client.post(INFER, json=document(GOOD)).json()
    assert client.post(INFER, json=body).json() == expected


def test_a_timeout_of_zero_is_none(client):
    assert client.post(INFER, json=document(GOOD, parameters={"timeout": 0})).status_code == 200


def test_eight_requests_at_once_get_their_own_answers(stock):
    media = [np.where(np.random.default_rng(seed).random(SHAPE) < 0.5, 3.0, 12.0) for seed in range(8)]
    media = [values.astype(np.float32) for values in media]

    def ask(values: np.ndarray) -> triton.InferAsyncRequest:
        return stock.async_infer("darcy", as_inputs({"permeability": values}), outputs=wanted("pressure"))

    together = [request.get_result().as_numpy("pressure") for request in [ask(values) for values in media]]
    for values, found in zip(media, together, strict=True):
        alone = ask(values).get_result().as_numpy("pressure")
        np.testing.assert_allclose(found, alone, rtol=SAME, atol=SAME)
    assert len({found.tobytes() for found in together}) == 8


def test_the_asynchronous_client_reads_everything(server, client):
    body, arrays = example(client, "flood")
    expected = expected_of(client, "flood", body)

    async def talk() -> None:
        async with triton_aio.InferenceServerClient(address(server)) as aio:
            assert await aio.is_server_live() and await aio.is_server_ready() and await aio.is_model_ready("flood")
            assert (await aio.get_server_metadata())["name"] == "surrogate-service"
            names = [item["name"] for item in (await aio.get_model_metadata("flood"))["outputs"]]
            assert (await aio.get_model_config("flood"))["max_batch_size"] == 4
            assert (await aio.get_inference_statistics("flood"))["model_stats"][0]["name"] == "flood"
            assert {row["state"] for row in await aio.get_model_repository_index()} == {"READY"}
            for algorithm in (None, "gzip", "deflate"):
                found = await aio.infer(
                    "flood", as_inputs(arrays), outputs=wanted(*names),
                    request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
                )  # fmt: skip
                for name in names:
                    np.testing.assert_allclose(
                        found.as_numpy(name)[0].astype(float), expected[name], rtol=SAME, atol=SAME
                    )
            with pytest.raises(InferenceServerException, match="atlantis"):
                await aio.infer("atlantis", as_inputs(arrays))

    asyncio.run(talk())


# ---------------------------------------------------------------- refusals


def document(values: np.ndarray, /, parameters: dict | None = None, outputs: object = None, **changes: object) -> dict:
    item = {"name": "permeability", "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
    item = {key: value for key, value in (item | changes).items() if value is not None}
    found: dict = {"inputs": [item], "outputs": [{"name": "pressure"}] if outputs is None else outputs}
    return found | ({"parameters": parameters} if parameters else {})


def binary(
    values: np.ndarray, padding: str = "", size: object = None, tail: bytes = b"", **changes: object
) -> tuple[bytes, int]:
    raw = values.tobytes()
    head = document(values, **{"data": None, **changes}) | {"id": padding}
    head["inputs"][0]["parameters"] = {"binary_data_size": len(raw) if size is None else size}
    text = json.dumps(head).encode()
    return text + raw + tail, len(text)


def assert_refused(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text[:300]
    assert list(answer.json()) == ["error"] and text in answer.json()["error"], answer.text[:300]
    assert "Traceback" not in answer.text


DOUBLED = [document(GOOD)["inputs"][0]] * 2
REFUSED: dict[str, tuple[object, int, str]] = {
    "no inputs": ({}, 400, "inputs"),
    "inputs empty": ({"inputs": []}, 400, "permeability"),
    "inputs of another kind": ({"inputs": {"permeability": 1}}, 400, "inputs"),
    "an unknown input": (document(GOOD, name="porosity"), 400, "porosity"),
    "an input twice": ({"inputs": DOUBLED}, 400, "twice"),
    "a wrong shape": (document(GOOD, shape=[1, 84, 85]), 400, "permeability"),
    "no batch axis": (document(GOOD[0]), 400, "batch axis is missing, send [1, 85, 85]"),
    "no shape": (document(GOOD, shape=None), 400, "shape"),
    "a negative shape": (document(GOOD, shape=[-1, 85, 85]), 400, "shape [samples, 85, 85], got [-1, 85, 85]"),
    "an empty batch": (document(GOOD, shape=[0, 85, 85], data=[]), 400, "at least one sample"),
    "too large a batch": (document(GOOD, shape=[5, 85, 85]), 413, "at most 4 samples"),
    "an enormous batch": (document(GOOD, shape=[10**15, 85, 85]), 413, "at most 4 samples"),
    "too few values": (document(GOOD, data=[1.0]), 400, "7225 values"),
    "ragged values": (document(GOOD, data=[[1.0], [1.0, 2.0]]), 400, "ragged"),
    "text among the values": (document(GOOD, data=["x"] * 85**2), 400, "numbers"),
    "null among the values": (document(GOOD, data=[None] * 85**2), 400, "numbers"),
    "booleans": (document(GOOD, data=[True] * 85**2), 400, "numbers"),
    "a boolean among the numbers": (document(GOOD, data=[True, *GOOD.ravel()[1:].tolist()]), 400, "numbers"),
    "no data": (document(GOOD, data=None), 400, "neither"),
    "data of another kind": (document(GOOD, data="1"), 400, "list of numbers"),
    "bytes": (document(GOOD, datatype="BYTES"), 400, "datatype"),
    "truth values": (document(GOOD, datatype="BOOL"), 400, "datatype"),
    "bfloat": (document(GOOD, datatype="BF16"), 400, "datatype"),
    "half precision in JSON": (document(GOOD, datatype="FP16"), 400, "JSON form"),
    "no datatype": (document(GOOD, datatype=None), 400, "datatype"),
    "fractions as integers": (document(GOOD + 0.5, datatype="INT32"), 400, "INT32"),
    "integers that do not fit": (document(GOOD * 100, datatype="UINT8"), 400, "UINT8"),
    "beyond float32": (document(GOOD, datatype="FP64", data=[1e300] * 85**2), 400, "in size"),
    "beyond the declared float32": (document(GOOD, data=[1e300] * 85**2), 400, "in size"),
    "out of range": (document(-GOOD), 400, "permeability"),
    "shared memory": (document(GOOD, parameters=None) | {"inputs": [
        DOUBLED[0] | {"parameters": {"shared_memory_region": "x"}}]}, 400, "shared_memory_region"),
    "an unknown output": (document(GOOD, outputs=[{"name": "porosity"}]), 400, "pressure_members"),
    "an output twice": (document(GOOD, outputs=[{"name": "pressure"}] * 2), 400, "twice"),
    "outputs of another kind": (document(GOOD, outputs="pressure"), 400, "outputs"),
    "classification": (
        document(GOOD, outputs=[{"name": "pressure", "parameters": {"classification": 1}}]), 400, "classification"),
    "binary_data not a truth value": (
        document(GOOD, outputs=[{"name": "pressure", "parameters": {"binary_data": 1}}]), 400, "binary_data"),
    "content of another kind": (document(GOOD, parameters={"content_type": "str"}), 400, "content_type"),
    "an unknown parameter": (document(GOOD, parameters={"temperature": 1}), 400, "temperature"),
    "a sequence": (document(GOOD, parameters={"sequence_id": 3}), 400, "sequence_id"),
    "a named sequence": (document(GOOD, parameters={"sequence_id": "a"}), 400, "sequence_id"),
    "a level of one": (document(GOOD, parameters={"level": 1}), 400, "level"),
    "a level of text": (document(GOOD, parameters={"level": "high"}), 400, "level"),
    "a level beyond calibration": (document(GOOD, parameters={"level": 0.9999}), 400, "level"),
    "a band of another kind": (document(GOOD, parameters={"band": "widest"}), 400, "band"),
    "a negative timeout": (document(GOOD, parameters={"timeout": -1}), 400, "timeout"),
    "a timeout of text": (document(GOOD, parameters={"timeout": "1"}), 400, "timeout"),
    "a timeout that has passed": (document(GOOD, parameters={"timeout": 1}), 504, "within 1e-06 s"),
    "an identity that is no text": (document(GOOD) | {"id": 7}, 400, "id"),
    "parameters of another kind": (document(GOOD) | {"parameters": [1]}, 400, "parameters"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_requests_that_cannot_be_used_are_refused_with_the_reason(client, name):
    body, status, text = REFUSED[name]
    assert_refused(client.post(INFER, json=body), status, text)


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"[" * 10**5, b'{"inputs": [NaN]}', b"\xff"])
def test_unreadable_json_is_refused(client, text):
    assert_refused(client.post(INFER, content=text), 400, "body")


def test_binary_parts_must_add_up(client):
    body, size = binary(GOOD)
    assert client.post(INFER, content=body, headers={HEADER: str(size)}).status_code == 200
    for header in ("-1", "x", "1e3", "²", str(len(body) + 1), "9" * 30, "", str(size - 1), str(size + 1)):
        assert_refused(client.post(INFER, content=body, headers={HEADER: header.encode("latin-1")}), 400, "")
    both = {"data": GOOD.ravel().tolist()}
    for broken, text in (
        (binary(GOOD, tail=b"1234"), "binary_data_size"), (binary(GOOD, size=4), "binary_data_size"),
        (binary(GOOD, size=-4), "binary_data_size"), (binary(GOOD, size=1.5), "binary_data_size"),
        (binary(GOOD, size=True), "binary_data_size"), (binary(GOOD, size=10**18), "binary_data_size"),
        (binary(GOOD, **both), "both"), (binary(GOOD, datatype="FP64"), "FP64"), (binary(GOOD, shape=[2, 85, 85]), "FP32"),
    ):  # fmt: skip
        assert_refused(client.post(INFER, content=broken[0], headers={HEADER: str(broken[1])}), 400, text)
    for value in (np.nan, np.inf):
        odd, size = binary(np.full(SHAPE, value, np.float32))
        assert_refused(client.post(INFER, content=odd, headers={HEADER: str(size)}), 400, "finite")


def test_truncated_bodies_are_the_clients_fault(client, generator):
    body, size = binary(GOOD)
    for cut in (0, 1, size - 1, size, *generator.integers(len(body), size=60)):
        assert_refused(client.post(INFER, content=body[:cut], headers={HEADER: str(size)}), 400, "")
    assert client.get("/v2/health/live").status_code == 200


def test_unknown_models_and_versions(stock):
    for model, version in (("atlantis", ""), ("darcy", "99")):
        with pytest.raises(InferenceServerException, match=version or model) as caught:
            stock.infer(model, as_inputs({"permeability": GOOD}), model_version=version)
        assert caught.value.status() == "404"


def test_bodies_beyond_the_limit_are_refused(client):
    assert_refused(client.post(INFER, content=b" " * (2 * 2**20 + 1)), 413, "body")


def test_a_deadline_in_time_lets_the_answer_through(stock):
    answer = stock.infer("darcy", as_inputs({"permeability": GOOD}), outputs=wanted("pressure"), timeout=50_000_000)
    assert np.isfinite(answer.as_numpy("pressure")).all()


# ---------------------------------------------------------------- parts alone


def asked_of(surrogate: Surrogate, *names: str) -> Asked:
    outputs = [{"name": name} for name in names]
    return read(json.dumps(document(GOOD, outputs=outputs)).encode(), None, contract_of(surrogate), 4)


def test_a_bare_request_asks_for_nothing_else(darcy):
    assert asked_of(darcy, "pressure", "pressure_members").question == Question(bounds=False, uncertainty=False)
    assert asked_of(darcy, "pressure_lower").question.uncertainty
    assert asked_of(darcy, "pressure_bound_l2").question.bounds


def test_a_verdict_that_rests_on_the_bound_asks_for_it(darcy):
    """Otherwise validity would be another number when the bound is asked for too."""
    assert darcy.domain.uses_task
    for name in ("validity", "in_domain", "pressure_upper"):
        assert asked_of(darcy, name).question.bounds


@pytest.mark.parametrize("tensor", ["pressure", "pressure_lower"])
def test_numbers_that_are_not_finite_are_not_handed_out(darcy, medium_in_domain, tensor):
    asked = asked_of(darcy, "pressure", "pressure_lower")
    answer = darcy.predict({"permeability": medium_in_domain}, asked.question)
    assert answer.validity[0].in_domain and reply.write(darcy, asked, answer).header is None
    prediction, band = answer.predictions["pressure"], answer.bands["pressure"]
    if tensor == "pressure":
        answer = replace(answer, predictions={"pressure": replace(prediction, mean=spoilt(prediction.mean))})
    else:
        answer = replace(answer, bands={"pressure": replace(band, lower=spoilt(band.lower))})
    with pytest.raises(InvalidOutput, match=f"{tensor}: finite numbers, got 1 not finite") as caught:
        reply.write(darcy, asked, answer)
    assert status_of(caught.value) == 500


def spoilt(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[5] = np.nan
    return values


@pytest.fixture
def medium_in_domain(client: httpx.Client) -> np.ndarray:
    return example(client, "darcy")[1]["permeability"]


def test_every_failure_has_a_status_of_the_protocol():
    for kind in STATUS:
        assert status_of(kind.__new__(kind)) in {400, 401, 403, 404, 408, 413, 415, 429, 499, 500, 501, 503, 504}
    assert status_of(NotOffered("x", "y")) == 501
    assert status_of(MissingField("x")) == 400


def test_a_fault_of_ours_is_told_without_its_trace():
    async def broken(_request: Request) -> None:
        raise ZeroDivisionError("secret")

    async def full(_request: Request) -> None:
        raise Overloaded("at most 1", "2", 3.0)

    app = Starlette(routes=[Route("/x", broken), Route("/full", full)], exception_handlers=HANDLERS)

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/x"), await client.get("/full")

    fault, busy = asyncio.run(ask())
    assert_refused(fault, 500, "The service failed")
    assert "secret" not in fault.text
    assert_refused(busy, 503, "at most 1")
    assert busy.headers["retry-after"] == "3"
