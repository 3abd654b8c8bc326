"""POST /v1/models/{name}/jvp and /vjp: exact derivatives of the ensemble mean."""

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.routes import requests
from api.schemas import DerivativeOptions, parse_options
from models.errors import NotFinite, WrongShape
from models.surrogate import Surrogate

router = APIRouter()


def _same_batch(name: str, values: np.ndarray, count: int) -> None:
    if len(values) != count:
        raise WrongShape(name, f"a batch of {count}, as the inputs", f"{len(values)}")
    bad = ~np.isfinite(values)
    if bad.any():
        raise NotFinite(name, int(bad.sum()), str(tuple(int(i) for i in np.argwhere(bad)[0])))


@router.post("/models/{name}/jvp")
@router.post("/models/{name}/versions/{version}/jvp")
async def jvp(request: Request, name: str, version: str | None = None) -> Response:
    """J t: the change of the mean answer along a change `tangent` of the inputs."""
    surrogate = requests.surrogate_of(request, name, version)
    surrogate.require("jvp")
    body = await requests.read_document(request)
    limit = requests.service(request).settings.max_batch
    given, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    tangents, _ = requests.take_arrays(body, "tangent", surrogate.manifest.inputs, limit)
    options = parse_options(DerivativeOptions, body)
    inputs = surrogate.validate(given)
    tangent = tangents[surrogate.input.name]
    _same_batch(f"tangent.{surrogate.input.name}", tangent, len(inputs[surrogate.input.name]))
    members, pushed = await requests.off_loop(request, lambda: surrogate.jvp(inputs, tangent))
    return requests.json_response(
        requests.head(surrogate)
        | _outputs(surrogate, members, batched, options)
        | {
            "derivative": {
                surrogate.output.name: requests.array_document(
                    surrogate.output, pushed.mean(axis=1), batched, options.encoding
                )
            }
        }
    )


@router.post("/models/{name}/vjp")
@router.post("/models/{name}/versions/{version}/vjp")
async def vjp(request: Request, name: str, version: str | None = None) -> Response:
    """Jᵀ w: the gradient of ⟨w, mean answer⟩ in the inputs, as raw partial derivatives."""
    surrogate = requests.surrogate_of(request, name, version)
    surrogate.require("vjp")
    body = await requests.read_document(request)
    limit = requests.service(request).settings.max_batch
    given, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    cotangents, _ = requests.take_arrays(body, "cotangent", surrogate.manifest.outputs, limit)
    options = parse_options(DerivativeOptions, body)
    inputs = surrogate.validate(given)
    weights = cotangents[surrogate.output.name]
    _same_batch(f"cotangent.{surrogate.output.name}", weights, len(inputs[surrogate.input.name]))
    count = surrogate.manifest.members
    spread = np.repeat(weights[:, None] / count, count, axis=1)
    members, pulled = await requests.off_loop(request, lambda: surrogate.vjp(inputs, spread))
    gradient = requests.array_document(surrogate.input, pulled, batched, options.encoding)
    return requests.json_response(
        requests.head(surrogate)
        | _outputs(surrogate, members, batched, options)
        | {"gradient": {surrogate.input.name: gradient}}
    )


def _outputs(surrogate: Surrogate, members: np.ndarray, batched: bool, options: DerivativeOptions) -> dict[str, object]:
    shown = requests.array_document(surrogate.output, members.mean(axis=1), batched, options.encoding)
    return {"outputs": {surrogate.output.name: shown}}
