"""Metrics of the service."""

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.service import Service

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "surrogate_requests_total", "Requests by route, model and status.", ("route", "model", "status"), registry=REGISTRY
)
LATENCY = Histogram(
    "surrogate_request_seconds",
    "Time from the first byte to the last, by route and model.",
    ("route", "model"),
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)

NANO = 1e-9
STATISTICS = {
    "surrogate_samples": ("Samples that graphs have run.", "samples", 1.0),
    "surrogate_runs": ("Runs of graphs; samples over runs is the mean batch.", "runs", 1.0),
    "surrogate_failed_runs": ("Runs that raised.", "failures", 1.0),
    "surrogate_dropped": ("Jobs that expired or were abandoned, unrun or stopped.", "dropped", 1.0),
    "surrogate_queue_seconds": ("Time samples have waited for a run.", "queued_ns", NANO),
    "surrogate_compute_seconds": ("Time graphs have run.", "computed_ns", NANO),
}
"""Counters of every graph: help, field of `models.batching.Statistics`, unit."""


class ServiceCollector:
    """What the service knows of itself when it is asked: gates, queue, runs, bundles."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Every family, by model."""
        service = self._service
        waiting = GaugeMetricFamily(
            "surrogate_requests_inside", "Requests let in and not answered yet.", labels=["model"]
        )
        size = GaugeMetricFamily("surrogate_request_bytes_inside", "Bytes of their bodies.", labels=["model"])
        refused = CounterMetricFamily("surrogate_refused", "Requests told to come back later.", labels=["model"])
        for name, gate in service.gates.items():
            waiting.add_metric([name], gate.requests)
            size.add_metric([name], gate.bytes)
            refused.add_metric([name], gate.refused)
        yield from (waiting, size, refused)
        yield GaugeMetricFamily("surrogate_queue_samples", "Samples that wait for a run.", value=service.engine.waiting)
        memory = GaugeMetricFamily("surrogate_model_bytes", "Memory that bundles take.", labels=["model"])
        for name, taken in service.repository.memory.items():
            memory.add_metric([name], taken)
        yield memory
        yield GaugeMetricFamily("surrogate_broken_bundles", "Bundles refused.", value=len(service.repository.broken))
        yield from self._of_graphs()

    def _of_graphs(self) -> Iterator[Metric]:
        found = self._service.engine.all_statistics()
        for name, (text, key, unit) in STATISTICS.items():
            family = CounterMetricFamily(name, text, labels=["model", "version", "graph"])
            for (owner, file), statistics in found.items():
                family.add_metric([*owner.split("/"), file.removesuffix(".onnx")], unit * getattr(statistics, key))
            yield family


FRAMES = Counter("surrogate_frames_total", "Forecast frames computed, by model.", ("model",), registry=REGISTRY)


def exposition() -> tuple[bytes, str]:
    """Metrics as text and their content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


class Measure:
    """ASGI middleware: counts and times every request under its route template, never under a raw path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            requests, latency = _series(*_labels(scope, status), status)
            requests.inc()
            latency.observe(time.perf_counter() - started)


@lru_cache(4096)
def _series(route: str, model: str, status: int) -> tuple[Counter, Histogram]:
    """Looking series up by their labels takes longer than counting."""
    return REQUESTS.labels(route, model, str(status)), LATENCY.labels(route, model)


def _labels(scope: Scope, status: int) -> tuple[str, str]:
    """Route template and model; names that are not served are not labels, or clients could create series."""
    route: Any = scope.get("route")
    template = getattr(route, "path", "unmatched")
    name = str(scope.get("path_params", {}).get("name", ""))
    return template, name if status != 404 else ""
