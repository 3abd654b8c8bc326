"""What every /v1 route needs: admission, bodies, arrays by name."""

import math
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from fastapi import Request
from fastapi.responses import Response

from api.encodings import json
from api.errors import MalformedBody, NotAcceptable, UnsupportedMediaType
from api.negotiation import media_ranges
from api.service import Visit, service_of, visit_of
from api.settings import VALUES_SETTING
from models.contract import Wish
from models.errors import MissingField, TooLarge, UnknownField, UnknownOption, WrongShape, WrongType
from models.fields import Field
from models.surrogate import Clock, Surrogate


def surrogate_of(request: Request, name: str, version: str | None) -> Surrogate:
    """The surrogate a path names.

    Raises UnknownModel, UnknownVersion.
    """
    return service_of(request).repository.get(name, version)


def admit(request: Request, surrogate: Surrogate) -> Visit:
    """Let a request in to compute something with a model.

    Raises Overloaded, TooLarge, UnknownOption.
    """
    visit = visit_of(request)
    visit.enter(surrogate.manifest.name)
    return visit


async def read_body(request: Request) -> bytes:
    """The body, as it is.

    Raises UnsupportedMediaType, TooLarge, Overloaded, BodyTooSlow.
    """
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        remedy = "Send it plain."
        raise UnsupportedMediaType("an uncompressed body", encoding[:40], remedy, "Content-Encoding")
    return await visit_of(request).body()


def media_type(request: Request) -> str:
    """The content type without its parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType unless the body is declared as JSON."""
    got = media_type(request)
    if got != json.MEDIA_TYPE:
        raise UnsupportedMediaType(json.MEDIA_TYPE, got or "no content type", "Set Content-Type: application/json.")


def accepted(request: Request, offered: tuple[str, ...]) -> str:
    """The first offered media type the client accepts.

    Raises NotAcceptable.
    """
    header = ", ".join(request.headers.getlist("accept"))
    for kind, _ in media_ranges(header):
        for candidate in offered:
            if kind in (candidate, f"{candidate.partition('/')[0]}/*", "*/*"):
                return candidate
    raise NotAcceptable(" or ".join(offered), header[:60], "Change the Accept header.", "Accept")


def parse_document(raw: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises MalformedBody.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        remedy = "Send one JSON object, nested less than 1024 deep; NaN and Infinity are not JSON."
        raise MalformedBody("a JSON object", f"unreadable text ({error})", remedy, "body") from error
    if not isinstance(document, dict):
        raise MalformedBody("a JSON object", type(document).__name__, "Wrap it: {…}.", "body")
    return document


async def read_document(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    require_json(request)
    return parse_document(await read_body(request))


def take_arrays(
    document: dict[str, Any], key: str, fields: tuple[Field, ...], max_batch: int, some: bool = False
) -> tuple[dict[str, np.ndarray], bool]:
    """Remove `key` from the document and decode its arrays; also whether they had a batch axis.

    All fields are needed unless `some` will do. Raises MissingField, UnknownField, WrongType, WrongShape,
    MalformedArray, TooLarge.
    """
    if key not in document:
        raise MissingField(key)
    given = document.pop(key)
    if not isinstance(given, Mapping):
        raise WrongType(key, "an object of arrays by field name", type(given).__name__)
    known = {field.name: field for field in fields}
    for name in given:
        if name not in known:
            raise UnknownField(f"{key}.{name}", known)
    arrays: dict[str, np.ndarray] = {}
    batches: dict[str, bool] = {}
    for name, field in known.items():
        if name in given:
            arrays[name], batches[name] = json.decode_input(field, f"{key}.{name}", given[name], max_batch)
        elif not some:
            raise MissingField(f"{key}.{name}")
    if not arrays:
        raise MissingField(f"{key}.{next(iter(known))}")
    return arrays, _all_batched(key, batches)


def _all_batched(key: str, batches: Mapping[str, bool]) -> bool:
    batched = any(batches.values())
    for name, has_batch in batches.items():
        if has_batch != batched:
            raise WrongShape(f"{key}.{name}", "a leading batch axis, as other inputs have one", "none")
    return batched


def require_verdict_fits(wish: Wish | None, wanted: str) -> None:
    """Raises UnknownOption for a tolerance whose verdict the format asked for cannot carry."""
    if wish is not None and wanted != json.MEDIA_TYPE:
        raise UnknownOption("tolerance", f"an answer as {json.MEDIA_TYPE}, which carries the verdict", wanted)


def check_answer_size(request: Request, surrogate: Surrogate, count: int, frames: int = 1) -> None:
    """Raises TooLarge when the answer would hold more numbers than the limit, before anything is computed."""
    limit = service_of(request).settings.max_values
    size = sum(math.prod(item.shape) for item in surrogate.manifest.outputs)
    values = count * frames * size * surrogate.manifest.members
    if values > limit:
        raise TooLarge("inputs", f"an answer of at most {limit} numbers", f"{values}", VALUES_SETTING)


def head(surrogate: Surrogate) -> dict[str, Any]:
    """The first members of every answer."""
    return {
        "id": str(uuid.uuid4()),
        "model": surrogate.manifest.name,
        "version": surrogate.manifest.version,
    }


def array_document(field: Field, values: np.ndarray, batched: bool, encoding: json.Encoding) -> dict[str, Any]:
    """A field on the wire, without the batch axis when the client sent none."""
    dims = [axis.name for axis in field.axes]
    shown = values if batched else values[0]
    data = json.encode_array(shown, encoding)
    return {"dims": ["batch", *dims] if batched else dims, "units": field.units, "data": data}


def json_response(document: Any) -> Response:
    """A JSON answer."""
    return Response(json.dump(document), media_type=json.MEDIA_TYPE)


def timed_response(document: dict[str, Any], clock: Clock) -> Response:
    """A JSON answer that ends with its route, the encoding of all before it included."""
    body = json.dump(document)
    clock.mark("encode")
    route = json.dump([step.document() for step in clock.route])
    return Response(b'%b,"route":%b}' % (body[:-1], route), media_type=json.MEDIA_TYPE)
