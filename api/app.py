"""Application factory: wiring and lifespan, nothing else."""

import asyncio
import gc
import importlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from threadpoolctl import threadpool_limits

from api import errors, openapi, pages
from api.protocols.faces import Faces, refusal
from api.routes import catalogue, derivatives, explain, forecast, health, predict
from api.security.guard import guarded
from api.service import Service, Visits
from api.settings import Settings
from api.telemetry import REGISTRY, Measure, ServiceCollector
from models.batching import Engine
from models.repository import Repository
from models.runtime import RuntimeOptions, available_cores

VERSION = "0.1.0"


async def _watch(repository: Repository, seconds: float) -> None:
    """Look for changed bundles now and then, beside the requests; before that, what need not be there at the start."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="reload") as thread:
        await loop.run_in_executor(thread, repository.measure)
        await loop.run_in_executor(thread, importlib.import_module, "api.encodings.png")
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again and again holds requests up for 30 ms
        while seconds:
            await asyncio.sleep(seconds)
            await loop.run_in_executor(thread, repository.refresh)


@contextmanager
def _service(settings: Settings) -> Iterator[Service]:
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
        repository = Repository(settings.zoo, options, engine, settings.max_model_bytes)
        service = Service(settings, repository, engine, workers, callers, files)
        collector = ServiceCollector(service)
        REGISTRY.register(collector)
        try:
            # the workers already use every core: with BLAS threads of its own each would wait for the others
            with threadpool_limits(1, "blas"):
                yield service
        finally:
            REGISTRY.unregister(collector)


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
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    """The service for one settings object; bundles are verified and loaded before the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with _service(settings) as service:
            app.state.service = service
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(service.repository, settings.reload_seconds))
                yield
                watch.cancel()

    app = Application(
        title="Surrogates of physical models", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.faces = Faces(VERSION, settings.umbridge_at_root)
    app.entrance = guarded(app.dispatch, refusal, settings)
    for module in (catalogue, predict, forecast, explain, derivatives):
        app.include_router(module.router, prefix="/v1", tags=["v1"])
    app.include_router(health.router, tags=["operations"])
    pages.install(app)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Visits)
    app.add_middleware(Measure)
    return app
