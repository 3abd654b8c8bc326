"""Metrics under stable names. Labels come from loaded bundles, route templates and fixed lists, never from a client.

Series are looked up once and kept: counting a request costs a few microseconds.
"""

import itertools
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.contract import Verdict
from models.drift import DriftWatch
from models.errors import InvalidOutput, ToleranceNotMet
from models.statements import Statement
from models.surrogate import Answer
from models.validity import Validity

Settled = tuple[Answer, tuple[Verdict, ...]]
REGISTRY = CollectorRegistry()
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
UNKNOWN, UNREAD, UNMATCHED = "unknown", "unread", "unmatched"
CODES = ("200", "422", "500", "503", "504")
"""Codes whose series are there before the first such answer: a series born with its first error has no rate."""
KINDS = ("guaranteed", "guaranteed_vs_discrete", "statistical", "indicator", "none")
AUDITED, HELD = ("guaranteed", "statistical"), {True: "yes", False: "no"}
OUTCOMES = {"accepted": "accept", "flagged": "flag", "corrected": "correct", "solved": "solve", "refused": "refuse"}
REASONS = {
    401: "unauthorised", 403: "unauthorised", 400: "invalid", 406: "invalid", 408: "invalid", 415: "invalid",
    422: "invalid", 413: "too_large", 431: "too_large", 429: "quota", 499: "cancelled", 503: "queue_full", 504: "deadline",
}  # fmt: skip
HEALTH = ("/healthz", "/readyz", "/v2/health/ready", "/v2/health/live")
OWN = "/v1"
REQUEST_ID = b"x-request-id"
_acceptable = re.compile(rb"[A-Za-z0-9_-]{1,64}").fullmatch
REQUEST_LOG = "api.requests"
_log = logging.getLogger(REQUEST_LOG)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


REQUESTS = _counter("surrogate_requests_total", "Requests answered.", "model", "version", "route", "code")
TOTAL = Histogram(
    "surrogate_inference_total_seconds", "From the first byte to the last.", ("model", "route"), buckets=BUCKETS,
    registry=REGISTRY,
)  # fmt: skip
ENCODE = Histogram(
    "surrogate_inference_encode_seconds", "From the result to the last byte.", ("model",), buckets=BUCKETS,
    registry=REGISTRY,
)  # fmt: skip
REJECTED = _counter("surrogate_rejected_total", "Requests refused.", "reason")
FRAMES = _counter("surrogate_frames_total", "Forecast frames computed.", "model")
JUDGED = _counter("surrogate_input_judged_total", "Inputs compared with the model's domain.", "model")
OUTSIDE = _counter("surrogate_input_out_of_domain_total", "Inputs outside the model's domain.", "model")
NONFINITE = _counter("surrogate_output_nonfinite_total", "Answers that are not finite where they must be.", "model")
STATEMENTS = _counter("surrogate_statements_total", "Statements made.", "model", "kind")
AUDIT = _counter("surrogate_audit_total", "Statements that a solution bears out, or does not.", "model", "kind", "held")
CONTRACT = _counter("surrogate_contract_outcomes_total", "Tolerance contracts ended.", "model", "outcome")


@dataclass
class Models:
    """What metrics know of the models that are served."""

    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    watches: dict[str, DriftWatch] = field(default_factory=dict)

    def expect(self, served: Iterable[tuple[str, str]], routes: Iterable[str]) -> None:
        """Bring every series into being that these versions, oldest first, can need."""
        versions: dict[str, tuple[str, ...]] = {}
        for name, version in served:
            versions[name] = (*versions.get(name, ()), version)
        for name, found in versions.items():
            self.watches.setdefault(name, DriftWatch())
            for counter in (FRAMES, JUDGED, OUTSIDE, NONFINITE):
                counter.labels(name)
            for counter, values in ((STATEMENTS, KINDS), (CONTRACT, tuple(OUTCOMES.values()))):
                for value in values:
                    counter.labels(name, value)
            for kind, held in itertools.product(AUDITED, HELD.values()):
                AUDIT.labels(name, kind, held)
            for version, route, code in itertools.product(found, routes, CODES):
                REQUESTS.labels(name, version, route, code)
        for reason in REASONS.values():
            REJECTED.labels(reason)
        self.versions = versions

    def labels(self, name: str, version: str | None) -> tuple[str, str]:
        """Model and version as labels: of the latest where none is named, `unknown` for what is not served."""
        if not name:
            return "", ""
        found = self.versions.get(name)
        if found is None or (version is not None and version not in found):
            return UNKNOWN, ""
        return name, version or found[-1]

    def judge(self, name: str, verdicts: Iterable[Validity]) -> None:
        """Inputs that have been compared with the domain."""
        watch = self.watches.get(name)
        for verdict in verdicts:
            _of(JUDGED, name).inc()
            if not verdict.in_domain:
                _of(OUTSIDE, name).inc()
            if watch is not None:
                watch.see(verdict.p_value)

    def computed(self, name: str, results: Iterable[np.ndarray]) -> None:
        """What a graph has given; numbers that are not finite are counted, and go no further.

        Raises InvalidOutput.
        """
        # NaN and infinity survive the sum, in which large numbers may overflow
        if not all(math.isfinite(float(np.sum(values))) or np.isfinite(values).all() for values in results):
            _of(NONFINITE, name).inc()
            raise InvalidOutput("outputs", "finite numbers", "some that are not")

    def answered(self, name: str, answer: Answer) -> None:
        """An answer with its verdicts, statements and bands."""
        self.judge(name, answer.validity)
        for statements in answer.statements:
            self.stated(name, statements)
        watch = self.watches.get(name)
        band = next((band for band in answer.bands.values() if band is not None), None)
        if watch is not None and band is not None:  # the first field stands for the model
            watch.see_width(float(np.mean(band.upper - band.lower)))

    def settled(self, name: str, settle: Callable[[], Settled], facts: dict[str, Any]) -> Settled:
        """What `settle` makes of an answer under a tolerance contract, with how it ends counted, and noted in `facts`.

        Raises ToleranceNotMet.
        """
        try:
            answer, verdicts = settle()
        except ToleranceNotMet:
            facts["outcome"] = OUTCOMES["refused"]
            _of(CONTRACT, name, facts["outcome"]).inc()
            raise
        facts["outcome"] = " ".join(sorted({OUTCOMES[verdict.outcome] for verdict in verdicts}))
        for verdict in verdicts:
            _of(CONTRACT, name, OUTCOMES[verdict.outcome]).inc()
            for kind, held in verdict.audits:
                _of(AUDIT, name, kind, HELD[held]).inc()
        return answer, verdicts

    def stated(self, name: str, statements: Iterable[Statement]) -> None:
        """Statements that go out."""
        for statement in statements:
            _of(STATEMENTS, name, statement.kind).inc()


