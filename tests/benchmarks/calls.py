"""One field to each server in the encoding natural to it, and back: a request's path, headers and body."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NPY, JSON = "application/x-npy", "application/json"
EVERYTHING = ["outputs", "uncertainty", "statements", "validity", "members"]
LENGTH = "Inference-Header-Content-Length"
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Call:
    """A POST, and how its answer is read: (body, headers) → (64, 64)."""

    path: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[bytes, Headers], np.ndarray]


def raw_bytes(graph: str, a: np.ndarray) -> Call:
    """Little-endian float32, nothing else."""
    return Call("/predict", {"Content-Type": "application/octet-stream"}, a.tobytes(), _floats)


def npy(graph: str, a: np.ndarray) -> Call:
    """NumPy's file format, /v1."""
    buffer = io.BytesIO()
    np.save(buffer, a)
    headers = {"Content-Type": NPY, "Accept": NPY}
    return Call(f"/v1/models/{graph}/predict", headers, buffer.getvalue(), lambda body, _: np.load(io.BytesIO(body)))


def full_answer(graph: str, a: np.ndarray) -> Call:
    """Everything /v1 has to say."""
    return answer(graph, {"a": _base64(a)}, EVERYTHING)


def answer(model: str, inputs: Mapping[str, Any], parts: list[str], output: str = "u") -> Call:
    """Some parts of an answer of /v1, of which one output is read."""
    document = {"inputs": inputs, "include": parts, "encoding": "base64"}

    def read(body: bytes, headers: Headers) -> np.ndarray:
        return _from_base64(json.loads(body)["outputs"][output]["data"])

    headers = {"Content-Type": JSON, "Accept": JSON}
    return Call(f"/v1/models/{model}/predict", headers, json.dumps(document).encode(), read)


def inference_binary(graph: str, a: np.ndarray) -> Call:
    """Open Inference Protocol with binary tensors."""
    blob = a.tobytes()
    tensor = {"name": "a", "shape": [1, *a.shape], "datatype": "FP32", "parameters": {"binary_data_size": len(blob)}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "u", "parameters": {"binary_data": True}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    return Call(f"/v2/models/{graph}/infer", headers, head + blob, lambda body, h: _floats(body[int(h[LENGTH]) :], h))


def inference_json(graph: str, a: np.ndarray) -> Call:
    """Open Inference Protocol, numbers as text."""
    tensor = {"name": "a", "shape": [1, *a.shape], "datatype": "FP32", "data": _numbers(a.ravel())}

    def read(body: bytes, headers: Headers) -> np.ndarray:
        return np.float32(json.loads(body)["outputs"][0]["data"]).reshape(64, 64)

    return Call(f"/v2/models/{graph}/infer", {"Content-Type": JSON}, json.dumps({"inputs": [tensor]}).encode(), read)


def tesseract(graph: str, a: np.ndarray) -> Call:
    """Tesseract's protocol: base64 in JSON."""
    body = json.dumps({"inputs": {"a": _base64(a[None])}}).encode()
    headers = {"Content-Type": JSON, "Accept": "application/json+base64"}
    return Call("/apply", headers, body, lambda body, _: _from_base64(json.loads(body)["u"])[0])


def nested_batch(graph: str, a: np.ndarray) -> Call:
    """Nested lists, a batch of one."""
    body = json.dumps({"a": [_numbers(a)]}).encode()
    return Call("/predict", {"Content-Type": JSON}, body, lambda body, _: np.float32(json.loads(body))[0])


def nested_field(graph: str, a: np.ndarray) -> Call:
    """Nested lists, one field."""
    body = json.dumps({"a": _numbers(a)}).encode()
    return Call("/predict", {"Content-Type": JSON}, body, lambda body, _: np.float32(json.loads(body)["u"]))


def _floats(body: bytes, headers: Headers) -> np.ndarray:
    return np.frombuffer(body, np.float32).reshape(64, 64)


def _numbers(a: np.ndarray) -> Any:
    """Lists with the shortest digits that give the same float32; `tolist` alone would send twice as many."""
    return [_numbers(row) for row in a] if a.ndim else float(str(a))


def _base64(a: np.ndarray) -> dict[str, Any]:
    data = {"buffer": base64.b64encode(a.tobytes()).decode("ascii"), "encoding": "base64"}
    return {"object_type": "array", "shape": list(a.shape), "dtype": "float32", "data": data}


def _from_base64(array: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(array["data"]["buffer"]), array["dtype"]).reshape(array["shape"])
