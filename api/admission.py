"""Who may come in: per model, so many requests and so many bytes at a time; the rest is told when to come back."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from models.errors import Overloaded

SMOOTHING = 0.1
LONGEST_RETRY = 60.0


@dataclass
class Gate:
    """One model's share of the service; touched by the event loop only."""

    name: str
    most_requests: int
    most_bytes: int
    requests: int = 0
    bytes: int = 0
    refused: int = 0
    clock: Callable[[], float] = time.monotonic
    _pace: float = 0.0
    _left: float | None = None

    def enter(self, size: int) -> None:
        """Take a place.

        Raises Overloaded.
        """
        if self.requests >= self.most_requests:
            self._refuse(f"at most {self.most_requests} requests at a time for {self.name}", f"{self.requests + 1}")
        self.requests += 1
        try:
            self.grow(size)
        except Overloaded:
            self.requests -= 1
            raise

    def grow(self, size: int) -> None:
        """Take memory for more of the body.

        Raises Overloaded.
        """
        if self.bytes + size > self.most_bytes:
            self._refuse(f"at most {self.most_bytes} bytes waiting for {self.name}", f"{self.bytes + size}")
        self.bytes += size

    def leave(self, size: int) -> None:
        """Give place and memory back; the pace of leaving tells how long a full queue takes."""
        now = self.clock()
        self.requests -= 1
        self.bytes -= size
        if self._left is not None:
            self._pace += SMOOTHING * (now - self._left - self._pace)
        self._left = now if self.requests else None  # an idle service says nothing about its pace

    def _refuse(self, expected: str, got: str) -> None:
        self.refused += 1
        wait = min(LONGEST_RETRY, max(1.0, math.ceil(self.requests * self._pace / 2)))
        raise Overloaded(expected, got, wait)
