"""An inference request read: JSON, then the blobs of those inputs that are sent as bytes, in their order.

    {"id"?, "parameters"?, "inputs": [{"name", "shape", "datatype", "data" | "parameters": {"binary_data_size"}}],
     "outputs"?: [{"name", "parameters"?: {"binary_data"}}]}

`Inference-Header-Content-Length` is the length of the JSON; absent: all is JSON; 0: all is the one input's data.
Sizes are compared with the declared shape before any array is made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson

from api.encodings.json import holds_truth_values
from api.errors import MalformedBody
from api.protocols.open_inference.tensors import NUMBERS, Contract, Tensor, input_type
from api.settings import BATCH_SETTING
from models.errors import (
    InvalidInput,
    MalformedArray,
    TooLarge,
    UnknownField,
    UnknownOption,
    WrongShape,
    WrongType,
)
from models.fields import Field
from models.surrogate import Band, Question

HEADER = "inference-header-content-length"
IGNORED = ("priority", "headers")
NO_OUTPUT: dict[str, Any] = {}


@dataclass(frozen=True)
class Asked:
    """A checked request: inputs with their batch axis, wanted tensors each with whether it is wanted as bytes."""

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[tuple[Tensor, bool], ...]
    question: Question
    seconds: float | None

    @property
    def count(self) -> int:
        """Samples in the batch."""
        return len(next(iter(self.inputs.values())))

    @property
    def size(self) -> int:
        """Numbers in the reply."""
        return self.count * sum(math.prod(tensor.shape) for tensor, _ in self.outputs)


def read(body: bytes, header: str | None, contract: Contract, max_batch: int) -> Asked:
    """The request in `body`, whose JSON has the length in `header`.

    Raises MalformedBody, InvalidInput in one of its forms.
    """
    length = _header_length(header, len(body))
    if length == 0 and header is not None:
        return _read_raw(body, contract)
    document = _document(memoryview(body)[:length])
    parameters = _object(document, "parameters", "parameters")
    binary, level, band, seconds = _parameters(parameters)
    inputs = _inputs(document.get("inputs"), body, length, contract, max_batch)
    outputs = _outputs(document.get("outputs"), contract, binary)
    name = document.get("id")
    if name is not None and not isinstance(name, str):
        raise WrongType("id", "a string", _shown(name))
    return Asked(name, inputs, outputs, question_for(contract, outputs, level, band), seconds)


def question_for(contract: Contract, outputs: tuple[tuple[Tensor, bool], ...], level: float, band: Band) -> Question:
    """No more than the wanted tensors need; a verdict, and the bands that hang on it, is the same whoever asks."""
    parts = {tensor.part for tensor, _ in outputs}
    judged = not parts.isdisjoint(("validity", "in_domain", "lower", "upper"))
    bounds = "bound" in parts or (judged and contract.task)
    return Question(level, band, bounds=bounds, uncertainty=judged)


def _header_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit()) or len(header) > 18:
        raise InvalidInput("a decimal number of bytes", _shown(header), "Send the length of the JSON part.", HEADER)
    if int(header) > size:
        got = f"{header} of a body of {size} bytes"
        raise InvalidInput("at most the length of the body", got, "Send the length of the JSON part.", HEADER)
    return int(header)


def _document(text: memoryview) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        remedy = f"NaN and Infinity are not JSON; {HEADER} is the length of the JSON part where bytes follow it."
        raise MalformedBody("a JSON object", f"unreadable text ({error})", remedy, "body") from error
    if not isinstance(document, dict):
        raise MalformedBody("a JSON object", type(document).__name__, "Wrap it: {…}.", "body")
    return document


def _object(holder: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    found = holder.get(key)
    if found is None:
        return NO_OUTPUT
    if not isinstance(found, dict):
        raise WrongType(name, "an object", _shown(found))
    return found


def _list(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise WrongType(name, "a list of objects", _shown(value))
    return value


def _parameters(given: Mapping[str, Any]) -> tuple[bool, float, Band, float | None]:
    """(all outputs as bytes, level, band, seconds)."""
    binary, level, band, seconds = False, 0.9, "simultaneous", None
    for key, value in given.items():
        if key == "binary_data_output":
            binary = _flag(value, key)
        elif key == "level":
            level = _level(value)
        elif key == "band":
            if value not in ("simultaneous", "pointwise"):
                raise UnknownOption("parameters.band", "simultaneous or pointwise", _shown(value))
            band = value
        elif key == "timeout":
            seconds = _seconds(value)
        elif key == "content_type":
            _require_array(key, value)
        elif key.startswith("sequence_"):
            _require_no_sequence(key, value)
        elif key not in IGNORED and not key.startswith("triton_"):
            raise UnknownOption(f"parameters.{key}", "level, band, timeout or binary_data_output", f"'{key[:40]}'")
    return binary, level, cast(Band, band), seconds


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise WrongType(f"parameters.{name}", "true or false", _shown(value))
    return value


def _level(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise UnknownOption("parameters.level", "a number in (0, 1)", _shown(value))
    return float(value)


def _seconds(value: Any) -> float | None:
    """Seconds to stay; 0 asks for no deadline of its own."""
    if type(value) is not int or value < 0:
        raise UnknownOption("parameters.timeout", "a whole number of microseconds", _shown(value))
    return value / 1e6 if value else None


def _require_array(name: str, value: Any) -> None:
    """Raises UnknownOption for what MLServer's clients say of a tensor, unless it is that it is an array."""
    if value != "np":
        raise UnknownOption(f"parameters.{name}", "np: tensors are arrays", _shown(value))