MODELS = Models()


@lru_cache(4096)
def _of(counter: Counter, *labels: str) -> Counter:
    """Looking series up by their labels takes longer than counting."""
    return counter.labels(*labels)


@lru_cache(4096)
def _times(model: str, route: str) -> Histogram:
    return TOTAL.labels(model, route)


@lru_cache(256)
def _encoding(model: str) -> Histogram:
    return ENCODE.labels(model)


def exposition() -> tuple[bytes, str]:
    """Metrics as text and their content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


def refused(status: int) -> None:
    """Count a request that was refused, if it was."""
    reason = REASONS.get(status)
    if reason is not None:
        _of(REJECTED, reason).inc()


class Measure:
    """ASGI middleware: every request has an id, is counted and timed under its route template, never under a raw path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, identity = time.perf_counter(), 500, _identity(scope)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, identity)]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            _count(scope, status, started)


def _identity(scope: Scope) -> bytes:
    """The client's id for its request where it is harmless, else one of ours."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _acceptable(value):
            scope["request_id"] = value
            return bytes(value)
    scope["request_id"] = found = _new_id()
    return found


@cache
def _own_ids() -> tuple[bytes, Iterator[int]]:
    """What this process's ids begin with, and their numbers."""
    return secrets.token_hex(4).encode(), itertools.count()


def _new_id() -> bytes:
    start, numbers = _own_ids()
    return b"%b-%x" % (start, next(numbers))


def unread(status: int) -> bytes:
    """Count and log a request that could not be read, so that nothing of it is known; its id."""
    identity = _new_id()
    _of(REQUESTS, "", "", UNREAD, str(status)).inc()
    refused(status)
    if _log.isEnabledFor(logging.INFO):
        facts = {"request_id": identity.decode(), "route": UNREAD, "status": status, "reason": REASONS[status]}
        _log.info("request", extra=facts)
    return identity


def _count(scope: Scope, status: int, started: float) -> None:
    ended = time.perf_counter()
    scope["surrogate_route"] = route = _template(scope)
    named, visit = scope.get("path_params") or {}, scope.get("visit")
    name = (visit.model if visit is not None else "") or str(named.get("name") or named.get("model") or "")
    model, version = MODELS.labels(name.partition(":")[0], named.get("version"))
    _of(REQUESTS, model, version, route, str(status)).inc()
    if route not in HEALTH:
        refused(status)
    if visit is not None and visit.model:
        _times(model, route).observe(ended - started)
        if visit.concluded:
            _encoding(model).observe(ended - visit.concluded)
    if _log.isEnabledFor(logging.INFO):
        _log.info("request", extra=_facts(scope, status, model, version, route, ended - started))


def _template(scope: Scope) -> str:
    """The route as it is documented: routers that are included know nothing of their prefix, mounts have it apart."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return UNMATCHED
    prefix = OWN if scope["path"].startswith(f"{OWN}/") and not path.startswith(OWN) else scope.get("root_path", "")
    return f"{prefix}{path}"


def _facts(scope: Scope, status: int, model: str, version: str, route: str, seconds: float) -> dict[str, Any]:
    """What a line of the log says of a request: never a body, a query or a key."""
    facts: dict[str, Any] = {
        "request_id": scope["request_id"].decode(), "method": scope["method"], "route": route, "status": status,
        "total_ms": round(seconds * 1e3, 3),
    }  # fmt: skip
    if model:
        facts |= {"model": model, "model_version": version}
    visit = scope.get("visit")
    if visit is not None and visit.model:
        ticket = visit.ticket
        facts |= {"queue_ms": round(ticket.queued_ns / 1e6, 3), "compute_ms": round(ticket.computed_ns / 1e6, 3)}
        facts |= {"batch_size": ticket.batch, "bundle_sha256": visit.digest(version), **visit.facts}
    with suppress(KeyError):
        facts["client_id"] = scope["client_name"]
    if status in REASONS:
        facts["reason"] = REASONS[status]
    return facts
