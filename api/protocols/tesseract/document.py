"""What a model looks like to Tesseract clients: its arrays, its calls, and the OpenAPI document they read."""

import math
from typing import Any

from api.protocols.ensemble import differentiable_inputs
from api.protocols.tesseract.arrays import DTYPE
from models.fields import Field
from models.surrogate import Question, Surrogate

LARGEST_JACOBIAN = 1_000_000  # numbers, all outputs times all inputs; beyond it products are the way
VALIDITY = "validity"
REFERENCE = "#/components/schemas/"


def outputs(surrogate: Surrogate) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and description of every output array, in the order of replies."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    level = f"{Question().level:.0%}"
    for item in surrogate.manifest.outputs:
        found[item.name] = item.shape, f"{_described(item)} Ensemble mean."
        if item.name in surrogate.calibrations:
            for side in ("lower", "upper"):
                text = f"{side.capitalize()} edge of the {level} prediction band of {item.name} [{item.units}]; NaN where none is claimed."
                found[f"{item.name}_{side}"] = item.shape, text
    found[VALIDITY] = (), "In-domain p-value of the input; 0 where a hard check fails."
    return found


def _described(item: Field) -> str:
    return f"{item.description} {item.symbol} [{item.units}]."


def offers_jacobian(surrogate: Surrogate) -> bool:
    """Whether whole Jacobians are small enough to be sent."""
    rows = sum(math.prod(item.shape) for item in surrogate.manifest.outputs)
    columns = sum(math.prod(item.shape) for item in differentiable_inputs(surrogate))
    return bool(surrogate.derivatives_offered) and rows * columns <= LARGEST_JACOBIAN


def _array_schema(name: str, shape: tuple[int, ...], text: str) -> dict[str, Any]:
    rank = len(shape)
    return {
        "type": "object",
        "title": name,
        "description": text,
        "array_flags": [],
        "properties": {
            "object_type": {"type": "string", "const": "array", "default": "array"},
            "shape": {
                "type": "array", "items": {"type": "integer"}, "minItems": rank, "maxItems": rank,
                "examples": [list(shape)],
            },
            "dtype": {"type": "string", "enum": [DTYPE]},
            "data": {"type": "object"},
        },
        "required": ["shape", "dtype", "data"],
    }  # fmt: skip


def _differentiable(fields: tuple[Field, ...], surrogate: Surrogate) -> dict[str, Any]:
    if not surrogate.derivatives_offered:
        return {}
    return {item.name: {"shape": list(item.shape), "dtype": DTYPE} for item in fields}


def _schemas(surrogate: Surrogate) -> dict[str, Any]:
    manifest, found = surrogate.manifest, outputs(surrogate)
    taken = {
        item.name: _array_schema(item.name, item.shape, f"{_described(item)} Values {item.range_text}.")
        for item in manifest.inputs
    }
    given = {name: _array_schema(name, shape, text) for name, (shape, text) in found.items()}
    return {
        "Apply_InputSchema": {
            "type": "object", "properties": taken, "required": list(taken), "additionalProperties": False,
        },
        "Apply_OutputSchema": {"type": "object", "properties": given, "required": list(given)},
        "ApplyInputSchema": {
            "type": "object",
            "properties": {"inputs": {"$ref": REFERENCE + "Apply_InputSchema"}},
            "required": ["inputs"],
            "additionalProperties": False,
            "differentiable_arrays": _differentiable(differentiable_inputs(surrogate), surrogate),
            "field_order": {"": list(taken)},
        },
        "ApplyOutputSchema": {
            "$ref": REFERENCE + "Apply_OutputSchema",
            "title": "ApplyOutputSchema",
            "differentiable_arrays": _differentiable(manifest.outputs, surrogate),
            "field_order": {"": list(given)},
        },
    }  # fmt: skip


def _paths(surrogate: Surrogate) -> dict[str, Any]:
    title = surrogate.manifest.document["title"]
    texts = {
        "/apply": f"{title}: outputs, their prediction bands and the validity of the input.",
        "/abstract_eval": "Shapes and types of the outputs.",
    }
    if "jvp" in surrogate.derivatives_offered:
        texts["/jacobian_vector_product"] = "J t of ensemble means."
    if "vjp" in surrogate.derivatives_offered:
        texts["/vector_jacobian_product"] = "Jᵀ w of ensemble means."
    if offers_jacobian(surrogate):
        texts["/jacobian"] = "Whole Jacobians of ensemble means."
    paths: dict[str, Any] = {path: {"post": {"description": text}} for path, text in texts.items()}
    return paths | {"/health": {"get": {"description": "Whether the model is served."}}}


def document(surrogate: Surrogate) -> dict[str, Any]:
    """The OpenAPI document of one model; its paths have no prefix, for clients read from them what is on offer."""
    facts = surrogate.manifest.document
    text = f"{facts.get('equation', '')}\n\n{facts.get('description', '')}".strip() or facts["title"]
    return {
        "openapi": "3.1.0",
        "info": {"title": surrogate.manifest.name, "version": surrogate.manifest.version, "description": text},
        "paths": _paths(surrogate),
        "components": {"schemas": _schemas(surrogate)},
        "x-supported-output-formats": ["json", "json+base64"],
        "x-supported-gpu-transports": ["none"],
        "x-supported-compressions": ["none"],
    }