def _require_no_sequence(key: str, value: Any) -> None:
    """Raises UnknownOption for anything but the values that say: not part of a sequence."""
    if value not in (0, "", False):
        raise UnknownOption(f"parameters.{key}", "a request of its own: no model here keeps state", _shown(value))


def _outputs(given: Any, contract: Contract, binary: bool) -> tuple[tuple[Tensor, bool], ...]:
    if not given:
        if given is not None and given != []:
            raise WrongType("outputs", "a list of objects", _shown(given))
        return tuple((tensor, binary) for tensor in contract.usual)
    wanted: dict[str, tuple[Tensor, bool]] = {}
    for item in _list(given, "outputs"):
        name = item.get("name")
        tensor = contract.outputs.get(name) if isinstance(name, str) else None
        if tensor is None:
            raise UnknownOption("outputs", f"output tensors among {', '.join(contract.outputs)}", _shown(name))
        if tensor.name in wanted:
            raise UnknownOption("outputs", "each output once", f"'{tensor.name}' twice")
        as_bytes = binary
        for key, value in _object(item, "parameters", f"outputs.{name}.parameters").items():
            if key == "content_type":
                _require_array(key, value)
                continue
            if key != "binary_data":
                raise UnknownOption(f"outputs.{name}.parameters.{key}", "binary_data", f"'{key[:40]}'")
            as_bytes = _flag(value, key)
        wanted[tensor.name] = tensor, as_bytes
    return tuple(wanted.values())


def _declared(given: Any, contract: Contract) -> dict[str, dict[str, Any]]:
    """Every input of the model once, as the request declares it."""
    declared: dict[str, dict[str, Any]] = {}
    for item in _list(given, "inputs"):
        name = item.get("name")
        if not isinstance(name, str) or name not in contract.inputs:
            raise UnknownField(name[:80] if isinstance(name, str) else _shown(name), contract.inputs)
        if name in declared:
            raise InvalidInput("each input once", f"'{name}' twice", "Remove one of them.", name)
        declared[name] = item
    for name in contract.inputs:
        if name not in declared:
            raise InvalidInput(f"the input '{name}'", "nothing", "The model's metadata lists its inputs.", name)
    return declared


def _inputs(given: Any, body: bytes, length: int, contract: Contract, max_batch: int) -> dict[str, np.ndarray]:
    declared = _declared(given, contract)
    sizes = {name: _blob_size(item) for name, item in declared.items()}
    total = length + sum(size or 0 for size in sizes.values())
    if total != len(body):
        got = f"{len(body)} bytes"
        raise MalformedArray(
            "body", f"{total} bytes: the JSON and every binary_data_size", got, "Send what is declared."
        )
    arrays: dict[str, np.ndarray] = {}
    for name, item in declared.items():
        size = sizes[name]
        field = contract.inputs[name]
        shape, datatype = _shape(field, item.get("shape"), max_batch), _datatype(field, item.get("datatype"))
        if size is None:
            arrays[name] = _from_json(field, item.get("data"), shape, datatype)
        else:
            arrays[name] = _from_bytes(field, memoryview(body)[length : length + size], shape, datatype)
            length += size
    return arrays


