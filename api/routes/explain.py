"""POST /v1/models/{name}/explain: what in the input a quantity of interest depends on."""

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.encodings import json, pictures
from api.routes import requests
from api.schemas import ExplainOptions, parse_options
from models import explanation
from models.fields import LEAD_TIME
from models.surrogate import Clock

router = APIRouter()
RESPONSES = (json.MEDIA_TYPE, pictures.MEDIA_TYPE)


@router.post("/models/{name}/explain")
@router.post("/models/{name}/versions/{version}/explain")
async def explain(request: Request, name: str, version: str | None = None) -> Response:
    """Attribute a quantity of interest to the input, with its interval and checks; JSON or PNG by Accept."""
    surrogate = requests.surrogate_of(request, name, version)
    wanted = requests.accepted(request, RESPONSES)
    visit = requests.admit(request, surrogate)
    clock = Clock(visit.started)
    body = await requests.read_document(request)
    limit = visit.service.settings.max_batch
    fields = surrogate.manifest.inputs
    if _times_itself(body):  # then the model's own lead time is not needed
        fields = tuple(item for item in fields if item.role != LEAD_TIME or item.name in body.get("inputs", {}))
    inputs, _ = requests.take_arrays(body, "inputs", fields, limit)
    options = parse_options(ExplainOptions, body)
    asked = options.request()
    clock.mark("decode")
    found = await visit.call(lambda: explanation.explain(surrogate, inputs, asked, clock))
    visit.conclude(clock.route)
    if wanted == pictures.MEDIA_TYPE:
        picture = await visit.off_loop(partial(pictures.encode_explanation, found))
        return Response(picture, media_type=pictures.MEDIA_TYPE)
    shown = _on_the_wire(explanation.document(found), options.encoding)
    return requests.json_response(requests.head(surrogate) | shown)


def _times_itself(body: dict[str, Any]) -> bool:
    quantity, inputs = body.get("quantity"), body.get("inputs")
    return isinstance(quantity, dict) and isinstance(inputs, dict) and quantity.get(LEAD_TIME) is not None


def _on_the_wire(found: dict[str, Any], encoding: json.Encoding) -> dict[str, Any]:
    def encode(values: np.ndarray | None) -> Any:
        if values is None:
            return None
        return json.encode_array(np.asarray(values, dtype=np.float32), encoding)

    attribution = {
        name: {
            "dims": part["dims"],
            "convention": part["convention"],
            "data": encode(part["values"]),
            "standard_deviation": encode(part["deviation"]),
            "smoothed": encode(part["smoothed"]),
            "smoothing": part["smoothing"],
        }
        for name, part in found["attribution"].items()
    }
    return found | {"attribution": attribution}
