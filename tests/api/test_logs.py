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
from api.telemetry import REASONS
from api.tracing import VARIABLES, traced, tracer_from
from models.repository import SHIPPED
from tests.api.access_files import write_key
from tests.conftest import ROOT, free_port, wait_until_served
from tests.raw_http import connect
from tests.served_examples import inputs_of

PAYLOAD = 0.123456789
LIMIT = 2**20
LINES = "application/x-ndjson"
JSON = {"Content-Type": "application/json"}
START = b"POST /v1/models/site_weather/predict?token=seven HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n"
UNREAD = {
    START + b"X: " + b"a" * 70_000 + b"\r\n\r\n": 431,
    START + b"X\x00: forged\r\n\r\n": 400,
    START + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nforged\r\n": 400,
}
PREDICT, FORECAST, EXPLAIN = (f"/v1/models/{{name}}/{call}" for call in ("predict", "forecast", "explain"))
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def shown(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def answer_to(address: str, sent: bytes) -> bytes:
    with connect(address) as link:
        link.sendall(sent)
        return link.recv(1000)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("logs") / "zoo"
    root.mkdir()
    (root / "site_weather").symlink_to(SHIPPED / "site_weather")
    return root


@pytest.fixture(scope="module")
def logged(zoo, tmp_path_factory) -> tuple[str, list[dict], str, list[bytes]]:
    """(the key, the lines as objects, all that was written, answers to what is unread) of a service after some requests."""
    folder, port = tmp_path_factory.mktemp("run"), free_port()
    keys = folder / "keys.jsonl"
    key, rare, reader = write_key(keys), write_key(keys, "rare", limits="1/hour"), write_key(keys, "reader", ("jobs",))
    settings = {"ZOO": zoo, "PORT": port, "LOG_FORMAT": "json", "LOG_REQUESTS": "true", "KEYS": keys,
                "MAX_BODY_BYTES": LIMIT}  # fmt: skip
    variables = {f"SURROGATE_{name}": str(value) for name, value in settings.items()}
    command, output = [sys.executable, "-m", "api"], folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT
        )  # fmt: skip
    address, found = f"http://127.0.0.1:{port}", []
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
            client.post(predict, content=b" " * (LIMIT + 1), headers=JSON | {"X-Request-Id": "large"})
        for who, identity in ((key[:-1], "stranger"), (rare, "once"), (rare, "twice")):
            httpx.get(f"{address}/v1/models", headers=shown(who) | {"X-Request-Id": identity})
        httpx.post(f"{address}{predict}", json=body, headers=shown(reader) | {"X-Request-Id": "beyond"})
        found += [answer_to(address, sent.replace(b"KEY", key.encode())) for sent in UNREAD]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    written = output.read_text(encoding="utf-8")
    return key, [json.loads(line) for line in written.splitlines()], written, found


def line(lines: list[dict], identity: str) -> dict:
    (found,) = [entry for entry in lines if entry.get("request_id") == identity]
    return found


def test_a_request_is_one_line_with_its_facts(logged):
    lines = logged[1]
    good = line(lines, "job-7")
    wanted = {"event": "request", "level": "INFO", "route": "/v1/models/{name}/predict", "method": "POST", "status": 200,
              "model": "site_weather", "model_version": "1", "client_id": "hydro", "service": "surrogates", "batch_size": 1,
              "statement_kinds": ["none", "statistical"]}  # fmt: skip
    assert wanted.items() <= good.items()
    assert good["total_ms"] >= good["compute_ms"] + good["queue_ms"] > 0
    assert good["time"].endswith("+00:00")
    assert line(lines, "bad").items() >= {"status": 422, "reason": "invalid"}.items()
    assert line(lines, "odd")["route"] == "unmatched"
    (served,) = [entry for entry in lines if "load_seconds" in entry]
    assert good["bundle_sha256"] == served["bundle_sha256"]
    assert good["elements_in"] > 0 < good["elements_out"]


@pytest.mark.parametrize(
    ("identity", "facts"),
    [
        ("stranger", {"status": 401, "reason": "unauthorised"}),
        ("twice", {"status": 429, "reason": "quota", "client_id": "rare"}),
        ("beyond", {"status": 403, "reason": "unauthorised", "client_id": "reader"}),
        ("large", {"status": 413, "reason": "too_large", "client_id": "hydro", "model": "site_weather"}),
    ],
)
def test_a_request_that_is_refused_is_a_line_with_its_reason(logged, identity, facts):
    assert line(logged[1], identity).items() >= facts.items()


def test_a_request_that_cannot_be_read_is_a_line_under_the_id_that_its_answer_has(logged):
    _, lines, _, answers = logged
    assert len(answers) == len(UNREAD)
    for answer, status in zip(answers, UNREAD.values(), strict=True):
        assert answer.split()[1] == b"%d" % status, answer
        identity = answer.partition(b"x-request-id: ")[2].split()[0].decode()
        facts = {"route": "unread", "status": status, "reason": REASONS[status], "event": "request"}
        assert line(lines, identity).items() >= facts.items()


