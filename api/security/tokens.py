"""JSON Web Tokens of an identity provider (OpenID Connect), verified by PyJWT.

Issuer, audience and algorithms are pinned by settings: a token chooses none of them. Keys come from a JWKS file, or an
https address that is fetched again every five minutes, and for an unknown key at most every thirty seconds.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from api.security.access import SCOPES, Client
from models.errors import Unauthenticated

REQUIRED = ["exp", "iss", "aud", "sub"]
LEEWAY = 10.0  # seconds by which clocks may differ
FETCH_SECONDS = 5.0
UNUSABLE = "one that cannot be verified"

_log = logging.getLogger(__name__)

KeyOf = Callable[[str], Any]


@dataclass(frozen=True)
class Tokens:
    """Verifies tokens of one issuer for one audience."""

    key_of: KeyOf
    issuer: str
    audience: str
    algorithms: tuple[str, ...]

    async def find(self, token: str) -> Client:
        """The client a token speaks for, with the scopes it grants here.

        Raises Unauthenticated, whatever is wrong with it.
        """
        try:
            key = await asyncio.to_thread(self.key_of, token)  # may have to fetch it
            claims = jwt.decode(
                token, key, self.algorithms, options={"require": REQUIRED}, audience=self.audience, issuer=self.issuer,
                leeway=LEEWAY,
            )  # fmt: skip
        except jwt.PyJWKClientConnectionError as error:
            _log.error("tokens cannot be verified: the issuer's keys cannot be fetched")
            raise Unauthenticated(UNUSABLE) from error
        except (jwt.PyJWTError, ValueError, KeyError) as error:
            raise Unauthenticated(UNUSABLE) from error
        granted = claims.get("scope", "")
        listed = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
        return Client(str(claims["sub"])[:64], frozenset(scope for scope in SCOPES if scope in listed))


def keys_from(source: str) -> KeyOf:
    """Finds the key of a token in a JWKS file or at an https address (http on this machine only).

    Raises ValueError, OSError where a file cannot be read.
    """
    address = urlsplit(source)
    if address.scheme == "https" or (
        address.scheme == "http" and address.hostname in ("127.0.0.1", "::1", "localhost")
    ):
        client = jwt.PyJWKClient(source, timeout=FETCH_SECONDS)
        return lambda token: client.get_signing_key_from_jwt(token).key
    if address.scheme:
        raise ValueError(f"Expected a file or an https address of a JWKS, got '{source}'.")
    keys = jwt.PyJWKSet.from_dict(json.loads(Path(source).read_text(encoding="utf-8")))
    return lambda token: keys[jwt.get_unverified_header(token).get("kid", "")].key
