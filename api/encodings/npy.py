"""NumPy's NPY format: one field in, one field out."""

import io
import math
from tokenize import TokenError

import numpy as np

from api.encodings.json import DTYPES, check_shape
from models.errors import MalformedArray, WrongType
from models.fields import Field

MEDIA_TYPE = "application/x-npy"
READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs only in how it writes names, which plain arrays have none of
}
# NumPy reads the header as a Python literal, and lets the parser's own errors through
UNREADABLE = (ValueError, LookupError, SyntaxError, TypeError, TokenError, RecursionError, MemoryError)


def encode(values: np.ndarray) -> bytes:
    """One array as an NPY file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def decode(field: Field, raw: bytes, max_batch: int) -> tuple[np.ndarray, bool]:
    """(array with a batch axis, whether the client sent one); the header is checked before the data are read.

    Raises MalformedArray, WrongType, WrongShape, TooLarge.
    """
    stream = io.BytesIO(raw)
    try:
        shape, fortran, dtype = READERS[np.lib.format.read_magic(stream)](stream)
    except UNREADABLE as error:
        raise MalformedArray(field.name, "an NPY file, version 1, 2 or 3", "something else") from error
    if dtype.name not in DTYPES:
        raise WrongType(field.name, f"one of {', '.join(DTYPES)}", str(dtype)[:60])
    batched = check_shape(field, field.name, shape, max_batch)
    expected, got = math.prod(shape) * dtype.itemsize, len(raw) - stream.tell()
    if expected != got:
        raise MalformedArray(field.name, f"{expected} bytes of data for shape {shape}", f"{got} bytes")
    array = np.frombuffer(raw, dtype=dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return array if batched else array[None], batched
