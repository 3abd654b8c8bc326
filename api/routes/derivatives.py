"""POST /v1/models/{name}/jvp and /vjp: exact derivatives of the ensemble mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.routes import requests
from api.schemas import DerivativeOptions, parse_options
from api.service import visit_of
from models.errors import WrongShape
from models.fields import Field, check_numbers
from models.physical_model import Arrays
from models.surrogate import Surrogate

router = APIRouter()


@dataclass(frozen=True)
class Asked:
    """A checked derivative request: where, along what (or weighted by what; zero where not given), how to answer."""

    surrogate: Surrogate
    inputs: Arrays
    directions: Arrays
    batched: bool
    options: DerivativeOptions

    def answer(self, members: Mapping[str, np.ndarray], key: str, fields: Mapping[Field, np.ndarray]) -> Response:
        """The mean outputs and the derivatives under `key`."""
        means = {item: members[item.name].mean(axis=1) for item in self.surrogate.manifest.outputs}
        head = requests.head(self.surrogate)
        return requests.json_response(head | {"outputs": self._shown(means), key: self._shown(fields)})

    def _shown(self, fields: Mapping[Field, np.ndarray]) -> dict[str, Any]:
        encoding = self.options.encoding
        return {f.name: requests.array_document(f, v, self.batched, encoding) for f, v in fields.items()}


async def _read(
    request: Request, surrogate: Surrogate, kind: Literal["jvp", "vjp"], key: str, fields: tuple[Field, ...]
) -> Asked:
    surrogate.require(kind)
    visit = requests.admit(request, surrogate)
    body = await requests.read_document(request)
    limit = visit.service.settings.max_batch
    given, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    numbers = tuple(item for item in fields if item.role != "reference_time")
    found, _ = requests.take_arrays(body, key, numbers, limit, some=True)
    options = parse_options(DerivativeOptions, body)
    inputs = surrogate.validate(given)
    count = len(next(iter(inputs.values())))
    for name, values in found.items():
        if len(values) != count:
            raise WrongShape(f"{key}.{name}", f"a batch of {count}, as the inputs", f"{len(values)}")
        check_numbers(f"{key}.{name}", values)
    directions = {item.name: found.get(item.name, np.zeros((count, *item.shape))) for item in fields}
    return Asked(surrogate, inputs, directions, batched, options)


@router.post("/models/{name}/jvp")
@router.post("/models/{name}/versions/{version}/jvp")
async def jvp(request: Request, name: str, version: str | None = None) -> Response:
    """J t: the change of the mean answer along a change `tangent` of some or all inputs."""
    surrogate = requests.surrogate_of(request, name, version)
    asked = await _read(request, surrogate, "jvp", "tangent", surrogate.manifest.inputs)
    members, pushed = await visit_of(request).call(lambda: surrogate.jvp(asked.inputs, asked.directions))
    changes = {item: pushed[item.name].mean(axis=1) for item in surrogate.manifest.outputs}
    return asked.answer(members, "derivative", changes)


@router.post("/models/{name}/vjp")
@router.post("/models/{name}/versions/{version}/vjp")
async def vjp(request: Request, name: str, version: str | None = None) -> Response:
    """Jᵀ w: the gradient of ⟨w, mean answer⟩ in every input, as raw partial derivatives."""
    surrogate = requests.surrogate_of(request, name, version)
    asked = await _read(request, surrogate, "vjp", "cotangent", surrogate.manifest.outputs)
    count = surrogate.manifest.members
    spread = {name: np.repeat(w[:, None] / count, count, axis=1) for name, w in asked.directions.items()}
    members, pulled = await visit_of(request).call(lambda: surrogate.vjp(asked.inputs, spread))
    gradients = {item: pulled[item.name] for item in surrogate.manifest.inputs if item.role != "reference_time"}
    return asked.answer(members, "gradient", gradients)
