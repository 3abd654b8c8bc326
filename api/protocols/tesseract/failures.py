"""Failures in the words of Tesseract: {"detail": …}, a list for what clients turn into a validation error."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.encodings import json
from api.errors import STATUS, MalformedBody, code_of, error_headers
from api.service import DEADLINE_HEADER
from models.errors import SurrogateError

SECTIONS = (
    "inputs", "jac_inputs", "jac_outputs", "jvp_inputs", "jvp_outputs", "vjp_inputs", "vjp_outputs",
    "tangent_vector", "cotangent_vector",
)  # fmt: skip
PYDANTIC = {"missing-field": "missing", "unknown-field": "extra_forbidden", "malformed-body": "json_invalid"}


def _place(error: SurrogateError) -> list[str]:
    """Where in the request the fault lies."""
    parts = (error.field or "body").split(".")
    if parts[0] == DEADLINE_HEADER:
        return ["header", *parts]
    if parts[0] == "body" or parts[0] in SECTIONS:
        return ["body", *(part for part in parts if part != "body")]
    return ["body", "inputs", *parts]


def fault(error: SurrogateError) -> dict[str, Any]:
    """One entry of the list that clients turn into a validation error."""
    code = code_of(type(error))
    facts = {"expected": error.expected, "got": error.got, "remedy": error.remedy}
    kind = PYDANTIC.get(code, code.replace("-", "_"))
    return {"type": kind, "loc": _place(error), "msg": str(error), "ctx": facts}


def _error(detail: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dump({"detail": detail}), status, headers, json.MEDIA_TYPE)


def _domain(request: Request, error: SurrogateError) -> Response:
    status = STATUS[type(error)]
    if status == 422 or isinstance(error, MalformedBody):
        return _error([fault(error)], 422)
    return _error(str(error), status, error_headers(error))


def _framework(request: Request, error: HTTPException) -> Response:
    return _error(str(error.detail), error.status_code, error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    return _error("The service failed on this request; it keeps running.", 500)


def handlers() -> Any:
    """What the application answers to each kind of exception."""
    return {SurrogateError: _domain, HTTPException: _framework, Exception: _unexpected}
