"""The calls of UM-Bridge."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from api.protocols.ensemble import pull, push, require_finite
from api.protocols.umbridge.checks import Call, configured, named, read_call, size
from api.protocols.umbridge.directory import HALF_WIDTH, find, names
from api.routes import requests
from api.service import service_of, visit_of
from models.errors import InvalidInput, NotOffered, WrongType
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Question

PROTOCOL = 1.0


def _vector(item: Field, values: np.ndarray) -> np.ndarray:
    """What goes out: the only sample, flat."""
    return np.ascontiguousarray(require_finite(item.name, values), dtype=np.float32).reshape(-1)


async def info(request: Request) -> Response:
    """GET /Info: protocol version and models."""
    repository, viewed = service_of(request).repository, request.path_params.get("model")
    listed = names(repository) if viewed is None else [find(repository, viewed).name]
    return requests.json_response({"protocolVersion": PROTOCOL, "models": listed})


async def model_info(request: Request) -> Response:
    """POST /ModelInfo: what a model supports."""
    model, _ = await named(request)
    return requests.json_response({"support": model.support})


async def input_sizes(request: Request) -> Response:
    """POST /InputSizes: the length of every input vector."""
    model, document = await named(request)
    model, _ = configured(request, model, document)
    return requests.json_response({"inputSizes": [size(item) for item in model.inputs]})


async def output_sizes(request: Request) -> Response:
    """POST /OutputSizes: the length of every output vector."""
    model, document = await named(request)
    model, _ = configured(request, model, document)
    return requests.json_response({"outputSizes": [size(item) for item in model.outputs]})


async def evaluate(request: Request) -> Response:
    """POST /Evaluate: every output vector."""
    call = await read_call(request, "Evaluate")
    requests.check_answer_size(request, call.model.surrogate, 1)
    found = await (_half_widths(request, call) if call.model.is_band else _means(request, call))
    return requests.json_response({"output": [_vector(item, found[item.name]) for item in call.model.outputs]})


async def _means(request: Request, call: Call) -> Arrays:
    question = Question(level=call.level, bounds=False, uncertainty=False)
    answer = await visit_of(request).predict(call.model.surrogate, call.inputs, question)
    return {name: prediction.mean for name, prediction in answer.predictions.items()}


async def _half_widths(request: Request, call: Call) -> Arrays:
    """(upper − lower)/2 of the simultaneous band.

    Raises InvalidInput out of the model's domain, where no band is claimed.
    """
    answer = await visit_of(request).predict(call.model.surrogate, call.inputs, Question(level=call.level))
    if not answer.validity[0].in_domain:
        reasons = "; ".join(answer.validity[0].reasons)
        remedy = f"No band is claimed there; {call.model.name.removesuffix(HALF_WIDTH)} answers without one."
        raise InvalidInput("an input in the domain of the model", f"one outside ({reasons})", remedy, "input")
    bands = {name: band for name, band in answer.bands.items() if band is not None}
    return {name: (band.upper - band.lower) / 2.0 for name, band in bands.items()}


async def gradient(request: Request) -> Response:
    """POST /Gradient: sensᵀ J of one output in one input."""
    call = await read_call(request, "Gradient")
    output, item = call.index("outWrt", call.model.outputs), _differentiable(call)
    weights = {output.name: call.vector("sens", output)}
    pulled = await visit_of(request).call(lambda: pull(call.model.surrogate, call.inputs, weights))
    return requests.json_response({"output": _vector(item, pulled[item.name])})


async def apply_jacobian(request: Request) -> Response:
    """POST /ApplyJacobian: J vec of one output in one input."""
    call = await read_call(request, "ApplyJacobian")
    output, item = call.index("outWrt", call.model.outputs), _differentiable(call)
    tangents = {item.name: call.vector("vec", item)}
    pushed = await visit_of(request).call(lambda: push(call.model.surrogate, call.inputs, tangents))
    return requests.json_response({"output": _vector(output, pushed[output.name])})


def _differentiable(call: Call) -> Field:
    item = call.index("inWrt", call.model.inputs)
    if item.role == "reference_time":
        raise WrongType("inWrt", "the index of an input with derivatives", f"{item.name}, a time of the calendar")
    return item


async def apply_hessian(request: Request) -> Response:
    """POST /ApplyHessian: no model has second derivatives.

    Raises NotOffered, or what comes before it in the order of checks.
    """
    model, _ = await named(request)
    raise NotOffered(f"ApplyHessian of {model.name}", "first derivatives")
