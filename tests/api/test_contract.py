"""The OpenAPI document describes the service: schemathesis attacks every route, examples work when posted."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.test_security import METHODS, filled_paths

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_document_carries_units_symbols_shapes_and_ranges(client: httpx.Client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    field = document["components"]["schemas"]["darcy_inputs"]["properties"]["permeability"]
    assert field["x-symbol"] == "a" and field["x-units"] == "1" and field["x-shape"] == [85, 85]
    assert "in [0.001, 1000]" in field["description"]


def test_every_reference_in_the_document_leads_somewhere(client):
    text = client.get("/openapi.json").text
    known = json.loads(text)["components"]["schemas"]
    found = re.findall(r'"\$ref": ?"([^"]+)"', text)
    assert found
    assert [name for name in found if name.removeprefix("#/components/schemas/") not in known] == []


def test_every_example_in_the_document_works(client):
    posted = 0
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        if "post" not in operations or "version" in path:
            continue
        examples = operations["post"]["requestBody"]["content"]["application/json"]["examples"]
        for name, example in examples.items():
            answer = client.post(path.replace("{name}", name), json=example["value"])
            assert answer.status_code == 200, answer.text[:300]
            posted += 1
    served = client.get("/v1/models").json()["models"]
    assert posted == sum(4 if model["lead_times"] is None else 5 for model in served) >= 4


@pytest.mark.parametrize("method", METHODS)
def test_no_route_of_any_face_fails_whatever_is_asked_of_it(client, method):
    """Schemathesis knows the routes of the document; these are all of them, with nothing, and with what nobody expects."""
    for path in filled_paths():
        for content in (b"", b'{"inputs": 3, "name": "darcy"}', b"\x00\xff") if method == "POST" else (b"",):
            found = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
            assert found.status_code < 500, (method, path, content, found.text)


@pytest.mark.slow
def test_schemathesis_finds_no_contradiction(server):
    """Generated requests over every route; names are examples in the document, so 404 and 200 both occur."""
    tool = Path(sys.executable).parent / "schemathesis"
    command = [
        tool, "run", f"{server}/openapi.json", "--checks", CHECKS, "--max-examples", "12", "--seed", "1",
        "--phases", "examples,fuzzing", "--suppress-health-check", "all", "--request-timeout", "30", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:]
