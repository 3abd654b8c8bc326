"""Metrics of the service."""

import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
            route, model = _labels(scope, status)
            REQUESTS.labels(route, model, str(status)).inc()
            LATENCY.labels(route, model).observe(time.perf_counter() - started)


def _labels(scope: Scope, status: int) -> tuple[str, str]:
    """Route template and model; names that are not served are not labels, or clients could create series."""
    route: Any = scope.get("route")
    template = getattr(route, "path", "unmatched")
    name = str(scope.get("path_params", {}).get("name", ""))
    return template, name if status != 404 else ""
