"""Domain errors → HTTP, as RFC 9457 problem documents."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from api.encodings.json import dump
from models import errors
from models.errors import SurrogateError

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[SurrogateError], int] = {
    errors.UnknownField: 422,
    errors.MissingField: 422,
    errors.WrongShape: 422,
    errors.WrongType: 422,
    errors.NotFinite: 422,
    errors.OutOfRange: 422,
    errors.MalformedArray: 422,
    errors.UnsupportedLevel: 422,
    errors.UnknownOption: 422,
    errors.SeedTaken: 422,
    errors.TooLarge: 413,
    errors.InvalidInput: 422,
    errors.UnknownModel: 404,
    errors.UnknownVersion: 404,
    errors.NotOffered: 404,
    errors.ToleranceNotMet: 422,
    errors.BrokenBundle: 500,
    errors.InvalidOutput: 500,
    errors.NotEnabled: 403,
    errors.Unauthenticated: 401,
    errors.OutOfScope: 403,
    errors.Unavailable: 503,
    errors.Overloaded: 503,
    errors.QuotaSpent: 429,
    errors.Ended: 504,
    errors.DeadlinePassed: 504,
    errors.Abandoned: 499,
}
"""One status per error; a test walks the exception tree and fails on one that is missing here."""


class MalformedBody(errors.InvalidInput):
    """A body that is not the JSON document it should be."""


class BodyTooSlow(errors.InvalidInput):
    """A body that does not arrive in time."""


class UnsupportedMediaType(errors.InvalidInput):
    """A content type, or an Accept header, the call does not speak."""

    def __init__(self, expected: str, got: str, remedy: str, field: str = "Content-Type") -> None:
        super().__init__(expected, got, remedy, field)


class NotAcceptable(UnsupportedMediaType):
    """No representation the client accepts."""


STATUS |= {BodyTooSlow: 408, MalformedBody: 400, UnsupportedMediaType: 415, NotAcceptable: 406}


def code_of(kind: type[Exception]) -> str:
    """Stable code: the class name in kebab case."""
    return "".join(("-" if c.isupper() and i else "") + c.lower() for i, c in enumerate(kind.__name__))


def _title(status: int) -> str:
    return "Client Closed Request" if status == 499 else HTTPStatus(status).phrase


def error_headers(error: SurrogateError) -> dict[str, str]:
    """When to come back, or how to show who one is, where that helps; on every face the same."""
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="surrogates"'}
    if isinstance(error, errors.OutOfScope):
        return {"WWW-Authenticate": f'Bearer realm="surrogates", error="insufficient_scope", scope="{error.needed}"'}
    if not isinstance(error, errors.Unavailable):
        return {}
    limits = error.headers if isinstance(error, errors.QuotaSpent) else ()
    return {"Retry-After": f"{error.retry_after:.0f}"} | {key.decode(): value.decode() for key, value in limits}


def named_text(error: SurrogateError) -> str:
    """What was expected, what came and the remedy, after the name of what they are about; for faces that have text only."""
    text = str(error)
    return text if error.field is None or error.field in text else f"{error.field}: {text}"


def _body(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    head = {"type": f"urn:surrogate:error:{code}", "title": _title(status), "status": status, "code": code}
    return head | {"detail": detail, **more}


def problem(status: int, code: str, detail: str, **more: Any) -> Response:
    """A problem document."""
    return Response(dump(_body(status, code, detail, **more)), status, media_type=MEDIA_TYPE)


def problem_document(error: SurrogateError, **more: Any) -> dict[str, Any]:
    """A domain error as a problem document."""
    facts = {"field": error.field, "expected": error.expected, "got": error.got, "remedy": error.remedy}
    details = error.details if isinstance(error, errors.ToleranceNotMet) else {}
    return _body(STATUS[type(error)], code_of(type(error)), str(error), **facts, **details, **more)


def domain(request: Request, error: Exception) -> Response:
    """The answer of /v1 and the pages to a domain error."""
    assert isinstance(error, SurrogateError)
    body = problem_document(error, instance=request.url.path)
    headers = error_headers(error)
    if isinstance(error, errors.Unauthenticated) and "text/html" in request.headers.get("accept", ""):
        headers["WWW-Authenticate"] = 'Basic realm="surrogates", charset="UTF-8"'  # a browser asks its user for the key
    return Response(dump(body), body["status"], headers, MEDIA_TYPE)


def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "-")
    answer = problem(error.status_code, code, str(error.detail), instance=request.url.path)
    answer.headers.update(error.headers or {})
    return answer


def _parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    got = repr(first.get("input"))[:60]
    facts = {"field": field, "expected": first["msg"], "got": got, "remedy": "See the API documentation."}
    return problem(422, "unknown-option", f"{field}: {first['msg']}", instance=request.url.path, **facts)


def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has the trace, the client a document without it."""
    detail = "The service failed on this request; it keeps running and the fault is in its log."
    return problem(500, "internal-server-error", detail, instance=request.url.path)


def install(app: FastAPI) -> None:
    """Register every handler."""
    app.add_exception_handler(SurrogateError, domain)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(Exception, _unexpected)
