"""Wire types of /v1. Requests are checked against these; what only a manifest knows is added to the OpenAPI document."""

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.encodings.json import DTYPES
from models.contract import ACCEPTED, Acceptable, OnMiss, Tolerance, Wish, require_possible
from models.errors import TooLarge, UnknownOption
from models.explanation import Request as Explained
from models.fields import Field as DataField
from models.surrogate import Question, Surrogate

Part = Literal["outputs", "uncertainty", "statements", "validity", "members"]
MOST_THRESHOLDS = 20
DEFAULT_PARTS: tuple[Part, ...] = ("outputs", "uncertainty", "statements", "validity")


class Wire(BaseModel):
    """Requests: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ToleranceOption(Wire):
    """The largest error that will do."""

    quantity: str = Field(description="An output field.", examples=["pressure"])
    norm: str = Field(description="One in which the model makes statements; sup: the largest error at a node.")
    value: float = Field(gt=0, allow_inf_nan=False, description="In the norm's own unit.", examples=[0.003])
    relative: bool = Field(default=False, description="Relative to the norm of the truth.")


class AnswerOptions(Wire):
    """What to answer, and how."""

    level: float = Field(default=0.9, description="Coverage level of the bands, in (0, 1).", examples=[0.9])
    band: Literal["simultaneous", "pointwise"] = "simultaneous"
    quantiles: list[float] = Field(default=[], max_length=99, description="Probabilities in (0, 1).")
    thresholds: dict[str, list[float]] = Field(
        default={}, description="By output field: thresholds whose probability of being exceeded is wanted."
    )
    include: list[Part] = Field(default=list(DEFAULT_PARTS), description="Parts of the answer to return.")
    encoding: Literal["json", "base64"] = "json"
    tolerance: ToleranceOption | None = None
    on_miss: OnMiss = Field(
        default="flag", description="How far to go when the answer misses the tolerance; all but flag may end in a 422."
    )
    accept: list[Acceptable] = Field(
        default=list(ACCEPTED), description="Kinds of statement that may meet the tolerance."
    )

    def wish(self, surrogate: Surrogate, question: Question) -> Wish | None:
        """The tolerance contract, where one is asked for.

        Raises UnknownOption, naming the field, for one that no input could let be met.
        """
        if self.tolerance is None:
            alone = self.model_fields_set.intersection(("on_miss", "accept"))
            if alone:
                raise UnknownOption(sorted(alone)[0], "a tolerance beside it", "none")
            return None
        wish = Wish(Tolerance(**self.tolerance.model_dump()), self.on_miss, tuple(self.accept))
        require_possible(surrogate, wish, question)
        return wish

    def question(self, surrogate: Surrogate) -> Question:
        """The question to a surrogate.

        Raises UnknownOption when a threshold is for a field the model does not have, TooLarge for too many.
        """
        known = [item.name for item in surrogate.manifest.outputs]
        for name, values in self.thresholds.items():
            if name not in known:
                raise UnknownOption(f"thresholds.{name}", f"output fields among {', '.join(known)}", f"'{name}'")
            if len(values) > MOST_THRESHOLDS:
                raise TooLarge(f"thresholds.{name}", f"at most {MOST_THRESHOLDS}", str(len(values)))
        thresholds = {name: tuple(values) for name, values in self.thresholds.items()}
        parts = self.include or DEFAULT_PARTS
        judged = self.tolerance is not None
        uncertainty = judged or bool({"uncertainty", "statements", "validity"}.intersection(parts))
        bounds = judged or "statements" in parts
        return Question(self.level, self.band, tuple(self.quantiles), thresholds, bounds, uncertainty)


class PredictOptions(AnswerOptions):
    """Everything in a predict request except its inputs."""


class ForecastOptions(AnswerOptions):
    """Everything in a forecast request except its inputs."""

    lead_times: list[float] | None = Field(default=None, description="Increasing lead times, in the model's unit.")
    steps: int | None = Field(default=None, description="Instead of lead_times: how many of the usual ones.")
    stream: bool = Field(default=False, description="NDJSON: a header, a line per frame as computed, a summary.")


class ExplainOptions(Wire):
    """Everything in an explain request except its inputs."""

    quantity: dict[str, Any] = Field(
        description="type: point (a coordinate per axis) | region_mean | norm | max (sharpness) | exceedance (threshold, "
        "sharpness) | linear (weights). Regions: [low, high] or labels per axis, mask, polygon ({axis: [coordinates]}), "
        "all of the field by default. lead_time: a number or a window [first, last]. field: an output, the first by "
        "default.",
        examples=[{"type": "region_mean", "x": [0.25, 0.5], "y": [0.25, 0.5]}],
    )
    method: Literal["gradient", "integrated_gradients", "occlusion", "shapley", "what_if"] = "integrated_gradients"
    wrt: list[str] | None = Field(default=None, description="Input fields to attribute to; all by default.")
    baseline: Any = Field(
        default=None,
        description="model (default), mean, control, expected; or, by field, one of the first three, a number or a field.",
    )
    baselines: int = Field(default=8, ge=2, le=16, description="How many are drawn for the baseline “expected”.")
    regions: Any = Field(
        default=None,
        description="Tiles per axis (1 to 16; 4 by default), or a list of {name, field, [low, high] per axis, mask, polygon}.",
    )
    change: Any = Field(default=None, description="For what_if: by field, a number or a field added to the input.")
    smoothing: float | None = Field(
        default=None, gt=0, le=0.5, description="Also return maps under (I − ℓ²Δ)⁻¹, ℓ this share of every axis."
    )
    level: float = Field(default=0.9, description="Level of the interval of the quantity.")
    encoding: Literal["json", "base64"] = "json"

    def request(self) -> Explained:
        """As the models take it."""
        return Explained(**self.model_dump(exclude={"encoding"}))


class DerivativeOptions(Wire):
    """Everything in a jvp or vjp request except its arrays."""

    encoding: Literal["json", "base64"] = "json"


class Statement(BaseModel):
    """One claim about the error of the answer; `reading` is the same in a sentence."""

    reading: str
    quantity: str
    norm: str
    value: float | None
    kind: Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator", "none"]
    level: float | None
    truth: str
    assumptions: list[str]
    relative: bool = False
    lower: float | None = None
    lead_time: float | None = Field(default=None, description="Forecast time it speaks about; null: the whole answer.")
    scope: str | None = Field(
        default=None, description="Where a band holds at once; of an interval, what it is around."
    )
    sample: int | None = Field(default=None, description="Index in the batch, when the request had one.")


class Validity(BaseModel):
    """Whether the input belongs to the training law."""

    in_domain: bool
    p_value: float
    reasons: list[str]


class Step(BaseModel):
    """One step of the request path; together they are the time that the request took."""

    step: str = Field(description="Those of the tolerance contract: accept, correct, solve, refine.")
    milliseconds: float
    sample: int | None = Field(default=None, description="Index in the batch, for steps of the contract.")
    iterations: int | None = None
    kind: str | None = Field(default=None, description="Of the statement that decides after the step.")
    value_before: float | None = None
    value_after: float | None = None


class Contract(BaseModel):
    """What became of the tolerance."""

    met: bool
    outcome: Literal["accepted", "flagged", "corrected", "solved", "refused"]
    on_miss: OnMiss
    accept: list[str]
    kind: str | None = Field(description="Of the statement that decides; null where none is acceptable.")
    statement: Statement | None
    tolerance: ToleranceOption
    avoided_milliseconds: float | None = Field(description="Measured time of solving less the time spent.")
    sample: int | None = None
    sufficient: dict[str, Any] | None = Field(
        default=None,
        description="After a refusal: a tolerance, kinds or milliseconds that would have done, and an on_miss that may.",
    )


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
    contract: Contract | list[Contract] | None = None
    route: list[Step]
    provenance: dict[str, Any]


class ForecastResponse(PredictResponse):
    """Frames stacked over lead times; valid times where the inputs carry a reference time."""

    lead_times: dict[str, Any]
    valid_times: list[Any] | None = None


class RegionValue(BaseModel):
    """One region's part in the quantity; deviations over the members and over drawn baselines."""

    field: str
    id: str
    value: float
    share: float | None
    standard_deviation: float | None
    baseline_deviation: float | None


