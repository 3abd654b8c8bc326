"""Which format a Tesseract client gets, by its Accept header.

Ranges are tried by falling q; the format is what follows the slash: application/json+base64; gpu_transport=none.
"""

from api.errors import NotAcceptable
from api.negotiation import media_ranges
from api.protocols.tesseract.arrays import Format

FORMATS: tuple[Format, ...] = ("json+base64", "json")
UNOFFERED = ("gpu_transport", "compression")  # parameters for which only "none" can be had


def _format_of(kind: str) -> Format | None:
    if kind in ("*/*", "application/*"):
        return FORMATS[0]
    return next((form for form in FORMATS if kind == f"application/{form}"), None)


def negotiate(header: str) -> Format:
    """The format of the reply.

    Raises NotAcceptable.
    """
    for kind, parameters in media_ranges(header):
        form = _format_of(kind)
        plain = all(parameters.get(key, "none") == "none" for key in UNOFFERED)
        if form is not None and plain:
            return form
    offered = ", ".join(f"application/{form}" for form in FORMATS)
    raise NotAcceptable(f"one of {offered} (no compression, no GPU transport)", header[:60], "Ask for one.", "Accept")
