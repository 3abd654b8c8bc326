"""The calls of a model."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from api.protocols.ensemble import differentiable_inputs, pull, push, require_finite
from api.protocols.tesseract import arrays
from api.protocols.tesseract.arrays import DTYPE, Format
from api.protocols.tesseract.body import read, surrogate_of
from api.protocols.tesseract.document import VALIDITY, document, offers_jacobian, outputs
from api.protocols.tesseract.jacobians import jacobians
from api.routes import requests
from api.service import visit_of
from models.errors import NotOffered
from models.fields import Field
from models.surrogate import Answer, Question, Surrogate


async def health(request: Request) -> Response:
    """GET /health: the model is served."""
    surrogate_of(request)
    return requests.json_response({"status": "ok"})


async def described(request: Request) -> Response:
    """GET /openapi.json: arrays and calls of the model."""
    return requests.json_response(document(surrogate_of(request)))


async def apply(request: Request) -> Response:
    """POST /apply: means, bands and validity."""
    call = await read(request, surrogate_of(request), ("inputs",))
    requests.check_answer_size(request, call.surrogate, 1)
    answer = await visit_of(request).predict(call.surrogate, call.inputs, Question())
    return call.reply({name: arrays.encode(values, call.form) for name, values in _values(call.surrogate, answer)})


def _values(surrogate: Surrogate, answer: Answer) -> Iterable[tuple[str, np.ndarray]]:
    """Every output array; no band is claimed for an input out of domain."""
    verdict = answer.validity[0]
    for item in surrogate.manifest.outputs:
        yield item.name, require_finite(item.name, answer.predictions[item.name].mean[0])
        band = answer.bands[item.name]
        if band is not None:
            for side, values in (("lower", band.lower[0]), ("upper", band.upper[0])):
                name = f"{item.name}_{side}"
                yield name, require_finite(name, values) if verdict.in_domain else np.full(item.shape, np.nan)
    yield VALIDITY, np.array(verdict.p_value)


async def abstract_eval(request: Request) -> Response:
    """POST /abstract_eval: shapes and types of the outputs for those of the inputs."""
    call = await read(request, surrogate_of(request), ("inputs",))
    for item, value in call.take("inputs", call.surrogate.manifest.inputs):
        if item.shape or type(value) not in (int, float):
            arrays.check_abstract(item, f"inputs.{item.name}", value)
    found = outputs(call.surrogate)
    return call.reply({name: {"shape": list(shape), "dtype": DTYPE} for name, (shape, _) in found.items()})


async def jacobian_vector_product(request: Request) -> Response:
    """POST /jacobian_vector_product: J t of some outputs along some inputs."""
    surrogate = surrogate_of(request)
    surrogate.require("jvp")
    call = await read(request, surrogate, ("inputs", "jvp_inputs", "jvp_outputs", "tangent_vector"))
    along = call.fields("jvp_inputs", differentiable_inputs(surrogate))
    of = call.fields("jvp_outputs", surrogate.manifest.outputs)
    inputs, tangents = call.inputs, call.arrays("tangent_vector", along)
    pushed = await visit_of(request).call(lambda: push(surrogate, inputs, tangents))
    return call.reply({item.name: _derivative(item, pushed[item.name], call.form) for item in of})


async def vector_jacobian_product(request: Request) -> Response:
    """POST /vector_jacobian_product: Jᵀ w of some outputs in some inputs."""
    surrogate = surrogate_of(request)
    surrogate.require("vjp")
    call = await read(request, surrogate, ("inputs", "vjp_inputs", "vjp_outputs", "cotangent_vector"))
    along = call.fields("vjp_inputs", differentiable_inputs(surrogate))
    of = call.fields("vjp_outputs", surrogate.manifest.outputs)
    inputs, weights = call.inputs, call.arrays("cotangent_vector", of)
    pulled = await visit_of(request).call(lambda: pull(surrogate, inputs, weights))
    return call.reply({item.name: _derivative(item, pulled[item.name], call.form) for item in along})


def _derivative(item: Field, values: np.ndarray, form: Format) -> dict[str, Any]:
    return arrays.encode(require_finite(f"the derivative of {item.name}", values[0]), form)


async def jacobian(request: Request) -> Response:
    """POST /jacobian: ∂output/∂input for every pair asked for, of shape (*output, *input)."""
    surrogate = surrogate_of(request)
    if not offers_jacobian(surrogate):
        raise NotOffered(f"jacobian of {surrogate.manifest.name}", f"derivatives among {surrogate.derivatives_offered}")
    call = await read(request, surrogate, ("inputs", "jac_inputs", "jac_outputs"))
    along = call.fields("jac_inputs", differentiable_inputs(surrogate))
    of = call.fields("jac_outputs", surrogate.manifest.outputs)
    inputs = call.inputs
    found = await visit_of(request).call(lambda: jacobians(surrogate, inputs, along, of))
    return call.reply(
        {
            output.name: {item.name: arrays.encode(found[output.name, item.name], call.form) for item in along}
            for output in of
        }
    )
