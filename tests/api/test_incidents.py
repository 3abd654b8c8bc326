"""What happened to other model servers, and the test that holds the rule drawn from it here.

INCIDENTS names a test for each; those that are not in this file are where the part they test is tested.
"""

import ast
import gzip
import importlib.metadata
import re
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.repository import SHIPPED
from tests.conftest import ROOT, serving

INCIDENTS = {
    "Triton CVE-2025-23310, 23311: chunks reach the stack": "tests/api/test_faults.py::test_a_body_in_a_million_chunks",
    "Triton CVE-2025-23316, 23317: a name reaches a shell": "test_nothing_is_run_unpickled_or_fetched",
    "Triton CVE-2025-23319, 23320, 23334: error text leaks what is inside": "test_no_error_tells_what_is_inside",
    "Triton CVE-2025-23321 to 23327, CVE-2026-24210: shapes": "tests/api/test_faults.py::test_shapes_that_overflow",
    "Triton CVE-2025-23325: recursion": "test_json_nested_without_end_is_refused_by_every_face",
    "Triton CVE-2025-23331, 33201, 33202; CVE-2026-47628: allocation": "tests/api/test_faults.py::test_bodies_at_the_limit",
    "Triton CVE-2026-24146: number of outputs": "test_an_output_is_asked_for_once",
    "Triton CVE-2026-24158, 24264: decompression": "test_a_body_that_unpacks_beyond_the_limit_is_refused",
    "Triton CVE-2026-24175: malformed header": "test_headers_have_limits",
    "Triton CVE-2026-24206, 24207, 47481: another path around authentication":
        "tests/api/test_security.py::test_every_route_of_every_face_needs_a_key_but_those_of_probes",
    "Starlette CVE-2026-48710: Host decides": "tests/api/test_security.py::test_a_host_header_changes_nothing",
    "Starlette CVE-2024-47874, 2025-54121, 2025-62727; python-multipart CVE-2026-40347, 42561":
        "test_versions_are_beyond_what_was_broken",
    "Triton CVE-2023-31036, CVE-2026-24208 …; MLServer CVE-2026-109156: path traversal in load":
        "test_loading_takes_names_and_nothing_else",
    "TorchServe CVE-2023-43654: management by anybody": "test_loading_is_off_unless_the_operator_allows_it",
    "BentoML CVE-2025-54381: fetching for a client": "test_nothing_is_run_unpickled_or_fetched",
    "BentoML CVE-2024-2912, 2025-27520, 2025-32375; torch CVE-2025-32434: unpickling":
        "test_arrays_of_objects_are_refused",
    "onnx CVE-2026-27489, 28500, 34445, 34447, 44512: file handling":
        "tests/test_architecture.py::test_the_running_app_never_loads_torch_onnx_or_what_the_client_needs",
}  # fmt: skip
LIMIT = 2**20
WAIT = 30.0
PREDICT = "/v1/models/burgers/predict"
INSIDE = re.compile(rb"Traceback|File \"|\.py\b|/models/zoo|site-packages|onnxruntime|numpy|<object|0x[0-9a-f]{6}")
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "subprocess", "shelve", "marshal", "dill", "cloudpickle", "requests", "urllib.request",
                     "httpx", "http.client", "aiohttp", "torch", "onnx"}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    zoo = tmp_path_factory.mktemp("incidents") / "zoo"
    shutil.copytree(SHIPPED / "burgers", zoo / "burgers")
    with serving(zoo, SURROGATE_MAX_BODY_BYTES=str(LIMIT)) as address:
        yield address


def test_every_incident_has_a_test_that_exists():
    mine = {n.name for n in ast.parse(Path(__file__).read_text()).body if isinstance(n, ast.FunctionDef)}
    for name in INCIDENTS.values():
        file, _, test = name.rpartition("::")
        names = mine if not file else {
            n.name for n in ast.parse((ROOT / file).read_text()).body if isinstance(n, ast.FunctionDef)
        }  # fmt: skip
        assert test in names, name