def test_every_bundle_is_a_line_at_the_start(logged):
    (served,) = [entry for entry in logged[1] if "load_seconds" in entry]
    assert len(served["bundle_sha256"]) == 12 and served["load_seconds"] > 0


def test_nothing_of_a_payload_a_key_or_a_query_is_written(logged):
    key, _, written, _ = logged
    for secret in (key, key[:-1], key.split("_")[2], str(PAYLOAD), "token=seven", "forged"):
        assert secret not in written


# ---- traces ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spans(zoo):
    """Spans of a prediction, a refusal, forecasts, an explanation and derivatives of two faces, and the answers.

    The first stands in a caller's context.
    """
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
            path = "/v1/models/site_weather/predict"
            whole = (await link.get("/v1/models/site_weather/example", params={"call": "forecast"})).json()
            quantity = {"type": "point", "field": "wind_speed", "station": 0, "lead_time": 6}
            exporter.clear()
            return [
                await link.post(path, json=body, headers={"traceparent": PARENT}),
                await link.post(path, json={}),
                await link.post("/v1/models/site_weather/forecast", json=whole),
                await link.post("/v1/models/site_weather/forecast", json=whole, headers={"Accept": LINES}),
                await link.post("/v1/models/site_weather/explain", json=body | {"quantity": quantity}),
                *[await link.post(path, json=asked) for path, asked in derivatives(body).items()],
            ]

    answers = asyncio.run(ask())
    return exporter.get_finished_spans(), answers


def derivatives(body: dict) -> dict[str, dict]:
    """Calls of derivatives along wind speed, the first input, by path."""
    name, inputs = "site_weather", body["inputs"]
    vectors = [values.ravel().tolist() for values in inputs_of(body).values()]
    return {
        f"/v1/models/{name}/jvp": {"inputs": inputs, "tangent": {"wind_speed": inputs["wind_speed"]}},
        "/umbridge/ApplyJacobian": {"name": name, "input": vectors, "vec": vectors[0], "inWrt": 0, "outWrt": 0},
    }


@pytest.mark.parametrize(
    ("index", "path", "wanted"),
    [
        (0, PREDICT, {"validate", "queue", "run", "uncertainty", "validity"}),
        (2, FORECAST, {"decode", "validate", "validity", "queue", "run", "uncertainty", "bound"}),
        (3, FORECAST, {"decode", "validate", "validity", "queue", "run", "uncertainty", "bound"}),
        (4, EXPLAIN, {"decode", "validate", "run", "validity", "attribution", "checks", "interval"}),
        (5, "/v1/models/{name}/jvp", {"decode", "queue", "run", "collect"}),
        (6, "/umbridge/ApplyJacobian", {"decode", "queue", "run", "collect"}),
    ],
    ids=["predict", "forecast", "forecast as a stream", "explain", "jvp", "ApplyJacobian"],
)
def test_a_request_has_a_span_for_each_step_one_after_the_other(spans, index, path, wanted):
    found, answers = spans
    assert answers[index].status_code == 200, answers[index].text
    root = root_of(found, answers[index])
    assert (root.name, root.attributes["http.route"]) == (f"POST {path}", path)
    steps = sorted(
        (s for s in found if s.parent and s.parent.span_id == root.context.span_id), key=lambda s: s.start_time
    )
    names = [step.name for step in steps]
    assert names[0] == "read" and names[-1] == "encode"
    assert wanted <= set(names)
    assert all(a.end_time <= b.start_time + 1000 for a, b in pairwise(steps))  # rounding to ns
    assert steps[0].start_time >= root.start_time and steps[-1].end_time <= root.end_time


def root_of(found, answer: httpx.Response):
    """The span of the request itself, by the context that its answer names."""
    (root,) = [s for s in found if f"{s.context.span_id:016x}" == answer.headers["traceresponse"].split("-")[2]]
    return root


def test_the_callers_trace_goes_on_and_the_answer_names_it(spans):
    found, (good, *_) = spans
    root = root_of(found, good)
    assert f"{root.context.trace_id:032x}" == PARENT.split("-")[1] == good.headers["traceresponse"].split("-")[1]
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]


def test_what_computes_nothing_has_one_span(spans):
    found, (_, bad, *_) = spans
    root = root_of(found, bad)
    assert root.attributes["http.response.status_code"] == bad.status_code == 422
    assert not [s for s in found if s.parent and s.parent.span_id == root.context.span_id]


def test_traces_are_off_unless_the_standard_variables_ask(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert traced(ask_nothing) is ask_nothing
    assert tracer_from({VARIABLES[0]: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}) is None


async def ask_nothing(scope, receive, send) -> None:
    """An application."""
