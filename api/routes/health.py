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
    """200 when models are served and none that was there at the start was refused; what is refused says why."""
    repository = service_of(request).repository
    served = [f"{s.manifest.name}/{s.manifest.version}" for s in repository.surrogates]
    status = "ready" if repository.is_ready else "incomplete" if served else "empty"
    answer = requests.json_response({"status": status, "models": served, "broken": repository.broken})
    answer.status_code = 200 if repository.is_ready else 503
    return answer


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus text."""
    text, kind = telemetry.exposition()
    return Response(text, headers={"content-type": kind})
