"""/healthz, /readyz, /metrics: operations."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import telemetry
from api.routes import requests
from api.service import service_of

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Response:
    """The process answers."""
    return requests.json_response({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 when at least one model is served; broken bundles are named with the reason."""
    repository = service_of(request).repository
    served = [f"{s.manifest.name}/{s.manifest.version}" for s in repository.surrogates]
    answer = requests.json_response(
        {"status": "ready" if served else "empty", "models": served, "broken": repository.broken}
    )
    answer.status_code = 200 if served else 503
    return answer


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus text."""
    text, kind = telemetry.exposition()
    return Response(text, headers={"content-type": kind})
