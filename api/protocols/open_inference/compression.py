"""gzip and deflate (zlib): bodies unpacked as a stream, never beyond a limit."""

import gzip
import zlib

from api.errors import MalformedBody, UnsupportedMediaType
from api.settings import BODY_SETTING
from models.errors import TooLarge

WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
PACKED = ("gzip", "deflate")  # what replies may be
PIECE = 2**16
FASTEST = 1
MOST_MEMBERS = 1024  # of a gzip body: each costs a stream of its own, however little is in it


def require_known(encoding: str) -> None:
    """Raises UnsupportedMediaType unless a body in this encoding can be read."""
    if encoding not in WINDOWS:
        raise UnsupportedMediaType("gzip or deflate", repr(encoding)[:40], "Send it plain.", "Content-Encoding")


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """The body unpacked, at most `limit` bytes; gzip may have several members (RFC 1952, section 2.2).

    Raises TooLarge, MalformedBody.
    """
    stream, parts, size, start, members = zlib.decompressobj(WINDOWS[encoding]), [], 0, 0, 1
    try:
        while start < len(body):
            if stream.eof:
                if encoding == "deflate":
                    raise _malformed(encoding, "one with bytes after its end")
                members += 1
                if members > MOST_MEMBERS:
                    raise _malformed(encoding, f"more than {MOST_MEMBERS} members")
                stream = zlib.decompressobj(WINDOWS[encoding])
            piece = body[start : start + PIECE]
            part = stream.decompress(piece, limit - size + 1)
            size += len(part)
            if size > limit:
                raise TooLarge("body", f"at most {limit} bytes when unpacked", "more", BODY_SETTING)
            parts.append(part)
            start += len(piece) - len(stream.unused_data)
    except zlib.error as error:
        raise _malformed(encoding, f"one that cannot be unpacked ({error})") from error
    if not stream.eof:
        raise _malformed(encoding, "one that ends early")
    return b"".join(parts)


def _malformed(encoding: str, got: str) -> MalformedBody:
    return MalformedBody(f"a whole {encoding} stream", got, "Compress the body again.", "body")


def pack(body: bytes, encoding: str) -> bytes:
    """The body in this encoding."""
    return gzip.compress(body, FASTEST, mtime=0) if encoding == "gzip" else zlib.compress(body, FASTEST)
