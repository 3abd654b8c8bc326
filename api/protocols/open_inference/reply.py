"""An answer written: JSON, then the blobs of those outputs that are wanted as bytes, in their order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from api.protocols.open_inference.inference import Asked
from api.protocols.open_inference.tensors import KINDS, Tensor
from models.errors import InvalidOutput
from models.statements import Statement
from models.surrogate import Answer, Surrogate


@dataclass(frozen=True)
class Reply:
    """A reply body; `header` is the length of its JSON part where bytes follow, None where none do."""

    body: bytes
    header: int | None


def write(surrogate: Surrogate, asked: Asked, answer: Answer) -> Reply:
    """The reply.

    Raises InvalidOutput for a number that is not finite where nothing says that it may not be.
    """
    blobs: list[memoryview] = []
    outputs = []
    for tensor, as_bytes in asked.outputs:
        values = _values(tensor, answer, asked.count)
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": values.shape}
        if as_bytes:
            entry["parameters"] = {"binary_data_size": values.nbytes}
            blobs.append(values.data)
        else:
            entry["data"] = values.reshape(-1)
        outputs.append(entry)
    manifest = surrogate.manifest
    document: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version}
    if asked.id:
        document["id"] = asked.id
    document["outputs"] = outputs
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Reply(b"".join((text, *blobs)), len(text)) if blobs else Reply(text, None)


def _values(tensor: Tensor, answer: Answer, count: int) -> np.ndarray:
    """(batch, *shape), contiguous, in the tensor's datatype."""
    found = np.ascontiguousarray(_part(tensor, answer), KINDS[tensor.part])
    if found.shape != (count, *tensor.shape):
        raise InvalidOutput(tensor.name, f"shape {(count, *tensor.shape)}", f"{found.shape}")
    if tensor.part != "in_domain" and not np.isfinite(found).all():
        _require_masked(tensor, found, answer)
    return found


def _require_masked(tensor: Tensor, values: np.ndarray, answer: Answer) -> None:
    """Only claims that are withdrawn may be missing, and then NaN says so."""
    if tensor.part == "bound":
        held = values[~np.isnan(values)]
    else:
        held = values[_is_claimed(answer)] if tensor.is_masked else values
    bad = int((~np.isfinite(held)).sum())
    if bad:
        raise InvalidOutput(tensor.name, "finite numbers", f"{bad} not finite")


def _is_claimed(answer: Answer) -> np.ndarray:
    """Per sample, whether the answer claims its bands."""
    return np.array([verdict.in_domain for verdict in answer.validity])


def _part(tensor: Tensor, answer: Answer) -> np.ndarray:
    match tensor.part:
        case "mean":
            return answer.predictions[tensor.field].mean
        case "standard_deviation":
            return answer.predictions[tensor.field].deviation
        case "members":
            return answer.predictions[tensor.field].members
        case "lower" | "upper":
            return _band(tensor, answer)
        case "bound":
            return np.stack([_bound(tensor, statements) for statements in answer.statements])
        case "validity":
            return np.array([verdict.p_value for verdict in answer.validity], dtype=np.float32)
        case "in_domain":
            return np.array([verdict.in_domain for verdict in answer.validity])


def _band(tensor: Tensor, answer: Answer) -> np.ndarray:
    """One edge of the band; NaN for samples out of domain, of which it claims nothing."""
    band = answer.bands[tensor.field]
    if band is None:  # a contract lists bands of calibrated fields only
        raise InvalidOutput(tensor.name, "a band", "none")
    edge = (band.lower if tensor.part == "lower" else band.upper).astype(np.float32)
    edge[~_is_claimed(answer)] = np.nan
    return edge


def _bound(tensor: Tensor, statements: Sequence[Statement]) -> np.ndarray:
    """The absolute guaranteed bounds of one sample, by lead time where the tensor has them; NaN where none could be had."""
    found = [
        (one.lead_time, one.value)
        for one in statements
        if (one.quantity, one.norm, one.kind) == (tensor.field, tensor.norm, "guaranteed")
        and not one.relative
        and (one.lead_time is None) == (tensor.shape == ())
    ]
    if len(found) != math.prod(tensor.shape):
        return np.full(tensor.shape, np.nan)
    return np.array([value for _, value in sorted(found)], dtype=np.float64).reshape(tensor.shape)
