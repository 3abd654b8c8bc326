"""The guard: every request shows who sends it before anything looks at its route.

    Authorization: Bearer <key or token>  ·  X-API-Key: <key>  ·  Basic, the key as password (browsers, URLs of clients)

It stands before all faces as one piece of ASGI, so there is no other way in; where nothing asks for it, it is not there.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.security.access import OPEN, Client, required_scope
from api.security.keys import PREFIX, KeyRing
from api.security.quotas import Headers, Quotas
from api.security.tokens import Tokens, keys_from
from api.settings import Settings
from models.errors import OutOfScope, SurrogateError, Unauthenticated

Refuse = Callable[[Scope, SurrogateError], Awaitable[ASGIApp]]
CLIENT = "client_name"
"""Where a request's scope holds who sends it."""


class Guard:
    """Lets clients through to `app`; others get `refuse`'s answer, in the words of the face they ask."""

    def __init__(
        self, app: ASGIApp, refuse: Refuse, keys: KeyRing | None, tokens: Tokens | None, quotas: Quotas
    ) -> None:
        self._app, self._refuse = app, refuse
        self._keys, self._tokens, self._quotas = keys, tokens, quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            await self._quotas.close()
            return
        if scope["type"] == "http" and scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # the service has none
            return
        try:
            client = await self._identify(scope)
            scope[CLIENT] = client.name
            _require_scope(client, scope)
            extra = await self._quotas.take(client)
        except SurrogateError as error:
            answer = await self._refuse(scope, error)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, _adding(send, extra) if extra else send)

    async def _identify(self, scope: Scope) -> Client:
        """Who sends it.

        Raises Unauthenticated.
        """
        shown = credentials(scope)
        if self._keys is not None and shown.startswith(PREFIX):
            return self._keys.find(shown)
        if self._tokens is not None:
            return await self._tokens.find(shown)
        raise Unauthenticated("something else")


def guarded(app: ASGIApp, refuse: Refuse, settings: Settings) -> ASGIApp:
    """The application behind a guard, where settings name keys or tokens; else as it is.

    Raises ValueError, OSError where keys cannot be read.
    """
    if not settings.is_protected:
        return app
    keys = None if settings.keys is None else KeyRing(settings.keys)
    tokens = None
    if settings.token_keys:
        algorithms = tuple(settings.token_algorithms.split())
        tokens = Tokens(keys_from(settings.token_keys), settings.token_issuer, settings.token_audience, algorithms)
    return Guard(app, refuse, keys, tokens, Quotas(settings.limits, settings.limit_store))


def credentials(scope: Scope) -> str:
    """The key or token of a request.

    Raises Unauthenticated for none, for several, and for one that is shown in no known way.
    """
    found = [(key, value) for key, value in scope["headers"] if key in (b"authorization", b"x-api-key")]
    if len(found) != 1:
        raise Unauthenticated("several" if found else "none")
    name, value = found[0][0], str(found[0][1], "latin-1").strip()
    if name == b"x-api-key":
        return value
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        _require_own_page(scope)
        return _password(rest.strip())
    raise Unauthenticated("a scheme that is neither Bearer nor Basic")


def _password(encoded: str) -> str:
    try:
        _, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        separator, password = "", ""
    if not separator:
        raise Unauthenticated("Basic credentials that cannot be read")
    return password


def _require_own_page(scope: Scope) -> None:
    """Raises Unauthenticated where a browser sends what it remembers on behalf of somebody else's page."""
    sites = [value for key, value in scope["headers"] if key == b"sec-fetch-site"]
    if scope["method"] not in ("GET", "HEAD") and any(site not in (b"same-origin", b"none") for site in sites):
        raise Unauthenticated("Basic credentials from another site's page")


def _require_scope(client: Client, scope: Scope) -> None:
    """Raises OutOfScope."""
    needed = required_scope(scope["method"], scope["path"])
    if needed is not None and needed not in client.scopes:
        raise OutOfScope(needed, sorted(client.scopes))


def _adding(send: Send, extra: Headers) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return adding
