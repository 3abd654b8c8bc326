"""How often a client may ask, counted by the library `limits` in memory or, for all replicas together, in Redis.

A client's keys share its limits: two keys during a rotation are not twice the quota. Without its store the service goes
on without quotas (admission still guards its capacity) and says so in the log.
"""

import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from api.security.access import Client
from models.errors import QuotaSpent

MEMORY = "memory://"
STORE_SECONDS = 1.0  # longest wait for a store
_log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]


def parse_limits(text: str) -> tuple[RateLimitItem, ...]:
    """Limits like `60/second; 100000/day`, the shortest first.

    Raises ValueError.
    """
    return tuple(sorted(parse_many(text), key=lambda item: item.get_expiry())) if text.strip() else ()


_parsed = cache(parse_limits)


def _store(address: str) -> Storage:
    if address == MEMORY:
        found = storage_from_string("async+memory://")
    else:
        waits = {"socket_timeout": STORE_SECONDS, "socket_connect_timeout": STORE_SECONDS}
        options = {"implementation": "redispy", "wrap_exceptions": True, **waits}
        found = storage_from_string(f"async+{address}", **options)  # type: ignore[arg-type]
    if not isinstance(found, Storage):
        raise TypeError(f"Expected an asynchronous store, got {type(found).__name__}.")
    return found


@dataclass(frozen=True)
class Allowance:
    """What is left of one limit; `after` seconds from now it is full again."""

    item: RateLimitItem
    left: int
    after: int

    @property
    def name(self) -> str:
        """The limit's name in headers: its unit of time."""
        return str(self.item.GRANULARITY.name)


class Quotas:
    """Counts what clients ask; `default` limits hold for those without their own.

    Raises ValueError for limits that cannot be read.
    """

    def __init__(self, default: str, store: str) -> None:
        parse_limits(default)
        self._default = default
        self._limiter = SlidingWindowCounterRateLimiter(_store(store))

    async def take(self, client: Client) -> Headers:
        """Count one request; what the response's headers say about what is left.

        Raises QuotaSpent.
        """
        items = _parsed(self._default if client.limits is None else client.limits)
        try:
            found = [await self._take(item, client.name) for item in items]
        except StorageError as error:
            _log.error("no quotas: the store does not answer (%s)", type(error.storage_error).__name__)
            return []
        return headers(found)

    async def close(self) -> None:
        """Let the store go."""
        if isinstance(self._limiter.storage, RedisStorage):
            bridge: Any = self._limiter.storage.bridge
            await bridge.storage.aclose()

    async def _take(self, item: RateLimitItem, name: str) -> Allowance:
        allowed = await self._limiter.hit(item, name)
        window = await self._limiter.get_window_stats(item, name)
        after = max(1, math.ceil(window.reset_time - time.time()))
        found = Allowance(item, window.remaining, after)
        if not allowed:
            spent = Allowance(item, 0, after)
            raise QuotaSpent(f"at most {item.amount} requests per {item.get_expiry()} s", after, headers([spent]))
        return found


def headers(found: list[Allowance]) -> Headers:
    """RateLimit-Policy and RateLimit, as in the IETF draft draft-ietf-httpapi-ratelimit-headers-10."""
    if not found:
        return []
    policy = ", ".join(f'"{one.name}";q={one.item.amount};w={one.item.get_expiry()}' for one in found)
    left = ", ".join(f'"{one.name}";r={one.left};t={one.after}' for one in found)
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
