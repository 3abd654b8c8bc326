"""OpenTelemetry traces: a span per request and one per step of its path, in the context that W3C headers bring.

On where the standard variables ask for it (`OTEL_EXPORTER_OTLP_ENDPOINT`, or `…_TRACES_ENDPOINT`) and the extra `tracing`
is installed; otherwise this layer is not there. Steps are timed by the service anyway, so their spans are made when the
request is over and cost nothing while it runs.
"""

import os
import time
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.service import Visit

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAME = "surrogates"
ROUTE, CODE = "http.route", "http.response.status_code"
Step = tuple[str, float, float]


def current_ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the request at hand; nothing outside of a trace."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def tracer_from(environment: Mapping[str, str]) -> Tracer | None:
    """A tracer that exports by OTLP, where the environment names an endpoint.

    Raises ImportError without the extra `tracing`.
    """
    if not any(environment.get(name) for name in VARIABLES) or environment.get("OTEL_SDK_DISABLED") == "true":
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: environment.get("OTEL_SERVICE_NAME", NAME)}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer(NAME)


def traced(app: ASGIApp, tracer: Tracer | None = None) -> ASGIApp:
    """The application with traces, where the environment or `tracer` asks for them; else as it is."""
    found = tracer or tracer_from(os.environ)
    return app if found is None else _Traced(app, found)


class _Traced:
    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, clock = time.time_ns(), time.perf_counter()
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(
            scope["method"],
            extract(carrier),
            SpanKind.SERVER,
            {"http.request.method": scope["method"]},
            start_time=began,
        )

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
                back: dict[str, str] = {}
                TraceContextTextMapPropagator().inject(back, trace.set_span_in_context(span))
                header = (b"traceresponse", back.get("traceparent", "").encode())
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        with trace.use_span(span, end_on_exit=False):
            try:
                await self._app(scope, receive, watch)
            finally:
                self._finish(span, scope, began, clock)

    def _finish(self, span: Span, scope: Scope, began: int, clock: float) -> None:
        """Name the span after its route and add those of its steps."""
        route = scope.get("surrogate_route")
        if route is not None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute(ROUTE, route)
        context = trace.set_span_in_context(span)
        for name, start, end in steps(scope, clock, time.perf_counter()):
            inner = self._tracer.start_span(name, context, start_time=began + round(1e9 * (start - clock)))
            inner.end(began + round(1e9 * (end - clock)))
        span.end()


def _note_status(span: Span, status: int) -> None:
    span.set_attribute(CODE, status)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def steps(scope: Scope, began: float, ended: float) -> Iterator[Step]:
    """(name, start, end) of every step of a request that has computed something, one after the other."""
    visit: Visit | None = scope.get("visit")
    if visit is None or not visit.model or not visit.concluded:
        return
    moments = _of_route(visit) if visit.route else _of_call(visit)
    start = max(began, visit.concluded - sum(seconds for _, seconds in moments))
    yield "read", began, start
    for name, seconds in moments:
        yield name, start, start + seconds
        start += seconds
    yield "encode", visit.concluded, ended


def _of_route(visit: Visit) -> list[tuple[str, float]]:
    """Seconds of the steps that the answer itself tells."""
    moments = []
    for step in visit.route:
        seconds = 1e-3 * step.milliseconds
        moments += _parts(seconds, *(visit.spent or (0, 0))) if step.step == "surrogate" else [(step.step, seconds)]
    return moments


def _of_call(visit: Visit) -> list[tuple[str, float]]:
    """Seconds of what every call has, for answers that tell no steps: derivatives of all faces."""
    ticket = visit.ticket
    worked = _parts(visit.concluded - visit.called, ticket.queued_ns, ticket.computed_ns)
    return [("decode", visit.called - visit.received), *worked]


def _parts(seconds: float, queued_ns: int, computed_ns: int) -> list[tuple[str, float]]:
    """Waiting, running and the rest; samples that wait side by side, or runs for a bound, count beyond the step itself."""
    queued = min(1e-9 * queued_ns, seconds)
    ran = min(1e-9 * computed_ns, seconds - queued)
    return [("queue", queued), ("run", ran), ("collect", seconds - queued - ran)]
