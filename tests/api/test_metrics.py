"""Metrics have the names of the page on observability, exist from the start, count right, and tell no client's text."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest

from api.app import create_app
from api.settings import Settings
from api.telemetry import AUDITED, CODES, KINDS, OUTCOMES, REASONS
from models.contract import Outcome
from models.repository import SHIPPED
from models.runtime import Graph
from tests.conftest import ROOT, free_port, serving
from tests.prometheus import promtool

GAUGES = ("surrogate_inference_pending_requests", "surrogate_inference_inflight", "surrogate_model_ready",
          "surrogate_model_load_seconds", "surrogate_device_info", "surrogate_build_info",
          "surrogate_validity_drift_p_value", "surrogate_band_width_ratio")  # fmt: skip
PREDICT = "/v1/models/burgers/predict"
PAGE = ROOT / "docs" / "observability.md"
METRIC = re.compile(r"\bsurrogate_\w+?(?=_bucket\b|_count\b|_sum\b|\b)")
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("metrics") / "zoo"
    for name in ("burgers", "site_weather"):
        shutil.copytree(SHIPPED / name, root / name)
    shutil.copytree(SHIPPED / "burgers" / "1", root / "burgers" / "2")  # a version that is not what its folder says
    return root


@pytest.fixture(scope="module")
def link(zoo, metrics_port) -> Iterator[httpx.Client]:
    with (
        serving(zoo, SURROGATE_METRICS_PORT=str(metrics_port), SURROGATE_REVISION="abc123") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


def series(text: str) -> dict[tuple[str, frozenset[str]], float]:
    found = [SERIES.match(line) for line in text.splitlines() if not line.startswith("#")]
    return {(m[1], frozenset((m[2] or "").split(","))): float(m[3]) for m in found if m}


def metrics(link: httpx.Client) -> dict[tuple[str, frozenset[str]], float]:
    return series(link.get("/metrics").text)


def value(found, name: str, **labels: str) -> float:
    wanted = {f'{key}="{text}"' for key, text in labels.items()}
    return sum(number for (one, has), number in found.items() if one == name and wanted <= has)


def test_series_exist_before_the_first_request_that_would_count(link):
    found = metrics(link)
    names = {name for name, _ in found}
    assert set(GAUGES) <= names
    for model in ("burgers", "site_weather"):
        for code in CODES:
            wanted = {f'model="{model}"', 'version="1"', f'code="{code}"', 'route="/v2/models/{name}/infer"'}
            assert any(name == "surrogate_requests_total" and has == wanted for name, has in found), (model, code)
        for kind in KINDS:
            assert ("surrogate_statements_total", frozenset({f'model="{model}"', f'kind="{kind}"'})) in found
        for outcome in OUTCOMES.values():
            wanted = frozenset({f'model="{model}"', f'outcome="{outcome}"'})
            assert ("surrogate_contract_outcomes_total", wanted) in found
    for reason in REASONS.values():
        assert ("surrogate_rejected_total", frozenset({f'reason="{reason}"'})) in found
    assert value(found, "surrogate_build_info", revision="abc123") == 1
    assert value(found, "surrogate_device_info", device="cpu", provider="cpu") == 1


def test_a_refused_bundle_is_there_and_not_ready(link):
    found = metrics(link)
    assert value(found, "surrogate_model_ready", model="burgers", version="1") == 1
    assert value(found, "surrogate_model_ready", model="burgers") == 1 == value(found, "surrogate_broken_bundles")
    ready = link.get("/readyz")
    assert (
        ready.status_code == 503
        and "burgers/2" in ready.json()["broken"]
        and ready.json()["models"] == ["burgers/1", "site_weather/1"]
    )


def test_counters_agree_with_what_was_asked(link):
    body = link.get("/v1/models/burgers/example", params={"seed": 5}).json()
    raw = json.dumps(body).encode()
    before = metrics(link)
    for _ in range(3):
        assert link.post(PREDICT, content=raw, headers={"Content-Type": "application/json"}).status_code == 200
    rough = [0.9 * (-1) ** n for n in range(len(body["inputs"]["initial_velocity"]))]  # as no trained one is
    outside = link.post(PREDICT, json={"inputs": body["inputs"] | {"initial_velocity": rough}})
    assert not outside.json()["validity"]["in_domain"]
    assert link.post(PREDICT, json={"inputs": {}}).status_code == 422
    after = metrics(link)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    route = "/v1/models/{name}/predict"
    assert grown("surrogate_requests_total", model="burgers", version="1", route=route, code="200") == 4
    assert grown("surrogate_requests_total", model="burgers", route=route, code="422") == 1
    assert grown("surrogate_rejected_total", reason="invalid") == 1
    assert grown("surrogate_input_judged_total", model="burgers") == 4
    assert grown("surrogate_input_out_of_domain_total", model="burgers") == 1
    assert grown("surrogate_statements_total", model="burgers", kind="guaranteed") >= 3
    assert grown("surrogate_inference_total_seconds_count", model="burgers") == 5
    assert grown("surrogate_inference_encode_seconds_count", model="burgers") == 4
    samples, runs = (grown(f"surrogate_{name}_total", model="burgers") for name in ("samples", "runs"))
    assert samples >= 4
    assert grown("surrogate_inference_queue_seconds_count", model="burgers") == samples
    assert grown("surrogate_batch_size_sum", model="burgers") == samples
    assert grown("surrogate_inference_compute_seconds_count", model="burgers") == runs
    assert grown("surrogate_batch_size_count", model="burgers") == runs
    assert value(after, "surrogate_output_nonfinite_total") == 0


def test_every_end_of_a_tolerance_contract_is_counted(link):
    assert set(OUTCOMES) == set(get_args(Outcome))
    body = link.get("/v1/models/burgers/example", params={"seed": 5}).json()
    norm = next(s["norm"] for s in link.post(PREDICT, json=body).json()["statements"] if s["kind"] == "guaranteed")
    before = metrics(link)
    for value_asked, on_miss, outcome in (
        (1e6, "flag", "accept"),
        (1e-12, "flag", "flag"),
        (1e-12, "refuse", "refuse"),
    ):
        tolerance = {"quantity": "velocity", "norm": norm, "value": value_asked}
        link.post(PREDICT, json=body | {"tolerance": tolerance, "on_miss": on_miss})
        name, labels = "surrogate_contract_outcomes_total", {"model": "burgers", "outcome": outcome}
        assert value(metrics(link), name, **labels) == value(before, name, **labels) + 1


def test_a_solution_checks_what_had_been_stated(link):
    body = link.get("/v1/models/burgers/example", params={"seed": 5}).json()
    tolerance = {"quantity": "velocity", "norm": "sup", "value": 1e-5}
    asked = body | {"tolerance": tolerance, "on_miss": "solve", "accept": ["guaranteed_vs_discrete"]}
    before = metrics(link)
    answer = link.post(PREDICT, json=asked)
    assert answer.json()["contract"]["outcome"] == "solved", answer.text[:500]
    name, after = "surrogate_audit_total", metrics(link)
    for kind in AUDITED:
        assert (name, frozenset({'model="site_weather"', f'kind="{kind}"', 'held="no"'})) in after
        assert value(after, name, model="burgers", kind=kind) == value(before, name, model="burgers", kind=kind) + 1
    assert value(after, name, model="burgers", kind="guaranteed", held="no") == 0


@pytest.mark.parametrize("call", ["predict", "forecast"])
def test_what_is_not_finite_is_counted_and_not_handed_out(zoo, monkeypatch, call):
    """In an application of this process, whose graphs have something added to their first results."""
    execute, added = Graph.execute, [0.0]

    def spoilt(*arguments, **options):
        first, *others = execute(*arguments, **options)
        return [first + np.float32(added[0]), *others]

    async def counted(one: httpx.AsyncClient, name: str) -> float:
        body = (await one.get(f"/v1/models/{name}/example", params={"call": call})).json()
        answer = await one.post(f"/v1/models/{name}/{call}", json=body)
        assert (answer.status_code, answer.json().get("code")) == ((500, "invalid-output") if added[0] else (200, None))
        return value(series((await one.get("/metrics")).text), "surrogate_output_nonfinite_total", model=name)

    async def ask() -> None:
        app = create_app(Settings(zoo=zoo, reload_seconds=0))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as one:
            monkeypatch.setattr(Graph, "execute", spoilt)
            for name in ("burgers", "site_weather"):
                added[0] = 0.0
                before = await counted(one, name)
                assert await counted(one, name) == before
                added[0] = np.nan
                assert await counted(one, name) > before

    asyncio.run(ask())


def test_names_that_are_not_served_add_one_series_at_most(link):
    for name in ("atlantis", "x" * 60, "darcy"):
        assert link.get(f"/v1/models/{name}").status_code == 404
        link.get(f"/nowhere/{name}")
        link.post(f"/umbridge/{name}/Evaluate", json={})
    found = metrics(link)
    models = {text for name, has in found for text in has if text.startswith("model=")}
    assert models == {'model=""', 'model="burgers"', 'model="site_weather"', 'model="unknown"'}
    assert not any("nowhere" in text or "atlantis" in text for _, has in found for text in has)


def test_the_other_faces_are_counted_under_their_own_routes(link):
    link.post("/umbridge/Evaluate", json={"name": "burgers"})
    link.post("/tesseract/burgers/apply", json={})
    found = metrics(link)
    assert value(found, "surrogate_requests_total", model="burgers", route="/umbridge/Evaluate", code="400") >= 1
    assert value(found, "surrogate_requests_total", model="burgers", route="/tesseract/{name}/apply", code="422") >= 1


def test_metrics_have_a_port_of_their_own_with_nothing_else_on_it(link, metrics_port):
    found = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics")
    assert {name for name, _ in series(found.text)} == {name for name, _ in metrics(link)}
    assert "surrogate" not in httpx.get(f"http://127.0.0.1:{metrics_port}/v1/models").headers


def test_promtool_finds_nothing_to_object_to(link):
    done = promtool("check", "metrics", text=link.get("/metrics").text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/v1/models", "/v2", "/umbridge/Info", "/tesseract/burgers/health", "/nowhere"])
def test_a_request_keeps_its_id_if_it_is_harmless_and_gets_one_otherwise(link, path):
    assert link.get(path, headers={"X-Request-Id": "job-7_a"}).headers["X-Request-Id"] == "job-7_a"
    for odd in ("", "a b", "x" * 65, 'a"b', "ä"):
        found = link.get(path, headers=[(b"X-Request-Id", odd.encode())]).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", found)


def test_every_metric_is_on_the_page(link):
    page = PAGE.read_text(encoding="utf-8")
    families = re.findall(r"^# TYPE (\S+) ", link.get("/metrics").text, flags=re.MULTILINE)
    assert len(families) > len(GAUGES)
    assert [name for name in families if f"`{name}`" not in page] == []


def test_the_page_the_alerts_and_the_dashboard_name_no_metric_that_there_is_not(link):
    families = set(re.findall(r"^# TYPE (\S+) ", link.get("/metrics").text, flags=re.MULTILINE))
    folder = ROOT / "k8s" / "components" / "monitoring"
    texts = [path.read_text(encoding="utf-8") for path in (*folder.glob("*.yaml"), folder / "dashboard.json", PAGE)]
    named = {name for text in texts for name in METRIC.findall(text)}
    assert len(named) > len(GAUGES)
    assert {name for name in named if name not in families} == set()
    assert "surrogate_nothing_total" in METRIC.findall("rate(surrogate_nothing_total[5m])"), "seen red"