def forbidden(text: str) -> list[str]:
    """What a source must not do."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES]
        if isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            found.append(node.module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_NAMES:
            found.append(node.func.id)
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found += [node.arg] if not (isinstance(node.value, ast.Constant) and node.value.value is False) else []
    return found


def test_nothing_is_run_unpickled_or_fetched():
    sources = [
        p for package in ("api", "models") for p in sorted((ROOT / package).rglob("*.py")) if p.name != "client.py"
    ]
    assert [(str(p), found) for p in sources if (found := forbidden(p.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from subprocess import run", "eval('1')", "np.load(f, allow_pickle=True)", "run(x, shell=y)"],
)
def test_a_source_that_does_is_noticed(line):
    assert forbidden(line)


ODD = ["{", "[]", "null", '{"inputs": 3}', '{"inputs": {"x": [[1], [1, 2]]}}', '{"name": "../../etc/passwd"}',
       '{"inputs": [{"name": "\\u0000", "shape": [-1], "datatype": "X", "data": {}}]}', "\xff\xfe", '{"inputs": {"": NaN}}']  # fmt: skip
CALLS = (PREDICT, "/v1/models/burgers/forecast", "/v1/models/burgers/explain", "/v1/models/burgers/vjp",
         "/v2/models/burgers/infer", "/v2/repository/models/..%2f..%2fetc/load", "/umbridge/Evaluate", "/umbridge/ModelInfo",
         "/tesseract/burgers/apply", "/tesseract/burgers/jacobian")  # fmt: skip


@pytest.mark.parametrize("path", CALLS)
def test_no_error_tells_what_is_inside(address, path):
    for text in ODD:
        found = httpx.post(address + path, content=text.encode("latin-1"), headers={"Content-Type": "application/json"})
        assert 400 <= found.status_code < 500, (text, found.text)
        assert not INSIDE.search(found.content), found.text


@pytest.mark.parametrize("path", CALLS)
def test_json_nested_without_end_is_refused_by_every_face(address, path):
    deep = b'{"name": "burgers", "inputs": ' + b"[" * 100_000
    found = httpx.post(address + path, content=deep, headers={"Content-Type": "application/json"})
    assert 400 <= found.status_code < 500
    assert httpx.get(f"{address}/healthz").status_code == 200


def test_an_output_is_asked_for_once(address):
    body = {"inputs": [], "outputs": [{"name": "velocity"}, {"name": "velocity"}]}
    meta = httpx.get(f"{address}/v2/models/burgers").json()
    sizes = {item["name"]: [1, *item["shape"][1:]] for item in meta["inputs"]}
    data = {name: np.full(int(np.prod(shape)), 0.01).tolist() for name, shape in sizes.items()}
    body["inputs"] = [{"name": n, "shape": s, "datatype": "FP32", "data": data[n]} for n, s in sizes.items()]
    found = httpx.post(f"{address}/v2/models/burgers/infer", json=body)
    assert (found.status_code, "once" in found.text) == (400, True), found.text


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_body_that_unpacks_beyond_the_limit_is_refused(address, encoding):
    bomb = gzip.compress(b" " * 64 * LIMIT)
    assert len(bomb) < LIMIT / 8
    found = httpx.post(f"{address}/v2/models/burgers/infer", content=bomb, headers={"Content-Encoding": encoding})
    assert found.status_code == (413 if encoding == "gzip" else 415)
    others = httpx.post(
        address + PREDICT, content=bomb, headers={"Content-Encoding": encoding, "Content-Type": "application/json"}
    )
    assert others.status_code == 415


def answer_to(address: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """The first bytes of the answer to raw bytes; nothing where the connection is closed without one."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as link:
        try:
            for part in parts:
                link.sendall(part)
                time.sleep(pause)
            return link.recv(200)
        except ConnectionError:
            return b""


START = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [(b"X: " + b"a" * 60_000, 200), (b"X: " + b"a" * 70_000, 431), (b"X: " + b"a" * 2**20, 431),
     (b"\r\n".join(b"X-%d: a" % n for n in range(98)), 200), (b"\r\n".join(b"X-%d: a" % n for n in range(120)), 431),
     (b"\r\n".join(b"X-%d: a" % n for n in range(20_000)), 431), (b"Content-Length: 2\r\nTransfer-Encoding: chunked", 400),
     (b"X\x00: a", 400), (b"X: a\nb", 400)],
)  # fmt: skip
def test_headers_have_limits(address, head, status):
    received = answer_to(address, START + head + b"\r\n\r\n")
    assert (received or b"HTTP/1.1 431").split()[1] == b"%d" % status, received
    assert httpx.get(f"{address}/healthz").status_code == 200


def test_headers_in_many_small_pieces_count_together(address):
    received = answer_to(address, START, *[b"X-More: " + b"a" * 8000 + b"\r\n"] * 12, pause=0.01)
    assert (received or b"HTTP/1.1 431").split()[1] == b"431"


def test_headers_have_to_arrive_in_time(address):
    """Half a header, and nothing at all: both are given up after ten seconds, while others are served."""
    links = []
    host, port = address.removeprefix("http://").split(":")
    began = time.monotonic()
    for sent in (START, b""):
        link = socket.create_connection((host, int(port)), timeout=WAIT)
        link.sendall(sent)
        links.append(link)
    assert httpx.get(f"{address}/healthz").status_code == 200
    for link in links:
        with link:
            assert link.recv(100).split()[1] == b"408"
    assert 8.0 < time.monotonic() - began < WAIT


def test_versions_are_beyond_what_was_broken():
    floors = {"starlette": (1, 3, 1), "fastapi": (0, 165, 0), "uvicorn": (0, 54, 0), "h11": (0, 16, 0)}
    for name, floor in floors.items():
        found = tuple(int(part) for part in importlib.metadata.version(name).split(".")[:3])
        assert found >= floor, name
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [item for item in document["dependencies"] if "multipart" in item or "onnx" in item or "torch" in item]
    (onnx,) = [item for item in document["optional-dependencies"]["training"] if item.startswith("onnx==")]
    assert tuple(int(part) for part in onnx.removeprefix("onnx==").split(".")) >= (1, 21, 0)


def test_loading_is_off_unless_the_operator_allows_it(address):
    for call in ("load", "unload"):
        found = httpx.post(f"{address}/v2/repository/models/burgers/{call}", json={})
        assert (found.status_code, "SURROGATE_MODEL_CONTROL" in found.text) == (403, True)


def test_loading_takes_names_and_nothing_else(tmp_path):
    shutil.copytree(SHIPPED / "burgers", tmp_path / "zoo" / "burgers")
    shutil.copytree(SHIPPED / "site_weather", tmp_path / "outside")
    with serving(tmp_path / "zoo", SURROGATE_MODEL_CONTROL="true", SURROGATE_RELOAD_SECONDS="0") as address:
        for name in ("..%2foutside", "..", "%2fetc", "http:%2f%2fexample.org%2fm", "outside", "burgers%00", "~"):
            assert httpx.post(f"{address}/v2/repository/models/{name}/load", json={}).status_code in (400, 404), name
        for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
            body = {"parameters": parameters}
            assert httpx.post(f"{address}/v2/repository/models/burgers/load", json=body).status_code == 400
        assert [m["name"] for m in httpx.get(f"{address}/v1/models").json()["models"]] == ["burgers"]


def test_arrays_of_objects_are_refused(address, tmp_path):
    planted = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return subprocess.check_call, (["touch", str(planted)],)

    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    raw = (tmp_path / "bomb.npy").read_bytes()
    for path in (PREDICT, "/v2/models/burgers/infer"):
        found = httpx.post(address + path, content=raw, headers={"Content-Type": "application/x-npy"})
        assert 400 <= found.status_code < 500
    assert not planted.exists()
