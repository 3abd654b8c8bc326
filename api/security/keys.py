"""API keys: `srg_<id>_<secret>`, known to the service by their hash only.

A key is 256 random bits, so nobody finds it by trying: SHA-256 is enough, and a slow hash, made for passwords, would
only let strangers keep the processor busy. The id picks the line of the file, the hash is compared in constant time.

The file holds one JSON object per line and is looked at again when it changes, so keys are added, overlap and end
without a restart; a file that cannot be read leaves the keys before it in force.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from api.security.access import Client, Scope
from models.errors import Unauthenticated

PREFIX = "srg_"
LOOK_AGAIN = 1.0  # seconds between two looks at the file
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NO_HASH = "0" * 64
_log = logging.getLogger(__name__)

Text = Annotated[str, StringConstraints(pattern=NAME)]


class Key(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    client: Text
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...]
    not_before: AwareDatetime
    expires: AwareDatetime
    limits: str | None = None


def hash_of(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(
    client: str, scopes: tuple[Scope, ...], days: float, limits: str | None = None, start: datetime | None = None
) -> tuple[str, Key]:
    """A key for a client, and its line for the file.

    Raises ValueError for a name, a scope or limits that cannot be.
    """
    label = secrets.token_hex(6)
    text = f"{PREFIX}{label}_{secrets.token_urlsafe(32)}"
    begin = start or datetime.now(UTC).replace(microsecond=0)
    return text, Key(
        id=label, client=client, sha256=hash_of(text), scopes=scopes, not_before=begin,
        expires=begin + timedelta(days=days), limits=limits,
    )  # fmt: skip


def read_keys(path: Path) -> dict[str, Key]:
    """Keys by id.

    Raises ValueError naming the line, never what is in it.
    """
    found: dict[str, Key] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            key = Key.model_validate_json(line)
        except ValidationError as error:
            where = ", ".join(".".join(map(str, item["loc"])) or "the line" for item in error.errors())
            raise ValueError(
                f"Expected a line of `python -m api keys`, got a fault in {where}, line {number}."
            ) from None
        if key.id in found:
            raise ValueError(f"Expected every id once, got '{key.id}' again in line {number}.")
        found[key.id] = key
    return found


class KeyRing:
    """The keys of a file, as it is now.

    Raises ValueError, OSError where the file cannot be read at the start.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now = path, now
        self._state = _state(path)
        self._keys: Mapping[str, Key] = read_keys(path)
        self._looked = time.monotonic()

    def find(self, presented: str) -> Client:
        """The client whose key this is.

        Raises Unauthenticated, whatever is wrong with it.
        """
        self._look_again()
        label, _, _ = presented.removeprefix(PREFIX).partition("_")
        key = self._keys.get(label)
        right = hmac.compare_digest(hash_of(presented), NO_HASH if key is None else key.sha256)
        if key is None or not right or not key.not_before <= self._now() < key.expires:
            raise Unauthenticated("one that is unknown, expired or not valid yet")
        return Client(key.client, frozenset(key.scopes), key.limits)

    def _look_again(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_AGAIN:
            return
        self._looked = now
        try:
            state = _state(self._path)
            if state != self._state:
                self._keys = read_keys(self._path)
                self._state = state
                _log.info("keys read again: %d", len(self._keys))
        except (OSError, ValueError) as error:
            _log.error("the keys before stay in force: %s", type(error).__name__)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
