"""Application factory: wiring and lifespan, nothing else."""

import asyncio
import gc
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_client import disable_created_metrics, start_http_server
from starlette.types import ASGIApp, Receive, Scope, Send
from threadpoolctl import threadpool_limits

from api import errors, openapi, pages
from api.collector import ServiceCollector
from api.protocols.faces import Faces, refusal
from api.routes import catalogue, derivatives, explain, forecast, health, predict
from api.security.access import required_scope
from api.security.guard import guarded
from api.security.pages import shared
from api.service import Service, Visits
from api.settings import Settings
from api.telemetry import REGISTRY, Measure
from api.tracing import traced
from models.batching import Engine
from models.repository import Repository
from models.runtime import RuntimeOptions, available_cores
from models.signature import read_signers

VERSION = "0.1.0"
# seconds: an engine whose run has ended waits for so long until it may take the next batch while the loop has something to
# do; at Python's own 5 ms a core stood still for a tenth of the time
TURN = 5e-4
_log = logging.getLogger(__name__)


def _measure_costs(service: Service) -> None:
    """What solving costs, of every model that can."""
    for surrogate in service.repository.surrogates:
        if not service.ending.is_set():
            service.costs.measure(surrogate)


def _prepare(service: Service) -> None:
    """What need not be there at the start."""
    service.repository.measure(lambda: not service.ending.is_set())
    _measure_costs(service)
    importlib.import_module("api.encodings.png")


def _refresh(service: Service) -> None:
    """Look for changed bundles."""
    if service.repository.refresh():
        _measure_costs(service)


def _carefully(work: Callable[[Service], None], service: Service) -> None:
    """Do it; what fails beside the requests is logged and ends nothing."""
    try:
        work(service)
    except Exception:  # noqa: BLE001  a folder may vanish under the hands, a solver fail
        _log.exception("%s failed; the service goes on", work.__name__.strip("_"))


async def _watch(service: Service, seconds: float) -> None:
    """Look for changed bundles now and then, beside the requests; before that, what need not be there at the start."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="reload") as thread:
        await loop.run_in_executor(thread, _carefully, _prepare, service)
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again and again holds requests up for 30 ms
        while seconds:
            await asyncio.sleep(seconds)
            await loop.run_in_executor(thread, _carefully, _refresh, service)


@contextmanager
def _service(settings: Settings, routes: Iterable[str]) -> Iterator[Service]:
    """Threads, engine and bundles, for as long as the application runs."""
    # runs side by side with few threads each get more done than one run on every core, which keeps waiting for the slowest
    threads = settings.threads or max(1, available_cores() // settings.runs)
    options = RuntimeOptions(settings.device, threads, fall_back=settings.allow_cpu, cuda_graphs=settings.cuda_graphs)
    with (
        ThreadPoolExecutor(settings.workers or available_cores(), thread_name_prefix="worker") as workers,
        ThreadPoolExecutor(settings.callers, thread_name_prefix="caller") as callers,
        ThreadPoolExecutor(1, thread_name_prefix="files") as files,
        closing(Engine(settings.runs)) as engine,
    ):
        signers = () if settings.signers is None else read_signers(settings.signers)
        repository = Repository(settings.zoo, options, engine, settings.max_model_bytes, signers)
        service = Service(settings, repository, engine, workers, callers, files)
        # the workers already use every core: with BLAS threads of its own each would wait for the others
        measured = _measured(ServiceCollector(service, VERSION, routes), settings)
        with measured, threadpool_limits(1, "blas"), _turns(TURN):
            yield service


@contextmanager
def _turns(seconds: float) -> Iterator[None]:
    """Threads that compute in Python take turns so often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _measured(collector: ServiceCollector, settings: Settings) -> Iterator[None]:
    """With what the service tells of itself among the metrics, and these on a port of their own if there is one."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began doubles their number, and nobody asks
    REGISTRY.register(collector)
    try:
        if not settings.metrics_port:
            yield
            return
        server, thread = start_http_server(settings.metrics_port, settings.host, REGISTRY)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    finally:
        REGISTRY.unregister(collector)


def _computing(app: "Application") -> Iterator[str]:
    """Templates of the routes that compute something with a model."""
    own = [("", route) for route in iter_route_contexts(app.routes)]
    for prefix, route in [*own, *app.faces.routes]:
        path = f"{prefix}{getattr(route, 'path', None) or ''}"
        if "POST" in (getattr(route, "methods", None) or ()) and required_scope("POST", path) in ("predict", "explain"):
            yield path


class Application(FastAPI):
    """FastAPI with the guard, and then the foreign protocols, before it."""

    faces: Faces
    entrance: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        await self.entrance(scope, receive, send)

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection that the guard has let in."""
        if scope["type"] == "http" and self.faces.has(scope["path"]):
            scope["app"] = self
            await self.faces(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "HEAD":
            await self._head(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What GET answers; the server leaves the body out."""
        asked = {**scope, "method": "GET"}
        try:
            await super().__call__(asked, receive, send)
        finally:
            scope.update(asked, method="HEAD")  # what the routing found out, for logs and metrics


def create_app(settings: Settings) -> FastAPI:
    """The service for one settings object; bundles are verified and loaded before the first request."""

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        with _service(settings, _computing(app)) as service:
            app.state.service = service
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(service, settings.reload_seconds))
                yield
                service.ending.set()
                watch.cancel()

    app = Application(
        title="Surrogates of physical models", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.faces = Faces(VERSION, settings.umbridge_at_root)
    app.entrance = traced(Measure(shared(guarded(app.dispatch, refusal, settings), settings.origins.split())))
    for module in (catalogue, predict, forecast, explain, derivatives):
        app.include_router(module.router, prefix="/v1", tags=["v1"])
    app.include_router(health.router, tags=["operations"])
    pages.install(app)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Visits)
    return app
