"""Where other people's protocols live: before the service's own application, which has more to do for every request."""

from inspect import isawaitable

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors
from api.protocols import open_inference, tesseract, umbridge
from api.protocols.open_inference.failures import HANDLERS
from api.service import Visits
from models.errors import SurrogateError

OPEN_INFERENCE = "/v2"


async def refusal(scope: Scope, error: SurrogateError) -> ASGIApp:
    """The answer to a request that is let into no application, in the words of the face it asks."""
    face = "umbridge" if scope["path"] in umbridge.PATHS else scope["path"].split("/")[1]
    handlers = {"v2": HANDLERS, "umbridge": umbridge.handlers(), "tesseract": tesseract.handlers()}
    handle = handlers.get(face, {SurrogateError: errors.domain})[SurrogateError]
    found = handle(Request(scope), error)
    answer: ASGIApp = await found if isawaitable(found) else found
    return answer


class Faces:
    """The applications of the foreign protocols."""

    def __init__(self, version: str, umbridge_at_root: bool) -> None:
        self._mounts = mounts = {"/umbridge": umbridge.application(), "/tesseract": tesseract.application()}
        routes = [Mount(path, app) for path, app in mounts.items()]
        self._mounted = Router(routes, redirect_slashes=False, default=mounts["/umbridge"])
        self._open_inference = open_inference.Application(version)
        self._visited = Visits(self._dispatch)
        self._paths = (OPEN_INFERENCE, *mounts, *(umbridge.PATHS if umbridge_at_root else ()))
        self._below = tuple(f"{path}/" for path in (OPEN_INFERENCE, *mounts))

    @property
    def routes(self) -> list[tuple[str, BaseRoute]]:
        """Every route with what stands before its path."""
        mounted = [(path, route) for path, app in self._mounts.items() for route in app.routes]
        return [*mounted, *(("", route) for route in self._open_inference.routes)]

    def has(self, path: str) -> bool:
        """Whether a path is one of theirs."""
        return path.startswith(self._below) or path in self._paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._visited(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._open_inference if scope["path"].startswith(OPEN_INFERENCE) else self._mounted
        await app(scope, receive, send)
