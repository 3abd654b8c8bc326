"""Key files, issuers of tokens and key sets made for one test."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.security.access import SCOPES
from api.security.keys import new_key
from api.settings import Settings

ISSUER, AUDIENCE = "https://login.example.org", "surrogates"


def write_key(path: Path, client: str = "hydro", scopes: tuple[str, ...] = SCOPES, **facts: Any) -> str:
    """Add a key to a file; the key."""
    text, line = new_key(client, scopes, facts.pop("days", 1.0), **facts)
    with path.open("a", encoding="utf-8") as file:
        file.write(line.model_dump_json(exclude_none=True) + "\n")
    return text


def yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


@dataclass(frozen=True)
class Issuer:
    """An identity provider with one RSA and one EC key."""

    private: dict[str, Any]

    @classmethod
    def new(cls) -> "Issuer":
        return cls({"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())})

    def key_set(self) -> str:
        """The public keys as a JWKS, named after their algorithm."""
        kinds = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}
        keys = [
            json.loads(kinds[name].to_jwk(key.public_key())) | {"kid": name, "use": "sig", "alg": name}
            for name, key in self.private.items()
        ]
        return json.dumps({"keys": keys})

    def token(self, algorithm: str = "RS256", **changes: Any) -> str:
        """A token as it should be, but for the changes; None leaves a claim out."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "job-7", "exp": now + 60, "scope": "predict openid"}
        claims = {key: value for key, value in (claims | changes).items() if value is not None}
        return jwt.encode(claims, self.private[algorithm], algorithm, headers={"kid": algorithm})


def token_settings(source: str | Path, **more: Any) -> Settings:
    return Settings(token_keys=str(source), token_issuer=ISSUER, token_audience=AUDIENCE, **more)
