"""Which format a Tesseract client gets, by its Accept header.

Ranges are tried by falling q; the format is what follows the slash: application/json+base64; gpu_transport=none.
"""

from collections.abc import Mapping

from api.errors import NotAcceptable
from api.protocols.tesseract.arrays import Format

FORMATS: tuple[Format, ...] = ("json+base64", "json")
UNOFFERED = ("gpu_transport", "compression")  # parameters for which only "none" can be had


def _parsed(part: str) -> tuple[str, dict[str, str]]:
    kind, *rest = part.strip().lower().split(";")
    pairs = (item.partition("=") for item in rest)
    return kind.strip(), {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _weight(parameters: Mapping[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


def _format_of(kind: str) -> Format | None:
    if kind in ("", "*/*", "application/*"):
        return FORMATS[0]
    return next((form for form in FORMATS if kind == f"application/{form}"), None)


def negotiate(header: str | None) -> Format:
    """The format of the reply.

    Raises NotAcceptable.
    """
    ranges = [_parsed(part) for part in (header or "*/*").split(",")]
    for kind, parameters in sorted(ranges, key=lambda item: -_weight(item[1])):
        form = _format_of(kind)
        plain = all(parameters.get(key, "none") == "none" for key in UNOFFERED)
        if form is not None and plain and _weight(parameters) > 0.0:
            return form
    offered = ", ".join(f"application/{form}" for form in FORMATS)
    raise NotAcceptable(
        f"one of {offered} (no compression, no GPU transport)", (header or "")[:60], "Ask for one.", "Accept"
    )
