"""Frames as length-prefixed binary records: a JSON header, then the arrays it describes.

    record = 4 bytes: length n of the header, little-endian · n bytes: header, UTF-8 JSON · the arrays' bytes

The header is what a line of NDJSON is, with every array replaced by {"shape", "offset", "bytes"}: little-endian float32,
row-major, `offset` from the end of the header; "payload" is the length of all arrays of the record together.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from api.encodings.json import dump

MEDIA_TYPE = "application/x-frames"


def encode(document: Mapping[str, Any]) -> bytes:
    """One record."""
    arrays: list[bytes] = []
    header = _without_arrays(document, arrays)
    text = dump({**header, "payload": sum(len(part) for part in arrays)})
    return b"".join([struct.pack("<I", len(text)), text, *arrays])


def _without_arrays(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value, dtype="<f4").tobytes()
        place = {"shape": list(value.shape), "offset": sum(len(part) for part in arrays), "bytes": len(content)}
        arrays.append(content)
        return place
    if isinstance(value, Mapping):
        return {key: _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_arrays(item, arrays) for item in value]
    return value


def decode(raw: bytes) -> tuple[dict[str, Any], dict[int, np.ndarray], bytes]:
    """(header, arrays by offset, rest) of the first record in `raw`; for clients and tests."""
    import json

    (length,) = struct.unpack_from("<I", raw)
    header = json.loads(raw[4 : 4 + length])
    start = 4 + length
    arrays: dict[int, np.ndarray] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if set(value) == {"shape", "offset", "bytes"}:
                flat = np.frombuffer(raw, "<f4", value["bytes"] // 4, start + value["offset"])
                arrays[value["offset"]] = flat.reshape(value["shape"])
            else:
                for item in value.values():
                    collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    collect(header)
    return header, arrays, raw[start + header["payload"] :]
