"""One question on every face: /v1 in JSON and base64, NPY, NetCDF, Open Inference, UM-Bridge, Tesseract, our client."""

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import umbridge
import xarray
from tesseract_core import Tesseract

from api import client as notebook
from api.encodings import times
from tests.served_examples import read

MODELS = ("darcy", "burgers", "flood", "site_weather")
ROUNDING = 1e-5  # float32; batches of other sizes are summed in another order


def asked(server: str, name: str) -> tuple[dict, dict]:
    """(inputs on the wire of /v1, the same as float64 arrays without a batch axis)."""
    example = httpx.get(f"{server}/v1/models/{name}/example", params={"seed": 5, "encoding": "base64"}).json()["inputs"]
    return example, {k: read(v) if isinstance(v, dict) else v for k, v in example.items()}


def by_v1(server, name, example, encoding) -> dict[str, np.ndarray]:
    answer = httpx.post(
        f"{server}/v1/models/{name}/predict", json={"inputs": example, "encoding": encoding}, timeout=60
    )
    fields = answer.raise_for_status().json()["outputs"]
    return {k: read(v["data"]) if encoding == "base64" else np.array(v["data"]) for k, v in fields.items()}


def numbers(values: dict) -> dict[str, np.ndarray]:
    """Times as hours since 1970, as the foreign faces take them."""
    return {k: np.asarray(times.decode(k, v) if isinstance(v, str) else v) for k, v in values.items()}


def by_open_inference(server, name, values) -> dict[str, np.ndarray]:
    with triton.InferenceServerClient(server.removeprefix("http://")) as link:
        metadata = link.get_model_metadata(name)
        inputs = []
        for item in metadata["inputs"]:
            kind = np.float64 if item["datatype"] == "FP64" else np.float32
            array = np.asarray(values[item["name"]], kind)[None]
            inputs.append(triton.InferInput(item["name"], list(array.shape), item["datatype"]))
            inputs[-1].set_data_from_numpy(array)
        names = [o["name"] for o in metadata["outputs"] if o["name"] in fields_of(server, name)]
        found = link.infer(name, inputs, outputs=[triton.InferRequestedOutput(n) for n in names])
        return {n: found.as_numpy(n)[0] for n in names}


def fields_of(server, name) -> dict[str, tuple[int, ...]]:
    document = httpx.get(f"{server}/v1/models/{name}").json()
    return {item["name"]: tuple(axis["points"] for axis in item["axes"]) for item in document["outputs"]}


def by_umbridge(server, name, values) -> dict[str, np.ndarray]:
    document = httpx.get(f"{server}/v1/models/{name}").json()
    order = [item["name"] for item in document["inputs"]]
    model = umbridge.HTTPModel(f"{server}/umbridge/{name}", name)
    found = model([np.ravel(np.asarray(values[n], np.float64)).tolist() for n in order])
    shapes = fields_of(server, name)
    return {n: np.array(v).reshape(shapes[n]) for n, v in zip(shapes, found, strict=True)}


def by_tesseract(server, name, values) -> dict[str, np.ndarray]:
    found = Tesseract.from_url(f"{server}/tesseract/{name}").apply(values)
    return {n: np.asarray(found[n]) for n in fields_of(server, name)}


def by_netcdf(server, name, example, folder) -> dict[str, np.ndarray]:
    answer = httpx.post(
        f"{server}/v1/models/{name}/predict", json={"inputs": example}, headers={"Accept": "application/x-netcdf"},
        timeout=60,
    )  # fmt: skip
    path = folder / f"{name}.nc"
    path.write_bytes(answer.raise_for_status().content)
    with xarray.open_dataset(path, decode_timedelta=False) as file:
        return {n: np.asarray(file[n]).squeeze() for n in fields_of(server, name)}


def by_our_client(server, name, example) -> dict[str, np.ndarray]:
    with notebook.connect(server) as models:
        found = models[name].predict({k: read(v) if isinstance(v, dict) else v for k, v in example.items()})
        return {n: found[n].values for n in fields_of(server, name)}


@pytest.mark.parametrize("name", MODELS)
def test_every_face_gives_the_same_numbers(server, name, tmp_path):
    example, values = asked(server, name)
    right = by_v1(server, name, example, "base64")
    answers = {
        "/v1 in JSON": by_v1(server, name, example, "json"),
        "NetCDF": by_netcdf(server, name, example, tmp_path),
        "Open Inference": by_open_inference(server, name, numbers(values)),
        "UM-Bridge": by_umbridge(server, name, numbers(values)),
        "Tesseract": by_tesseract(server, name, numbers(values)),
        "our client": by_our_client(server, name, example),
    }
    for face, found in answers.items():
        assert set(found) == set(right), face
        for field, expected in right.items():
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                found[field], expected.squeeze() if face == "NetCDF" else expected, rtol=ROUNDING,
                atol=ROUNDING * scale, err_msg=f"{face}, {field}",
            )  # fmt: skip
