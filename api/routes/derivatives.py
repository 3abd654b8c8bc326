"""POST /v1/models/{name}/jvp and /vjp: exact derivatives of the ensemble mean."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.routes import requests
from api.schemas import DerivativeOptions, parse_options
from models.errors import NotFinite, WrongShape
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Surrogate

router = APIRouter()


@dataclass(frozen=True)
class Asked:
    """A checked derivative request: where, along what (or weighted by what), and how to answer."""

    surrogate: Surrogate
    inputs: Arrays
    direction: np.ndarray
    batched: bool
    options: DerivativeOptions

    def answer(self, members: np.ndarray, key: str, field: Field, values: np.ndarray) -> Response:
        """The mean output and the derivative under `key`."""
        target = self.surrogate.output
        encoding = self.options.encoding
        mean = requests.array_document(target, members.mean(axis=1), self.batched, encoding)
        found = requests.array_document(field, values, self.batched, encoding)
        head = requests.head(self.surrogate)
        return requests.json_response(head | {"outputs": {target.name: mean}, key: {field.name: found}})


async def _read(
    request: Request, surrogate: Surrogate, kind: Literal["jvp", "vjp"], key: str, fields: tuple[Field, ...]
) -> Asked:
    surrogate.require(kind)
    body = await requests.read_document(request)
    limit = requests.service(request).settings.max_batch
    given, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    directions, _ = requests.take_arrays(body, key, fields, limit)
    options = parse_options(DerivativeOptions, body)
    inputs, direction = surrogate.validate(given), directions[fields[0].name]
    name, count = f"{key}.{fields[0].name}", len(inputs[surrogate.input.name])
    if len(direction) != count:
        raise WrongShape(name, f"a batch of {count}, as the inputs", f"{len(direction)}")
    bad = ~np.isfinite(direction)
    if bad.any():
        raise NotFinite(name, int(bad.sum()), str(tuple(int(i) for i in np.argwhere(bad)[0])))
    return Asked(surrogate, inputs, direction, batched, options)


@router.post("/models/{name}/jvp")
@router.post("/models/{name}/versions/{version}/jvp")
async def jvp(request: Request, name: str, version: str | None = None) -> Response:
    """J t: the change of the mean answer along a change `tangent` of the inputs."""
    surrogate = requests.surrogate_of(request, name, version)
    asked = await _read(request, surrogate, "jvp", "tangent", surrogate.manifest.inputs)
    members, pushed = await requests.off_loop(request, lambda: surrogate.jvp(asked.inputs, asked.direction))
    return asked.answer(members, "derivative", surrogate.output, pushed.mean(axis=1))


@router.post("/models/{name}/vjp")
@router.post("/models/{name}/versions/{version}/vjp")
async def vjp(request: Request, name: str, version: str | None = None) -> Response:
    """Jᵀ w: the gradient of ⟨w, mean answer⟩ in the inputs, as raw partial derivatives."""
    surrogate = requests.surrogate_of(request, name, version)
    asked = await _read(request, surrogate, "vjp", "cotangent", surrogate.manifest.outputs)
    count = surrogate.manifest.members
    spread = np.repeat(asked.direction[:, None] / count, count, axis=1)
    members, pulled = await requests.off_loop(request, lambda: surrogate.vjp(asked.inputs, spread))
    return asked.answer(members, "gradient", surrogate.input, pulled)