class Completeness(BaseModel):
    """How closely attributions add up to J(x) − J(baseline)."""

    relative: float | None
    absolute: float
    rule: str
    nodes: int | None
    holds: bool


class LinearResponse(BaseModel):
    """Response to a given change: first-order and true."""

    linear: float
    true: float
    relative_gap: float | None
    standard_deviation: float | None


class ExplainResponse(BaseModel):
    """A quantity of interest, its interval, and what in the input it depends on."""

    id: str
    model: str
    version: str
    quantity: dict[str, Any]
    method: str
    baseline: str | None
    attribution: dict[str, Any]
    regions: list[RegionValue]
    completeness: Completeness | None
    response: LinearResponse | None
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
    contract: Contract | None = Field(default=None, description="With code tolerance-not-met, as those that follow.")
    statements: list[Statement] | None = None
    route: list[Step] | None = None


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


def _facts(field: DataField, description: str) -> dict[str, Any]:
    return {
        "title": f"{field.name} {field.symbol} [{field.units}]",
        "description": description,
        "x-units": field.units,
        "x-symbol": field.symbol,
        "x-shape": list(field.shape),
    }


def input_schema(field: DataField) -> dict[str, Any]:
    """JSON schema of one input: an array, a number, or a time; or a batch of them."""
    if field.role == "reference_time":
        one: dict[str, Any] = {"type": "string", "format": "date-time"}
        text = f"{field.description} RFC 3339 with its offset."
    elif not field.shape:
        one = {"type": "number"} | _limits(field)
        text = f"{field.description} Value {field.range_text}."
    else:
        return array_schema(field)
    return _facts(field, text) | {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _limits(field: DataField) -> dict[str, Any]:
    found = {"minimum": field.minimum, "maximum": field.maximum}
    return {key: value for key, value in found.items() if value is not None}


def array_schema(field: DataField) -> dict[str, Any]:
    """JSON schema of one array with its unit, shape and range."""
    nested: dict[str, Any] = {"type": "number"} | _limits(field)
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
    text = f"{field.description} Axes {axes}. Values {field.range_text}. A leading batch axis is optional."
    return _facts(field, text) | {
        "anyOf": [nested, {"type": "array", "items": nested}, buffer],
    }


def compact(values: np.ndarray) -> dict[str, Any]:
    """A base64 array in the smallest type that holds the values exactly, float64 otherwise."""
    kind = next((k for k in ("uint8", "float32") if np.array_equal(values.astype(k), values)), "float64")
    buffer = base64.b64encode(values.astype(kind).tobytes()).decode("ascii")
    return {"shape": list(values.shape), "dtype": kind, "data": {"buffer": buffer, "encoding": "base64"}}


def inputs_schema(fields: tuple[DataField, ...]) -> dict[str, Any]:
    """JSON schema of an `inputs` object."""
    return {
        "type": "object",
        "required": [field.name for field in fields],
        "additionalProperties": False,
        "properties": {field.name: input_schema(field) for field in fields},
    }
