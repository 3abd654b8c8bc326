"""Logs are JSON objects with the request's id and facts, never its content or key; traces have a span for each step."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from api.settings import Settings
from api.tracing import VARIABLES, traced, tracer_from
from models.repository import SHIPPED
from tests.api.access_files import write_key
from tests.conftest import ROOT, free_port, wait_until_served

PAYLOAD = 0.123456789
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("logs") / "zoo"
    root.mkdir()
    (root / "site_weather").symlink_to(SHIPPED / "site_weather")
    return root


@pytest.fixture(scope="module")
def logged(zoo, tmp_path_factory) -> tuple[str, list[dict], str]:
    """(the key, the lines as objects, all that was written) of a service after some requests."""
    folder, port = tmp_path_factory.mktemp("run"), free_port()
    key = write_key(folder / "keys.jsonl")
    settings = {"ZOO": zoo, "PORT": port, "LOG_FORMAT": "json", "LOG_REQUESTS": "true", "KEYS": folder / "keys.jsonl"}
    variables = {f"SURROGATE_{name}": str(value) for name, value in settings.items()}
    command, output = [sys.executable, "-m", "api"], folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(address)
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            body = client.get("/v1/models/site_weather/example").json()
            predict = "/v1/models/site_weather/predict"
            client.post(predict, json=body, headers={"X-Request-Id": "job-7"})
            client.post(
                f"{predict}?token=seven", json={"inputs": {"speed": [PAYLOAD]}}, headers={"X-Request-Id": "bad"}
            )
            client.get("/nowhere%22%7D%0A%7B%22event%22:%22forged", headers={"X-Request-Id": "odd"})
        httpx.get(f"{address}/v1/models", headers={"Authorization": f"Bearer {key[:-1]}"})
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    written = output.read_text(encoding="utf-8")
    return key, [json.loads(line) for line in written.splitlines()], written


def line(lines: list[dict], identity: str) -> dict:
    (found,) = [entry for entry in lines if entry.get("request_id") == identity]
    return found


def test_a_request_is_one_line_with_its_facts(logged):
    _, lines, _ = logged
    good = line(lines, "job-7")
    wanted = {"event": "request", "level": "INFO", "route": "/v1/models/{name}/predict", "method": "POST", "status": 200,
              "model": "site_weather", "model_version": "1", "client_id": "hydro", "service": "surrogates"}  # fmt: skip
    assert wanted.items() <= good.items()
    assert good["total_ms"] >= good["compute_ms"] + good["queue_ms"] > 0
    assert good["time"].endswith("+00:00")
    assert line(lines, "bad").items() >= {"status": 422, "reason": "invalid"}.items()
    assert line(lines, "odd")["route"] == "unmatched"


def test_every_bundle_is_a_line_at_the_start(logged):
    (served,) = [entry for entry in logged[1] if "bundle_sha256" in entry]
    assert len(served["bundle_sha256"]) == 12 and served["load_seconds"] > 0


def test_nothing_of_a_payload_a_key_or_a_query_is_written(logged):
    key, _, written = logged
    for secret in (key, key[:-1], key.split("_")[2], str(PAYLOAD), "token=seven", "forged"):
        assert secret not in written


# ---- traces ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spans(zoo):
    """Spans of one prediction and one refusal, asked in the context of a caller, and the answers."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(Settings(zoo=zoo, reload_seconds=0))
    app.entrance = traced(app.entrance, provider.get_tracer("test"))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://s") as link,
        ):
            body = (await link.get("/v1/models/site_weather/example")).json()
            exporter.clear()
            path = "/v1/models/site_weather/predict"
            return [
                await link.post(path, json=body, headers={"traceparent": PARENT}),
                await link.post(path, json={}),
            ]

    answers = asyncio.run(ask())
    return exporter.get_finished_spans(), answers


def test_a_request_has_a_span_for_each_step_one_after_the_other(spans):
    found, _ = spans
    (root,) = [s for s in found if s.attributes.get("http.response.status_code") == 200]
    assert root.name == "POST /v1/models/{name}/predict" and root.attributes["http.route"] in root.name
    steps = sorted(
        (s for s in found if s.parent and s.parent.span_id == root.context.span_id), key=lambda s: s.start_time
    )
    names = [step.name for step in steps]
    assert names[0] == "read" and names[-1] == "encode"
    assert {"validate", "queue", "run", "uncertainty", "validity"} <= set(names)
    assert all(a.end_time <= b.start_time + 1000 for a, b in pairwise(steps))  # rounding to ns
    assert steps[0].start_time >= root.start_time and steps[-1].end_time <= root.end_time


def test_the_callers_trace_goes_on_and_the_answer_names_it(spans):
    found, (good, _) = spans
    (root,) = [s for s in found if s.attributes.get("http.response.status_code") == 200]
    assert f"{root.context.trace_id:032x}" == PARENT.split("-")[1] == good.headers["traceresponse"].split("-")[1]
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]


def test_what_computes_nothing_has_one_span(spans):
    found, (_, bad) = spans
    (root,) = [s for s in found if s.attributes.get("http.response.status_code") == bad.status_code == 422]
    assert not [s for s in found if s.parent and s.parent.span_id == root.context.span_id]


def test_traces_are_off_unless_the_standard_variables_ask(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert traced(ask_nothing) is ask_nothing
    assert tracer_from({VARIABLES[0]: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}) is None


async def ask_nothing(scope, receive, send) -> None:
    """An application."""
