"""The OpenAPI document: FastAPI's own plus what only the loaded manifests know (fields, units, ranges, examples)."""

from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import schemas
from api.encodings import frames, json, netcdf, npy, pictures
from api.errors import MEDIA_TYPE as PROBLEM
from api.routes.catalogue import body as example_inputs
from api.routes.forecast import LINES
from models.fields import LEAD_TIME
from models.surrogate import Surrogate

REFERENCE = "#/components/schemas/"
BODY_ERRORS = ("400", "404", "406", "413", "415", "422", "500")


def install(app: FastAPI) -> None:
    """Replace app.openapi; the document is built anew when other bundles are served."""
    generation = 0

    def build() -> dict[str, Any]:
        nonlocal generation
        repository = app.state.service.repository
        if app.openapi_schema is None or generation != repository.generation:
            generation = repository.generation
            app.openapi_schema = _document(app, repository.surrogates)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _document(app: FastAPI, surrogates: tuple[Surrogate, ...]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, routes=app.routes, summary="Answers with error bounds."
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in (
        schemas.PredictResponse, schemas.ForecastResponse, schemas.ExplainResponse, schemas.DerivativeResponse,
        schemas.Problem,
    ):  # fmt: skip
        schema = kind.model_json_schema(ref_template=REFERENCE + "{model}")
        components.update(schema.pop("$defs", {}))
        components[kind.__name__] = schema
    for surrogate in surrogates:
        components[f"{surrogate.manifest.name}_inputs"] = schemas.inputs_schema(surrogate.manifest.inputs)
        if surrogate.lead_times is not None:
            fields = tuple(item for item in surrogate.manifest.inputs if item.name != surrogate.lead_times.input)
            components[f"{surrogate.manifest.name}_forecast_inputs"] = schemas.inputs_schema(fields)
    names = [surrogate.manifest.name for surrogate in surrogates]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation, names, surrogates)
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    return document


def _complete(
    path: str, method: str, operation: dict[str, Any], names: list[str], surrogates: tuple[Surrogate, ...]
) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "name":
            parameter["schema"] = {"type": "string", "examples": names}
        if parameter["name"] == "version":
            parameter["schema"] = {"type": "string", "examples": ["1"]}
    responses = operation["responses"]
    responses.pop("422", None)
    call = path.rsplit("/", 1)[-1]
    if method == "post":
        operation["requestBody"] = _body(call, surrogates)
        responses["200"] = _answer(call)
    elif path == "/metrics":
        responses["200"] = {"description": "Prometheus text", "content": {"text/plain": {}}}
    elif "card" in path:
        kinds = ("image/png",) if "picture" in path else ("text/markdown", "text/html")
        responses["200"] = {"description": "Card", "content": {kind: {} for kind in kinds}}
    errors = BODY_ERRORS if method == "post" else ("404", "406", "422") if "{" in path else ()
    for status in errors:
        content = {PROBLEM: {"schema": {"$ref": REFERENCE + "Problem"}}}
        responses[status] = {"description": "Problem", "content": content}
    if path == "/readyz":
        responses["503"] = {"description": "Not ready", "content": {json.MEDIA_TYPE: {}}}


def _options(call: str) -> dict[str, Any]:
    kinds: dict[str, type[schemas.Wire]] = {
        "predict": schemas.PredictOptions, "forecast": schemas.ForecastOptions, "explain": schemas.ExplainOptions,
    }  # fmt: skip
    kind = kinds.get(call, schemas.DerivativeOptions)
    schema = kind.model_json_schema(ref_template=REFERENCE + "{model}")
    schema.pop("title")
    schema.pop("$defs", None)  # among the components already: answers name what was asked
    return schema


def _body(call: str, surrogates: tuple[Surrogate, ...]) -> dict[str, Any]:
    schema = _options(call)
    extra = {"jvp": "tangent", "vjp": "cotangent"}.get(call)
    suffix = "forecast_inputs" if call == "forecast" else "inputs"
    surrogates = tuple(s for s in surrogates if _offers(call, s))
    one_of = [{"$ref": f"{REFERENCE}{s.manifest.name}_{suffix}"} for s in surrogates]
    schema["properties"] = {"inputs": {"anyOf": one_of or [{"type": "object"}]}} | schema["properties"]
    schema["required"] = ["inputs", *schema.get("required", [])]
    if extra is not None:
        schema["properties"][extra] = {"type": "object", "description": "Arrays by field name, as in inputs."}
        schema["required"].append(extra)
    content: dict[str, Any] = {
        json.MEDIA_TYPE: {
            "schema": schema,
            "examples": {s.manifest.name: {"value": _example(call, s)} for s in surrogates},
        }
    }
    if call == "predict":
        content[npy.MEDIA_TYPE] = {"schema": {"type": "string", "format": "binary"}}
    return {"required": True, "content": content}


def _example(call: str, surrogate: Surrogate) -> dict[str, Any]:
    """A body that works when posted as it is."""
    inputs = example_inputs(surrogate, 0, "base64", call)
    output = surrogate.manifest.outputs[0]
    first = next(item for item in surrogate.manifest.inputs if item.shape)
    middle = {axis.name: (axis.start + axis.stop) / 2 for axis in output.axes if axis.name != LEAD_TIME}
    rest: dict[str, dict[str, Any]] = {
        "predict": {"level": 0.9, "encoding": "base64"},
        "forecast": {"steps": 2, "quantiles": [0.1, 0.9], "encoding": "base64"},
        "explain": {
            "quantity": {"type": "point", **middle},
            "method": "occlusion",
            "regions": 2,
            "encoding": "base64",
        },
        "jvp": {"tangent": {first.name: inputs[first.name]}, "encoding": "base64"},
        "vjp": {"cotangent": {output.name: schemas.compact(np.ones(output.shape))}, "encoding": "base64"},
    }
    return {"inputs": inputs, **rest[call]}


def _offers(call: str, surrogate: Surrogate) -> bool:
    """Whether a model answers this call."""
    if call == "forecast":
        return surrogate.lead_times is not None
    return call not in ("jvp", "vjp") or call in surrogate.derivatives_offered


def _answer(call: str) -> dict[str, Any]:
    kinds = {"predict": "PredictResponse", "forecast": "ForecastResponse", "explain": "ExplainResponse"}
    kind = kinds.get(call, "DerivativeResponse")
    content: dict[str, Any] = {json.MEDIA_TYPE: {"schema": {"$ref": REFERENCE + kind}}}
    if call == "explain":
        content |= {pictures.MEDIA_TYPE: {}}
    if call == "predict":
        content |= {npy.MEDIA_TYPE: {}, pictures.MEDIA_TYPE: {}, netcdf.MEDIA_TYPE: {}}
    if call == "forecast":
        content |= {LINES: {}, frames.MEDIA_TYPE: {}, pictures.MEDIA_TYPE: {}, netcdf.MEDIA_TYPE: {}}
    return {"description": "Answer", "content": content}
