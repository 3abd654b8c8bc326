"""Arrays as Tesseract clients send and read them: {shape, dtype, data: {buffer, encoding}}, base64 or nested lists."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from api.encodings import json
from api.protocols.ensemble import single
from models.errors import MalformedArray, MissingField, UnknownField, WrongShape, WrongType
from models.fields import Field

Format = Literal["json+base64", "json"]
DTYPE = "float32"
CASTABLE = (*json.DTYPES, "bool")
KEYS = ("object_type", "shape", "dtype", "data")
ENCODINGS = ("base64", "json", "raw")  # raw: the clients' other word for nested lists


def check_abstract(field: Field, name: str, value: Any) -> tuple[int, ...]:
    """The shape sent, which an axis of one may stretch to the field's, with a dtype of real numbers.

    Raises WrongType, WrongShape, UnknownField, MissingField, MalformedArray.
    """
    if not isinstance(value, Mapping):
        raise WrongType(name, "an object with shape and dtype", type(value).__name__)
    for key in value:
        if key not in KEYS:
            raise UnknownField(f"{name}.{key}", KEYS)
    for key in ("shape", "dtype"):
        if key not in value:
            raise MissingField(f"{name}.{key}")
    shape, dtype = value["shape"], value["dtype"]
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise MalformedArray(f"{name}.shape", "a list of sizes", repr(shape)[:60])
    if dtype not in CASTABLE:
        raise WrongType(f"{name}.dtype", f"one of {', '.join(CASTABLE)}", repr(dtype)[:60])
    _require_fitting(field, f"{name}.shape", tuple(shape))
    return tuple(shape)


def _require_fitting(field: Field, name: str, shape: tuple[int, ...]) -> None:
    """Raises WrongShape unless repeating axes of one makes it the field's shape."""
    if len(shape) != len(field.shape) or any(n not in (1, m) for n, m in zip(shape, field.shape, strict=True)):
        raise WrongShape(name, f"{list(field.shape)}, an axis of 1 is repeated", f"{list(shape)}"[:60])


def decode(field: Field, name: str, value: Any) -> np.ndarray:
    """One sample, (1, *shape), in single precision; numbers and nested lists are taken as they are, too.

    Raises InvalidInput in one of its forms.
    """
    if isinstance(value, list) or type(value) in (int, float):
        values = _from_lists(name, value)
        _require_fitting(field, name, values.shape)
    else:
        shape = check_abstract(field, name, value)
        if "data" not in value:
            raise MissingField(f"{name}.data")
        values = _values(name, value["data"], shape, value["dtype"])
    return single(name, np.broadcast_to(values, field.shape)[None])


def _values(name: str, data: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    encoding = data.get("encoding") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or encoding not in ENCODINGS or "buffer" not in data:
        wanted = f"a buffer with an encoding among {', '.join(ENCODINGS)}"
        raise MalformedArray(f"{name}.data", wanted, repr(data)[:60], "Files and device memory are not shared.")
    if data.get("compression") is not None:
        raise MalformedArray(f"{name}.data.compression", "none", repr(data["compression"])[:60], "Send it plain.")
    if encoding == "base64":
        if not isinstance(data["buffer"], str):
            raise MalformedArray(f"{name}.data.buffer", "base64 text", type(data["buffer"]).__name__)
        return json.read_buffer(name, data["buffer"], shape, dtype)
    values = _from_lists(f"{name}.data.buffer", data["buffer"])
    if values.shape != shape:
        raise MalformedArray(f"{name}.data.buffer", f"nested lists of shape {shape}", f"{values.shape}")
    return values


def _from_lists(name: str, lists: Any) -> np.ndarray:
    try:
        values = np.array(lists)
    except ValueError as error:
        raise MalformedArray(name, "nested lists of equal length", "a ragged list") from error
    if values.dtype.kind not in "iufb":
        raise WrongType(name, "numbers", "something else")
    return values


def encode(values: np.ndarray, form: Format) -> dict[str, Any]:
    """One array without a batch axis; NaN becomes null in nested lists, which the clients read as NaN."""
    found = np.ascontiguousarray(values, dtype=np.float32).reshape(values.shape)
    if form == "json+base64":
        return {"object_type": "array", **json.encode_array(found, "base64"), "shape": list(values.shape)}
    buffer: Any = found if found.ndim else float(found)
    data = {"buffer": buffer, "encoding": "json"}
    return {"object_type": "array", "shape": list(values.shape), "dtype": DTYPE, "data": data}
