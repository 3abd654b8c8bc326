"""Domain errors in the protocol's words: a status and {"error": text}, for every failure under /v2."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from api import errors
from api.encodings.json import MEDIA_TYPE, dump
from api.errors import UnsupportedMediaType
from models.errors import NotOffered, SurrogateError

ACCEPTED = "gzip, deflate"


def status_of(error: SurrogateError) -> int:
    """The status of /v1, but 400 for every request that cannot be used, and 501 for what no model offers."""
    if isinstance(error, NotOffered):
        return HTTPStatus.NOT_IMPLEMENTED
    status = errors.STATUS[type(error)]
    return HTTPStatus.BAD_REQUEST if status in (406, 422) else status


def failure(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A reply that every client of the protocol can read."""
    return Response(dump({"error": text}), status, headers, MEDIA_TYPE)


async def domain(_request: Request, error: Exception) -> Response:
    """What the request, or the state of the service, made impossible."""
    if not isinstance(error, SurrogateError):
        raise error
    headers = errors.error_headers(error)
    if isinstance(error, UnsupportedMediaType):
        headers = {"Accept-Encoding": ACCEPTED}
    return failure(status_of(error), errors.named_text(error), headers)


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    what = f"{request.method} {request.scope['path'][:200]}"
    return failure(error.status_code, f"{error.detail}: {what} is not part of this service.", error.headers)


async def unexpected(_request: Request, _error: Exception) -> Response:
    """A fault of ours: the log has the trace, the client a line without it."""
    return failure(500, "The service failed on this request; it keeps running and the fault is in its log.")


HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    SurrogateError: domain, HTTPException: _framework, Exception: unexpected,
}  # fmt: skip
