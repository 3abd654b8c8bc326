"""The manifest of a bundle: its facts, and the form that they must have before anything relies on them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import pydantic
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import from_json

from models.errors import BrokenBundle
from models.fields import Field, LeadTimes
from models.uncertainty import Response

FORMAT = 1
MANIFEST_FILE = "manifest.json"
SHOWN = 40  # characters of a wrong value

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Range = tuple[float, float]
ANYTHING = (-math.inf, math.inf)


@dataclass(frozen=True)
class FileFacts:
    """What one file must be."""

    bytes: NonNegativeInt
    sha256: Sha256


@dataclass(frozen=True)
class GraphFacts:
    """Graph inputs by field, graph outputs, ensemble size, and whether outputs have an axis for it."""

    inputs: dict[str, str]
    outputs: tuple[str, ...]
    members: PositiveInt
    member_axis: bool


@dataclass(frozen=True)
class BandFacts:
    """How the spread of one output field becomes a band; `arrays` is the prefix of its arrays."""

    arrays: str
    cases: PositiveInt
    smoothing: NonNegativeFloat
    floor: NonNegativeFloat
    exact_boundary: NonNegativeInt
    transform: Literal["identity", "square_root"] = "identity"
    ceiling: tuple[float, ...] = ()
    inflation: tuple[float, ...] = ()
    response: Response | None = None
    dispersion: Response | None = None
    blocks: PositiveInt | None = None


@dataclass(frozen=True)
class DomainFacts:
    """What inputs of one field are compared with: a range, or the values of a medium of few."""

    arrays: str
    mean_free: bool = False
    range: Range = ANYTHING
    values: tuple[float, ...] = ()
    share: Range = ANYTHING
    interfaces: Range = ANYTHING
    specks: NonNegativeInt = 0


@dataclass(frozen=True)
class Document:
    """Facts that serving relies on; a manifest holds others beside them."""

    format: Literal[1]
    name: Name
    version: FileName
    title: str
    domain: str
    time: str
    truth: str
    inputs: Annotated[tuple[Field, ...], pydantic.Field(min_length=1)]
    outputs: Annotated[tuple[Field, ...], pydantic.Field(min_length=1)]
    graph: GraphFacts
    files: dict[FileName, FileFacts]
    physical_model: str | None = None
    points: PositiveInt = 1
    lead_times: LeadTimes | None = None
    calibration: dict[str, BandFacts] | None = None
    domain_checks: dict[str, DomainFacts] | None = None
    baseline: dict[str, float] | None = None
    statements: tuple[dict[str, str], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphOutput:
    """Names of the graph outputs that hold one field's members and their scale."""

    members: str
    scale: str | None


@dataclass(frozen=True)
class Manifest:
    """The facts of a bundle; `document` is the whole JSON."""

    document: Mapping[str, Any]
    digest: str

    @property
    def name(self) -> str:
        """Public name of the surrogate."""
        return str(self.document["name"])

    @property
    def version(self) -> str:
        """Version, a positive integer as text."""
        return str(self.document["version"])

    @cached_property
    def inputs(self) -> tuple[Field, ...]:
        """Input fields."""
        return tuple(Field.from_document(item) for item in self.document["inputs"])

    @cached_property
    def outputs(self) -> tuple[Field, ...]:
        """Output fields."""
        return tuple(Field.from_document(item) for item in self.document["outputs"])

    @property
    def lead_times(self) -> LeadTimes | None:
        """The times a forecast can be asked for; None for a steady model."""
        found = self.document.get("lead_times")
        return None if found is None else LeadTimes(**found)

    def output(self, name: str) -> Field:
        """One output field."""
        return next(item for item in self.outputs if item.name == name)

    def output_names(self, name: str) -> GraphOutput:
        """Graph outputs of one field; those of a foreign graph have names of their own, in the order of the fields."""
        members, scale = f"{name}_members", f"{name}_scale"
        present = self.document["graph"]["outputs"]
        if members not in present:
            return GraphOutput(present[[item.name for item in self.outputs].index(name)], None)
        return GraphOutput(members, scale if scale in present else None)

    @property
    def physical_model(self) -> str | None:
        """Name of the catalogue entry behind it; several bundles may share one (grids), a foreign one has none."""
        name = self.document.get("physical_model")
        return None if name is None else str(name)

    @property
    def members(self) -> int:
        """Ensemble size; 1 when the graph has no member axis."""
        return int(self.document["graph"]["members"])


def parse(raw: bytes) -> Manifest:
    """The manifest in a file.

    Raises BrokenBundle for the first fact that is missing or of another form.
    """
    try:
        _document().validate_json(raw, strict=True)
    except ValidationError as error:
        raise _broken(error) from error
    return Manifest(from_json(raw), "sha256:" + hashlib.sha256(raw).hexdigest())


@cache
def _document() -> TypeAdapter[Document]:
    return TypeAdapter(Document)


def _broken(error: ValidationError) -> BrokenBundle:
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return BrokenBundle(MANIFEST_FILE, "a JSON object", "unreadable text")
    if fault["type"] == "missing":
        return BrokenBundle(MANIFEST_FILE, f"the fact '{place}'", "nothing")
    wanted = fault["msg"].removeprefix("Input should be ")
    return BrokenBundle(MANIFEST_FILE, f"{place or 'all of it'}: {wanted}", repr(fault["input"])[:SHOWN])
