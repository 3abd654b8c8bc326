"""JSON: nested lists or base64 buffers in, the same out."""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import orjson

from api.encodings import times
from api.settings import BATCH_SETTING
from models.errors import MalformedArray, TooLarge, WrongShape, WrongType
from models.fields import Field

MEDIA_TYPE = "application/json"
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LARGEST_NUMBER = 1e300
Encoding = Literal["json", "base64"]


def dump(document: Any) -> bytes:
    """Serialise; NumPy arrays become nested lists, NaN becomes null."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_array(values: np.ndarray, encoding: Encoding) -> Any:
    """One array as nested lists, a number without axes as itself, or as a little-endian, row-major base64 buffer."""
    contiguous = np.ascontiguousarray(values)
    if encoding == "json":
        return contiguous if values.ndim else values[()]
    little = np.ascontiguousarray(contiguous, dtype=contiguous.dtype.newbyteorder("<"))
    buffer = base64.b64encode(little.data).decode("ascii")
    return {
        "shape": list(values.shape),
        "dtype": str(contiguous.dtype),
        "data": {"buffer": buffer, "encoding": "base64"},
    }


def decode_input(field: Field, name: str, value: Any, max_batch: int) -> tuple[np.ndarray, bool]:
    """An input of any role: an array, a number or a time, or a list of them; as decode_array gives it.

    Raises as decode_array does.
    """
    if field.shape or isinstance(value, Mapping):
        return decode_array(field, name, value, max_batch)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise WrongShape(name, "at least one sample", "an empty batch")
    if len(values) > max_batch:
        raise TooLarge(name, f"at most {max_batch} samples", f"{len(values)}", BATCH_SETTING)
    if field.role == "reference_time":
        return np.array([times.decode(name, item) for item in values]), isinstance(value, list)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or abs(item) > LARGEST_NUMBER:
            raise WrongType(name, f"a number [{field.units}], or a list of them for a batch", _kind(item))
    return np.array(values, dtype=np.float64), isinstance(value, list)


def encode_input(field: Field, values: np.ndarray, encoding: Encoding) -> Any:
    """One sample of an input as decode_input takes it."""
    if field.role == "reference_time":
        return times.encode(float(values))
    return float(values) if not field.shape else encode_array(values, encoding)


def decode_array(field: Field, name: str, value: Any, max_batch: int) -> tuple[np.ndarray, bool]:
    """(array with a leading batch axis, whether the client sent one); shape is checked before memory is taken.

    Raises WrongShape, WrongType, MalformedArray, TooLarge, NotFinite never (values are checked later).
    """
    if isinstance(value, Mapping):
        return _from_buffer(field, name, value, max_batch)
    if isinstance(value, list):
        return _from_lists(field, name, value, max_batch)
    raise WrongType(name, "a nested list of numbers or a base64 array", _kind(value))


def check_shape(field: Field, name: str, shape: tuple[int, ...], max_batch: int) -> bool:
    """Whether `shape` has a batch axis.

    Raises WrongShape, TooLarge.
    """
    batched = len(shape) == len(field.shape) + 1
    if (shape[1:] if batched else shape) != field.shape:
        expected = f"shape {field.shape}, or (batch, {', '.join(map(str, field.shape))})"
        raise WrongShape(name, expected + _coverage(field, shape[-1:]), f"shape {shape}")
    if batched and shape[0] == 0:
        raise WrongShape(name, "at least one sample", "an empty batch")
    if batched and shape[0] > max_batch:
        raise TooLarge(name, f"at most {max_batch} samples", f"{shape[0]}", BATCH_SETTING)
    return batched


def _coverage(field: Field, got: tuple[int, ...]) -> str:
    """How much of the time that a forecast needs a forcing of another length covers."""
    if field.role != "forcing" or len(field.shape) != 1 or len(got) != 1 or got[0] >= field.shape[0]:
        return ""
    axis = field.axes[0]
    step = (axis.stop - axis.start) / (axis.points - 1)
    return f"; {got[0]} steps cover {got[0] * step:g} {axis.units} of the {axis.points * step:g} {axis.units} needed"


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a string", dict: "an object", list: "a list"}
    return names.get(type(value), f"the number {value}")


def _nested_shape(value: Any, limit: int) -> tuple[int, ...]:
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < limit:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _from_lists(field: Field, name: str, value: list[Any], max_batch: int) -> tuple[np.ndarray, bool]:
    batched = check_shape(field, name, _nested_shape(value, len(field.shape) + 2), max_batch)
    try:
        array = np.array(value)
    except ValueError as error:
        raise MalformedArray(
            name, f"rows of equal length, shape {field.shape}", "a ragged list", "Make every row the same length."
        ) from error
    if array.dtype.kind not in "iuf" or holds_truth_values(value):
        raise WrongType(name, "numbers", _first_odd(value))
    return array if batched else array[None], batched


def holds_truth_values(value: Any) -> bool:
    """Whether nested lists hold true or false, which NumPy takes for 1 and 0 among numbers."""
    if not isinstance(value, list):
        return False
    kinds = set(map(type, value))
    return bool in kinds or (list in kinds and any(map(holds_truth_values, value)))


def _first_odd(value: Any) -> str:
    """The first entry that is not a number, with its position."""
    stack: list[tuple[tuple[int, ...], Any]] = [((), value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, list):
            stack.extend(((*place, i), child) for i, child in reversed(list(enumerate(item))))
        elif isinstance(item, bool) or not isinstance(item, int | float):
            return f"{_kind(item)} at {place}"
    return "a number beyond 64 bits"


def _from_buffer(field: Field, name: str, value: Mapping[str, Any], max_batch: int) -> tuple[np.ndarray, bool]:
    shape, dtype, data = value.get("shape"), value.get("dtype"), value.get("data")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedArray(f"{name}.shape", "a list of sizes", repr(shape)[:60])
    if dtype not in DTYPES:
        raise WrongType(f"{name}.dtype", f"one of {', '.join(DTYPES)}", repr(dtype)[:60])
    if not isinstance(data, Mapping) or data.get("encoding") != "base64" or not isinstance(data.get("buffer"), str):
        raise MalformedArray(f"{name}.data", '{"buffer": "…", "encoding": "base64"}', repr(data)[:60])
    batched = check_shape(field, name, tuple(shape), max_batch)
    array = read_buffer(name, data["buffer"], tuple(shape), dtype)
    return array if batched else array[None], batched


def read_buffer(name: str, text: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array in base64 text of little-endian, row-major bytes; its length is checked before memory is taken.

    Raises MalformedArray.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    expected = math.prod(shape) * kind.itemsize
    if len(text) != 4 * math.ceil(expected / 3):
        raise MalformedArray(
            f"{name}.data.buffer", f"{expected} bytes for shape {shape} of {dtype}", f"{len(text) * 3 // 4} bytes"
        )
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedArray(f"{name}.data.buffer", "base64 text", "other characters") from error
    if len(raw) != expected:
        raise MalformedArray(f"{name}.data.buffer", f"{expected} bytes", f"{len(raw)} bytes")
    return np.frombuffer(raw, dtype=kind).reshape(shape)
