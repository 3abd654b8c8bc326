"""Wire types of /v1. Requests are checked against these; what only a manifest knows is added to the OpenAPI document."""

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.encodings.json import DTYPES
from models.errors import UnknownOption
from models.fields import Field as DataField
from models.surrogate import Surrogate

Part = Literal["outputs", "uncertainty", "statements", "validity", "members"]
DEFAULT_PARTS: tuple[Part, ...] = ("outputs", "uncertainty", "statements", "validity")


class Wire(BaseModel):
    """Requests: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PredictOptions(Wire):
    """Everything in a predict request except its inputs."""

    level: float = Field(default=0.9, description="Coverage level of the bands, in (0, 1).", examples=[0.9])
    band: Literal["simultaneous", "pointwise"] = "simultaneous"
    include: list[Part] = Field(default=list(DEFAULT_PARTS), description="Parts of the answer to return.")
    encoding: Literal["json", "base64"] = "json"


class ExplainOptions(Wire):
    """Everything in an explain request except its inputs."""

    quantity: dict[str, Any] = Field(
        description="type: point (x, y) | region_mean (x: [low, high], y: [low, high]) | norm | linear (weights).",
        examples=[{"type": "region_mean", "x": [0.25, 0.5], "y": [0.25, 0.5]}],
    )
    method: Literal["gradient", "integrated_gradients", "occlusion"] = "integrated_gradients"
    baseline: Any = Field(default=None, description="A number or a field; the training mean by default.")
    regions: int = Field(default=4, ge=1, le=16, description="Tiles per side of the region table.")
    level: float = Field(default=0.9, description="Level of the interval of the quantity.")
    encoding: Literal["json", "base64"] = "json"


class DerivativeOptions(Wire):
    """Everything in a jvp or vjp request except its arrays."""

    encoding: Literal["json", "base64"] = "json"


class Statement(BaseModel):
    """One claim about the error of the answer."""

    quantity: str
    norm: str
    value: float | None
    kind: Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator", "none"]
    level: float | None
    truth: str
    assumptions: list[str]
    relative: bool = False
    lower: float | None = None
    sample: int | None = Field(default=None, description="Index in the batch, when the request had one.")


class Validity(BaseModel):
    """Whether the input belongs to the training law."""

    in_domain: bool
    p_value: float
    reasons: list[str]


class Step(BaseModel):
    """One step of the request path."""

    step: str
    milliseconds: float


class PredictResponse(BaseModel):
    """Fields, bands, statements, validity, route."""

    id: str
    model: str
    version: str
    outputs: dict[str, Any] | None = None
    uncertainty: dict[str, Any] | None = None
    members: dict[str, Any] | None = None
    statements: list[Statement] | None = None
    validity: Validity | list[Validity] | None = None
    route: list[Step]
    provenance: dict[str, Any]


class ExplainResponse(BaseModel):
    """A quantity of interest, its interval, and what in the input it depends on."""

    id: str
    model: str
    version: str
    quantity: dict[str, Any]
    method: str
    baseline: str
    attribution: dict[str, Any]
    regions: list[dict[str, Any]]
    completeness: dict[str, Any] | None
    checks: dict[str, Any]
    validity: Validity
    warnings: list[str]


class DerivativeResponse(BaseModel):
    """Exact derivatives of the ensemble mean."""

    id: str
    model: str
    version: str
    outputs: dict[str, Any]
    derivative: dict[str, Any] | None = None
    gradient: dict[str, Any] | None = None


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None
    instance: str | None = None


Options = TypeVar("Options", bound=Wire)


def parse_options(kind: type[Options], document: Mapping[str, Any]) -> Options:
    """Options from a request document.

    Raises UnknownOption naming the first offending key.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        got = "nothing" if first["type"] == "missing" else repr(first.get("input"))[:60]
        expected = first["msg"]
        if first["type"] == "extra_forbidden":
            expected, got = f"options among {', '.join(kind.model_fields)} and the arrays", f"'{field}'"
        raise UnknownOption(field, expected, got) from error


def array_schema(field: DataField) -> dict[str, Any]:
    """JSON schema of one array with its unit, shape and range."""
    items: dict[str, Any] = {"type": "number"}
    if field.minimum is not None:
        items["minimum"] = field.minimum
    if field.maximum is not None:
        items["maximum"] = field.maximum
    nested = items
    for _ in field.shape:
        nested = {"type": "array", "items": nested}
    axes = ", ".join(f"{a.name}: {a.points} nodes from {a.start:g} to {a.stop:g}" for a in field.axes)
    buffer = {
        "type": "object",
        "required": ["shape", "dtype", "data"],
        "properties": {
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "dtype": {"enum": list(DTYPES)},
            "data": {
                "type": "object",
                "required": ["buffer", "encoding"],
                "properties": {"buffer": {"type": "string"}, "encoding": {"const": "base64"}},
            },
        },
    }
    return {
        "title": f"{field.name} {field.symbol} [{field.units}]",
        "description": f"{field.description} Axes {axes}. Values {field.range_text}. A leading batch axis is optional.",
        "x-units": field.units,
        "x-symbol": field.symbol,
        "x-shape": list(field.shape),
        "anyOf": [nested, {"type": "array", "items": nested}, buffer],
    }


def compact(values: np.ndarray) -> dict[str, Any]:
    """A base64 array in the smallest type that holds the values exactly."""
    for kind in ("uint8", "float32"):
        narrow = values.astype(kind)
        if np.array_equal(narrow, values):
            buffer = base64.b64encode(narrow.tobytes()).decode("ascii")
            return {"shape": list(values.shape), "dtype": kind, "data": {"buffer": buffer, "encoding": "base64"}}
    return {"shape": [], "dtype": "float32", "data": {"buffer": "", "encoding": "base64"}}


def inputs_schema(surrogate: Surrogate) -> dict[str, Any]:
    """JSON schema of the `inputs` object of one model."""
    fields = surrogate.manifest.inputs
    return {
        "type": "object",
        "required": [field.name for field in fields],
        "additionalProperties": False,
        "properties": {field.name: array_schema(field) for field in fields},
    }
