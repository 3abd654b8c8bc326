"""POST /v1/models/{name}/explain: what in the input a quantity of interest depends on."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.encodings import json
from api.routes import requests
from api.schemas import ExplainOptions, parse_options
from models.explanation import explain as explain_sample

router = APIRouter()


@router.post("/models/{name}/explain")
@router.post("/models/{name}/versions/{version}/explain")
async def explain(request: Request, name: str, version: str | None = None) -> Response:
    """Attribute a quantity of interest to the input, with its interval and checks."""
    surrogate = requests.surrogate_of(request, name, version)
    visit = requests.admit(request, surrogate)
    body = await requests.read_document(request)
    limit = visit.service.settings.max_batch
    inputs, _ = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    options = parse_options(ExplainOptions, body)
    asked = options.model_dump()
    found = await visit.call(lambda: explain_sample(surrogate, inputs, asked))
    return requests.json_response(requests.head(surrogate) | _on_the_wire(found, options.encoding))


def _on_the_wire(found: dict[str, Any], encoding: json.Encoding) -> dict[str, Any]:
    def encode(values: np.ndarray | None) -> Any:
        if values is None:
            return None
        array = np.asarray(values, dtype=np.float32)
        return float(array) if encoding == "json" and not array.ndim else json.encode_array(array, encoding)

    attribution = {
        name: {
            "dims": part["dims"],
            "convention": part["convention"],
            "data": encode(part["values"]),
            "standard_deviation": encode(part["deviation"]),
        }
        for name, part in found["attribution"].items()
    }
    return found | {"attribution": attribution}
