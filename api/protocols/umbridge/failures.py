"""Failures in the words of UM-Bridge: {"error": {"type", "message"}}, 400 for whatever the request can be blamed for."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.encodings import json
from api.errors import STATUS, error_headers, named_text
from models import errors

KINDS = {
    errors.UnknownModel: "ModelNotFound",
    errors.UnknownVersion: "ModelNotFound",
    errors.NotOffered: "UnsupportedFeature",
}
KIND_OF_STATUS = {
    401: "Unauthorized", 403: "Unauthorized", 404: "UnsupportedFeature", 405: "UnsupportedFeature",
    429: "Unavailable", 499: "Timeout", 500: "InvalidOutput", 503: "Unavailable", 504: "Timeout",
}  # fmt: skip


def _error(kind: str, message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dump({"error": {"type": kind, "message": message}})
    return Response(body, status, headers, json.MEDIA_TYPE)


def refusal(error: errors.SurrogateError) -> tuple[str, int]:
    """Type and status of a domain error: what a request can be blamed for is 400, as the protocol has it."""
    status = STATUS[type(error)]
    kind = KINDS.get(type(error)) or KIND_OF_STATUS.get(status, "InvalidInput")
    return kind, 400 if status in (400, 404, 406, 422) else status


def _domain(request: Request, error: errors.SurrogateError) -> Response:
    kind, status = refusal(error)
    return _error(kind, named_text(error), status, error_headers(error))


def _framework(request: Request, error: HTTPException) -> Response:
    kind = KIND_OF_STATUS.get(error.status_code, "InvalidInput")
    return _error(kind, str(error.detail), error.status_code, error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    return _error("InvalidOutput", "The service failed on this request; it keeps running.", 500)


def handlers() -> Any:
    """What the application answers to each kind of exception."""
    return {errors.SurrogateError: _domain, HTTPException: _framework, Exception: _unexpected}
