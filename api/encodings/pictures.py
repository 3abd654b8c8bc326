"""The way to `png`: matplotlib takes half a second to import and is brought in by the first picture, or after start."""

from typing import Any

MEDIA_TYPE = "image/png"


def encode_answer(*parts: Any) -> bytes:
    """`png.encode_answer`."""
    from api.encodings import png

    return png.encode_answer(*parts)


def encode_forecast(*parts: Any) -> bytes:
    """`png.encode_forecast`."""
    from api.encodings import png

    return png.encode_forecast(*parts)


def encode_explanation(*parts: Any) -> bytes:
    """`explanation_sheet.encode`."""
    from api.encodings import explanation_sheet

    return explanation_sheet.encode(*parts)