def _blob_size(item: Mapping[str, Any]) -> int | None:
    """Bytes of an input that is sent as bytes.

    Raises UnknownOption, WrongType, InvalidInput.
    """
    name, size = item["name"], None
    for key, value in _object(item, "parameters", f"{item['name']}.parameters").items():
        if key == "content_type":
            _require_array(key, value)
            continue
        if key != "binary_data_size":
            expected = "binary_data_size; no shared memory, the tensor itself"
            raise UnknownOption(f"{name}.parameters.{key}", expected, f"'{key[:40]}'")
        if type(value) is not int or value < 0:
            raise WrongType(f"{name}.parameters.{key}", "a number of bytes", _shown(value))
        size = value
    if (size is None) == (item.get("data") is None):
        got = "neither" if size is None else "both"
        raise InvalidInput("either data or binary_data_size", got, "Send the tensor once.", name)
    return size


def _shape(field: Field, shape: Any, max_batch: int) -> tuple[int, ...]:
    axes = ", ".join(("samples", *map(str, field.shape)))
    expected = f"shape [{axes}]"
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise WrongShape(field.name, expected, _shown(shape))
    if tuple(shape[1:]) != field.shape or not shape:
        missing = f"; the batch axis is missing, send {[1, *field.shape]}" if tuple(shape) == field.shape else ""
        raise WrongShape(field.name, expected, f"{shape[:8]}{missing}")
    if shape[0] == 0:
        raise WrongShape(field.name, "at least one sample", "an empty batch")
    if shape[0] > max_batch:
        raise TooLarge(field.name, f"at most {max_batch} samples", f"{shape[0]}", BATCH_SETTING)
    return tuple(shape)


def _datatype(field: Field, datatype: Any) -> str:
    if not isinstance(datatype, str) or datatype not in NUMBERS:
        raise WrongType(
            field.name, f"datatype {input_type(field)}, or another among {', '.join(NUMBERS)}", _shown(datatype)
        )
    return datatype


def _from_bytes(field: Field, blob: memoryview, shape: tuple[int, ...], datatype: str) -> np.ndarray:
    kind = NUMBERS[datatype]
    expected = math.prod(shape) * kind.itemsize
    if len(blob) != expected:
        raise MalformedArray(
            field.name, f"{expected} bytes for shape {list(shape)} of {datatype}", f"{len(blob)} bytes"
        )
    values = np.frombuffer(blob, kind).reshape(shape)
    return values if values.flags.aligned else values.copy()


def _from_json(field: Field, data: Any, shape: tuple[int, ...], datatype: str) -> np.ndarray:
    """Flat or nested, row-major."""
    if datatype == "FP16":
        raise WrongType(field.name, "FP16 as bytes: it has no JSON form", "data in JSON")
    if not isinstance(data, list):
        raise WrongType(field.name, "a list of numbers in data", _shown(data))
    try:
        values = np.array(data)
    except ValueError as error:
        raise MalformedArray(field.name, "rows of equal length", "a ragged list", "Send the values flat.") from error
    if values.dtype.kind not in "iuf" or holds_truth_values(data):
        raise WrongType(field.name, "numbers in data", "other values, or integers beyond 64 bits")
    if values.shape not in (shape, (math.prod(shape),)):
        raise WrongShape(
            field.name, f"{math.prod(shape)} values for shape {list(shape)}", f"shape {list(values.shape)}"
        )
    kind = NUMBERS[datatype]
    if kind.kind in "iu":
        with np.errstate(invalid="ignore"):
            whole = values.astype(kind)
        if not np.array_equal(whole, values):
            raise WrongType(field.name, f"values that are {datatype}", "others")
    return values.reshape(shape)


def _read_raw(body: bytes, contract: Contract) -> Asked:
    """The body is the data of the one input, one sample; every usual output comes back as bytes."""
    if len(contract.inputs) != 1:
        names = ", ".join(contract.inputs)
        raise InvalidInput("JSON", f"a raw body for the inputs {names}", "Only a model of one input takes it.", HEADER)
    (field,) = contract.inputs.values()
    values = _from_bytes(field, memoryview(body), (1, *field.shape), input_type(field))
    outputs = tuple((tensor, True) for tensor in contract.usual)
    question = question_for(contract, outputs, 0.9, "simultaneous")
    return Asked(None, {field.name: values}, outputs, question, None)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
