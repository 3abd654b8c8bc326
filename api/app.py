"""Application factory: wiring and lifespan, nothing else."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing

from fastapi import FastAPI

from api import errors, openapi, pages
from api.protocols import open_inference
from api.routes import catalogue, derivatives, explain, forecast, health, predict
from api.service import Service, Visits
from api.settings import Settings
from api.telemetry import Measure
from models.batching import Engine
from models.repository import Repository
from models.runtime import RuntimeOptions

VERSION = "0.1.0"


async def _watch(repository: Repository, seconds: float) -> None:
    """Look for changed bundles now and then, beside the requests; before that, what need not be there at the start."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="reload") as thread:
        await loop.run_in_executor(thread, repository.measure)
        await loop.run_in_executor(thread, importlib.import_module, "api.encodings.png")
        while seconds:
            await asyncio.sleep(seconds)
            await loop.run_in_executor(thread, repository.refresh)


def create_app(settings: Settings) -> FastAPI:
    """The service for one settings object; bundles are verified and loaded before the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        options = RuntimeOptions(
            settings.device, settings.threads, fall_back=settings.allow_cpu, cuda_graphs=settings.cuda_graphs
        )
        with (
            ThreadPoolExecutor(settings.workers, thread_name_prefix="inference") as workers,
            ThreadPoolExecutor(1, thread_name_prefix="files") as files,
            closing(Engine()) as engine,
        ):
            repository = Repository(settings.zoo, options, engine, settings.max_model_bytes)
            app.state.service = Service(settings, repository, engine, workers, files)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(repository, settings.reload_seconds))
                yield
                watch.cancel()

    app = FastAPI(
        title="Surrogates of physical models", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    for module in (catalogue, predict, forecast, explain, derivatives):
        app.include_router(module.router, prefix="/v1", tags=["v1"])
    app.include_router(health.router, tags=["operations"])
    pages.install(app)
    errors.install(app)
    open_inference.install(app)
    openapi.install(app)
    app.add_middleware(Visits)
    app.add_middleware(Measure)
    return app
