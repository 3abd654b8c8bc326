"""Where other people's protocols live: before the service's own application, which has more to do for every request."""

from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from api.protocols import open_inference, tesseract, umbridge
from api.service import Visits
from api.telemetry import Measure

OPEN_INFERENCE = "/v2"


class Faces:
    """Requests of the foreign protocols to their applications, everything else to `own`."""

    def __init__(self, own: ASGIApp, version: str) -> None:
        self._own = own
        mounts = {"/umbridge": umbridge.application(), "/tesseract": tesseract.application()}
        routes = [Mount(path, app) for path, app in mounts.items()]
        router = Router(routes, redirect_slashes=False, default=open_inference.application(version))
        self._foreign = Measure(Visits(router))
        self._paths = (OPEN_INFERENCE, *mounts)
        self._below = tuple(f"{path}/" for path in self._paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and (scope["path"].startswith(self._below) or scope["path"] in self._paths):
            await self._foreign(scope, receive, send)
        else:
            await self._own(scope, receive, send)
