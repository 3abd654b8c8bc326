"""Application factory: wiring and lifespan, nothing else."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing

from fastapi import FastAPI

from api import errors, openapi, pages
from api.protocols import tesseract, umbridge
from api.routes import catalogue, derivatives, explain, forecast, health, predict
from api.service import Service, Visits
from api.settings import Settings
from api.telemetry import Measure
from models.batching import Engine
from models.repository import Repository
from models.runtime import RuntimeOptions

VERSION = "0.1.0"


def create_app(settings: Settings) -> FastAPI:
    """The service for one settings object; bundles are verified and loaded before the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        options = RuntimeOptions(settings.device, settings.threads)
        with (
            ThreadPoolExecutor(settings.workers, thread_name_prefix="inference") as workers,
            ThreadPoolExecutor(1, thread_name_prefix="files") as files,
            closing(Engine()) as engine,
        ):
            repository = Repository(settings.zoo, options, engine)
            app.state.service = Service(settings, repository, engine, workers, files)
            yield

    app = FastAPI(
        title="Surrogates of physical models", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    for module in (catalogue, predict, forecast, explain, derivatives):
        app.include_router(module.router, prefix="/v1", tags=["v1"])
    app.include_router(health.router, tags=["operations"])
    app.mount("/umbridge", umbridge.application())
    app.mount("/tesseract", tesseract.application())
    pages.install(app)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Visits)
    app.add_middleware(Measure)
    return app
