"""POST /v1/models/{name}/predict: inputs → fields, bands, statements."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.encodings import json, npy, png
from api.errors import UnsupportedMediaType
from api.routes import requests
from api.schemas import DEFAULT_PARTS, PredictOptions, parse_options
from models.errors import WrongShape
from models.surrogate import Answer, Surrogate

router = APIRouter()
RESPONSES = (json.MEDIA_TYPE, npy.MEDIA_TYPE, png.MEDIA_TYPE)


@router.post("/models/{name}/predict")
@router.post("/models/{name}/versions/{version}/predict")
async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """Predict fields with bands and statements; JSON or NPY in; JSON, NPY or PNG out by Accept."""
    surrogate = requests.surrogate_of(request, name, version)
    wanted = requests.accepted(request, RESPONSES)
    inputs, options, batched = await _read(request, surrogate)
    answer = await requests.off_loop(request, lambda: surrogate.predict(inputs, options.level, options.band))
    if wanted == npy.MEDIA_TYPE:
        mean = answer.prediction.mean
        return Response(npy.encode(mean if batched else mean[0]), media_type=npy.MEDIA_TYPE)
    if wanted == png.MEDIA_TYPE:
        return await _picture(request, surrogate, inputs, answer)
    return requests.json_response(document(surrogate, answer, options, batched))


async def _read(request: Request, surrogate: Surrogate) -> tuple[Mapping[str, np.ndarray], PredictOptions, bool]:
    limit = requests.service(request).settings.max_batch
    if requests.media_type(request) == npy.MEDIA_TYPE:
        raw = await requests.read_body(request)
        array, batched = npy.decode(surrogate.input, raw, limit)
        return {surrogate.input.name: array}, parse_options(PredictOptions, {}), batched
    if requests.media_type(request) != json.MEDIA_TYPE:
        got = requests.media_type(request) or "no content type"
        raise UnsupportedMediaType(f"{json.MEDIA_TYPE} or {npy.MEDIA_TYPE}", got, "Set Content-Type.")
    body = await requests.read_document(request)
    inputs, batched = requests.take_arrays(body, "inputs", surrogate.manifest.inputs, limit)
    return inputs, parse_options(PredictOptions, body), batched


async def _picture(
    request: Request, surrogate: Surrogate, inputs: Mapping[str, np.ndarray], answer: Answer
) -> Response:
    values = inputs[surrogate.input.name]
    if len(values) != 1:
        raise WrongShape(surrogate.input.name, "one sample for a picture", f"a batch of {len(values)}")
    draw = await requests.off_loop(request, lambda: png.encode(surrogate.input, values[0], surrogate.output, answer))
    return Response(draw, media_type=png.MEDIA_TYPE)


def document(surrogate: Surrogate, answer: Answer, options: PredictOptions, batched: bool) -> dict[str, Any]:
    """The JSON answer; parts that were not asked for are left out."""
    parts = options.include or DEFAULT_PARTS
    name, prediction = surrogate.output.name, answer.prediction
    result = requests.head(surrogate)
    if "outputs" in parts:
        shown = requests.array_document(surrogate.output, prediction.mean, batched, options.encoding)
        result["outputs"] = {name: shown}
    if "uncertainty" in parts:
        result["uncertainty"] = {name: _uncertainty(answer, options, batched)}
    if "members" in parts:
        members = prediction.members if batched else prediction.members[0]
        result["members"] = {name: json.encode_array(members, options.encoding)}
    if "statements" in parts:
        result["statements"] = _statements(answer, batched)
    if "validity" in parts:
        verdicts = [verdict.document() for verdict in answer.validity]
        result["validity"] = verdicts if batched else verdicts[0]
    result["route"] = [{"step": s.step, "milliseconds": s.milliseconds} for s in answer.route]
    provenance = surrogate.manifest.document.get("provenance", {})
    result["provenance"] = {
        "bundle": surrogate.manifest.digest,
        "trained": provenance.get("trained"),
        "code": provenance.get("code"),
    }
    return result


def _uncertainty(answer: Answer, options: PredictOptions, batched: bool) -> dict[str, Any]:
    """Spread and band; the band of an input out of domain is withdrawn (null)."""

    def wire(values: np.ndarray, keep: np.ndarray) -> Any:
        values = values.astype(np.float32)
        if keep.all():
            return json.encode_array(values if batched else values[0], options.encoding)
        if not batched:
            return None
        return [json.encode_array(v, options.encoding) if k else None for v, k in zip(values, keep, strict=True)]

    everywhere = np.ones(len(answer.validity), dtype=bool)
    inside = np.array([verdict.in_domain for verdict in answer.validity])
    result = {
        "standard_deviation": wire(answer.prediction.spread, everywhere),
        "level": answer.level,
        "band": answer.band_kind,
    }
    if answer.band is not None:
        result["lower"] = wire(answer.band.lower, inside)
        result["upper"] = wire(answer.band.upper, inside)
    return result


def _statements(answer: Answer, batched: bool) -> list[dict[str, Any]]:
    return [
        statement.document() | ({"sample": index} if batched else {})
        for index, statements in enumerate(answer.statements)
        for statement in statements
    ]
