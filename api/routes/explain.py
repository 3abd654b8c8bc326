"""POST /v1/models/{name}/explain: what in the input a quantity of interest depends on."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.encodings import json
from api.routes import requests
from api.schemas import ExplainOptions, parse_options
from models.explanation import explain as explain_sample
from models.fields import Field

router = APIRouter()


@router.post("/models/{name}/explain")
@router.post("/models/{name}/versions/{version}/explain")
async def explain(request: Request, name: str, version: str | None = None) -> Response:
    """Attribute a quantity of interest to the input, with its interval and checks."""
    surrogate = requests.surrogate_of(request, name, version)
    body = await requests.read_document(request)
    limit = requests.service(request).settings.max_batch
    inputs, _ = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    options = parse_options(ExplainOptions, body)
    asked = options.model_dump()
    found = await requests.off_loop(request, lambda: explain_sample(surrogate, inputs, asked))
    return requests.json_response(requests.head(surrogate) | _on_the_wire(surrogate.input, found, options.encoding))


def _on_the_wire(field: Field, found: dict[str, Any], encoding: json.Encoding) -> dict[str, Any]:
    def encode(values: np.ndarray | None) -> Any:
        return None if values is None else json.encode_array(values.astype(np.float32), encoding)

    attribution = {
        "dims": [axis.name for axis in field.axes],
        "convention": found.pop("convention"),
        "data": encode(found.pop("attribution")),
        "standard_deviation": encode(found.pop("deviation")),
    }
    return found | {"attribution": {field.name: attribution}}
