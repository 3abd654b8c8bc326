"""Settings are frozen and unknown ones refused; encodings round-trip."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.encodings import json, npy
from api.settings import Settings, read_settings
from models.fields import Axis, Field

FIELD = Field("q", "q", "K", "A field.", (Axis("x", "m", 3, 0.0, 1.0), Axis("y", "m", 4, 0.0, 1.0)))


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="SURROGATE_PROT"):
        read_settings({"SURROGATE_PROT": "1"})


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().port = 1


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=12, max_size=12),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_arrays_survive_every_encoding(values, dtype):
    array = np.array(values, dtype=dtype).reshape(3, 4)
    for shown in (json.encode_array(array, "base64"), json.encode_array(array, "json").tolist()):
        back, batched = json.decode_array(FIELD, "q", shown, 4)
        assert not batched
        np.testing.assert_array_equal(back[0], array)
    back, _ = npy.decode(FIELD, npy.encode(array), 4)
    np.testing.assert_array_equal(back[0], array)


@given(raw=st.binary(max_size=200))
def test_random_bytes_never_become_an_array_by_accident(raw):
    from models.errors import InvalidInput

    for attempt in (
        lambda: npy.decode(FIELD, raw, 4),
        lambda: json.decode_array(
            FIELD, "q",
            {"shape": [3, 4], "dtype": "float32",
             "data": {"buffer": base64.b64encode(raw).decode(), "encoding": "base64"}}, 4),
    ):  # fmt: skip
        try:
            array, _ = attempt()
        except InvalidInput:
            continue
        assert array.nbytes == 48 == len(raw)
