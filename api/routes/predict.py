"""POST /v1/models/{name}/predict: inputs → fields, bands, statements."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.encodings import json, netcdf, npy, pictures
from api.errors import UnsupportedMediaType
from api.routes import answers, requests
from api.schemas import PredictOptions, parse_options
from api.service import service_of, visit_of
from api.telemetry import MODELS
from models.contract import settle
from models.errors import WrongShape
from models.surrogate import Answer, Clock, Surrogate

router = APIRouter()
RESPONSES = (json.MEDIA_TYPE, npy.MEDIA_TYPE, pictures.MEDIA_TYPE, netcdf.MEDIA_TYPE, netcdf.ALSO_ACCEPTED)


@router.post("/models/{name}/predict")
@router.post("/models/{name}/versions/{version}/predict")
async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """Predict fields with bands and statements; JSON or NPY in; JSON, NPY, PNG or NetCDF out by Accept."""
    surrogate = requests.surrogate_of(request, name, version)
    wanted = requests.accepted(request, RESPONSES)
    if wanted == npy.MEDIA_TYPE:
        require_single_fields(surrogate, "Accept")
    visit = requests.admit(request, surrogate)
    clock = Clock(visit.started)
    inputs, options, batched = await _read(request, surrogate)
    requests.check_answer_size(request, surrogate, len(next(iter(inputs.values()))))
    question = options.question(surrogate)
    wish = options.wish(surrogate, question)
    requests.require_verdict_fits(wish, wanted)
    clock.mark("decode")
    if wanted == npy.MEDIA_TYPE:
        question = replace(question, bounds=False, uncertainty=False)
    elif wanted != json.MEDIA_TYPE:  # `include` chooses parts of JSON; files and pictures have them all
        question = replace(question, bounds=True, uncertainty=True)
    answer, kept = await visit.predict(surrogate, inputs, question, clock), answers.ANY
    if wish is not None:
        work = partial(settle, surrogate, inputs, answer, wish, visit.service.costs, clock)
        answer, verdicts = await visit.off_loop(partial(MODELS.settled, surrogate.manifest.name, work, visit.facts))
        visit.conclude(clock.route)
        kept = answers.Kept(wish, verdicts)
    if wanted == npy.MEDIA_TYPE:
        mean = next(iter(answer.predictions.values())).mean
        return Response(npy.encode(mean if batched else mean[0]), media_type=npy.MEDIA_TYPE)
    if wanted == pictures.MEDIA_TYPE:
        require_one_sample(inputs)
        picture = await visit.off_loop(partial(pictures.encode_answer, surrogate, inputs, answer))
        return Response(picture, media_type=pictures.MEDIA_TYPE)
    if wanted != json.MEDIA_TYPE:
        return await _file(request, surrogate, inputs, answer, "members" in options.include)
    writer = answers.Writer(options, batched, answer.validity, kept)
    axes = {item.name: item.axes for item in surrogate.manifest.outputs}
    return requests.timed_response(answers.document(surrogate, answer, axes, writer), clock)


async def _read(request: Request, surrogate: Surrogate) -> tuple[dict[str, np.ndarray], PredictOptions, bool]:
    limit = service_of(request).settings.max_batch
    if requests.media_type(request) == npy.MEDIA_TYPE:
        require_single_fields(surrogate, "Content-Type")
        raw = await requests.read_body(request)
        (field,) = surrogate.manifest.inputs
        array, batched = npy.decode(field, raw, limit)
        return {field.name: array}, parse_options(PredictOptions, {}), batched
    if requests.media_type(request) != json.MEDIA_TYPE:
        got = requests.media_type(request) or "no content type"
        raise UnsupportedMediaType(f"{json.MEDIA_TYPE} or {npy.MEDIA_TYPE}", got, "Set Content-Type.")
    body = await requests.read_document(request)
    inputs, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    return inputs, parse_options(PredictOptions, body), batched


def require_single_fields(surrogate: Surrogate, header: str) -> None:
    """Raises UnsupportedMediaType unless the model has one input field and one output field, as an NPY file has."""
    manifest = surrogate.manifest
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        got = f"{npy.MEDIA_TYPE}, which holds one field"
        names = ", ".join(item.name for item in (*manifest.inputs, *manifest.outputs))
        raise UnsupportedMediaType(f"a format for {names}", got, "Use JSON or NetCDF.", header)


def require_one_sample(inputs: Mapping[str, np.ndarray]) -> None:
    """Raises WrongShape for a batch: a picture shows one sample."""
    name, values = next(iter(inputs.items()))
    if len(values) != 1:
        raise WrongShape(name, "one sample for a picture", f"a batch of {len(values)}")


async def _file(
    request: Request, surrogate: Surrogate, inputs: dict[str, np.ndarray], answer: Answer, members: bool
) -> Response:
    identity = requests.head(surrogate)["id"]
    work = partial(netcdf.encode_answer, surrogate, inputs, answer, identity, members)
    content = await visit_of(request).in_file_thread(work)
    return Response(content, media_type=netcdf.MEDIA_TYPE)
