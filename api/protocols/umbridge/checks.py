"""The checks of a body, in the order that the protocol's conformance suite expects.

1 JSON · 2 name · 3 support · 4 config · 5 count and lengths of the inputs · 6 indices · 7 directions · 8 values
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request

from api.protocols.ensemble import single
from api.protocols.umbridge.directory import Model, find
from api.routes import requests
from api.service import service_of, visit_of
from models.errors import MissingField, UnknownModel, UnknownOption, WrongShape, WrongType
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Question

ENTRANCE = "/umbridge"  # the gate of those whose body names the model; no model has a slash in its name


@dataclass(frozen=True)
class Call:
    """A request whose name, feature, configuration and input are right."""

    model: Model
    level: float
    inputs: Arrays
    document: dict[str, Any]

    def index(self, key: str, fields: tuple[Field, ...]) -> Field:
        """The field that an index names.

        Raises MissingField, WrongType.
        """
        value = _required(self.document, key)
        if type(value) is not int or not 0 <= value < len(fields):
            raise WrongType(key, f"an index from 0 to {len(fields) - 1}", repr(value)[:40])
        return fields[value]

    def vector(self, key: str, item: Field) -> np.ndarray:
        """A direction of one sample in the shape of a field.

        Raises MissingField, WrongType, WrongShape, NotFinite, OutOfRange.
        """
        return single(key, _numbers(key, _required(self.document, key), item))


async def named(request: Request) -> tuple[Model, dict[str, Any]]:
    """Checks 1 and 2: the body is an object, or empty; it, or the path, names a model.

    Raises MalformedBody, UnknownModel, and what the admission of bodies raises.
    """
    visit, repository = visit_of(request), service_of(request).repository
    viewed = request.path_params.get("model")
    visit.enter(ENTRANCE if viewed is None else find(repository, viewed).surrogate.manifest.name)
    raw = await requests.read_body(request)
    document = requests.parse_document(raw) if raw.strip() else {}
    name = document.get("name", viewed)
    if viewed is not None and name != viewed:
        raise UnknownModel(str(name)[:40], [viewed])
    return find(repository, name), document


def configured(request: Request, model: Model, document: dict[str, Any]) -> tuple[Model, float]:
    """Check 4: the model in the version asked for, and the level of its band.

    Raises WrongType, UnknownOption, UnknownVersion, UnsupportedLevel.
    """
    config = document.get("config", {})
    if not isinstance(config, dict):
        raise WrongType("config", "an object", type(config).__name__)
    for key in config:
        if key not in ("level", "version"):
            raise UnknownOption(f"config.{key}", "level and version only", f"'{key}'")
    if "version" in config:
        model = find(service_of(request).repository, model.name, str(config["version"]))
    if "level" not in config:
        return model, Question().level
    level = config["level"]
    if type(level) not in (int, float) or not 0.0 < level < 1.0:
        raise UnknownOption("config.level", "a number in (0, 1)", repr(level)[:40])
    model.surrogate.check_question(Question(level=level))
    return model, float(level)


async def read_call(request: Request, feature: str) -> Call:
    """Checks 1 to 5.

    Raises InvalidInput in one of its forms, UnknownModel, UnknownVersion, NotOffered, Overloaded.
    """
    model, document = await named(request)
    model.require(feature)
    model, level = configured(request, model, document)
    model.require(feature)
    if "model" not in request.path_params:
        visit_of(request).move(model.surrogate.manifest.name)
    return Call(model, level, _inputs(model, _required(document, "input")), document)


def _required(document: dict[str, Any], key: str) -> Any:
    if key not in document:
        raise MissingField(key)
    return document[key]


def _inputs(model: Model, given: Any) -> Arrays:
    if not isinstance(given, list) or not all(isinstance(vector, list) for vector in given):
        raise WrongType("input", "a list of vectors", "something else")
    if len(given) != len(model.inputs):
        listed = ", ".join(item.name for item in model.inputs)
        raise WrongShape("input", f"{len(model.inputs)} vectors ({listed})", f"{len(given)}")
    for index, (vector, item) in enumerate(zip(given, model.inputs, strict=True)):
        _check_length(f"input[{index}]", vector, item)
    pairs = enumerate(zip(given, model.inputs, strict=True))
    return {item.name: _numbers(f"input[{index}]", vector, item) for index, (vector, item) in pairs}


def _check_length(name: str, vector: list[Any], item: Field) -> None:
    expected = size(item)
    if len(vector) != expected:
        raise WrongShape(name, f"{expected} numbers ({item.name}, row-major)", f"{len(vector)}")


def _numbers(name: str, vector: Any, item: Field) -> np.ndarray:
    """A batch of one in the shape of a field."""
    if not isinstance(vector, list):
        raise WrongType(name, "a list of numbers", type(vector).__name__)
    _check_length(name, vector, item)
    odd = set(map(type, vector)) - {int, float}
    if odd:
        raise WrongType(name, "numbers", ", ".join(sorted(kind.__name__ for kind in odd)))
    return np.array(vector, dtype=np.float64).reshape(1, *item.shape)


def size(item: Field) -> int:
    """Numbers in a vector."""
    return int(np.prod(item.shape, dtype=int))
