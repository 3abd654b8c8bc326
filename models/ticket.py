"""A request's right to be worked on: it ends at a deadline, or when its client goes away.

The ticket of the request at hand travels in a context variable, so that long computations can ask `current().check()`
between two steps without every function in between knowing of deadlines.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from models.errors import DeadlinePassed, Ended

Result = TypeVar("Result")


class Ticket:
    """Ends once, for one reason; whoever works on it is told."""

    __slots__ = ("_reason", "_watchers", "batch", "computed_ns", "deadline", "queued_ns", "seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.queued_ns = self.computed_ns = self.batch = 0
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self._reason: Ended | None = None
        self._watchers: list[Callable[[], None]] = []

    @property
    def reason(self) -> Ended | None:
        """Why the work has ended; None while it goes on."""
        if self._reason is None and self.seconds is not None and time.monotonic() >= (self.deadline or 0.0):
            self._reason = DeadlinePassed(self.seconds)
        return self._reason

    def check(self) -> None:
        """Raises DeadlinePassed or Abandoned once the ticket has ended."""
        reason = self.reason
        if reason is not None:
            raise reason.with_traceback(None)

    def end(self, reason: Ended) -> None:
        """End it, unless it has ended, and tell the watchers."""
        if self._reason is None:
            self._reason = reason
        for watcher in tuple(self._watchers):
            watcher()

    def expire(self) -> None:
        """End it for its deadline."""
        self.end(DeadlinePassed(self.seconds or 0.0))

    def note(self, queued_ns: int, computed_ns: int, batch: int) -> None:
        """Time spent on it in the queue and in a run of `batch` samples; the largest batch is kept."""
        self.batch = max(self.batch, batch)
        self.queued_ns += queued_ns
        self.computed_ns += computed_ns

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called, from any thread, when the ticket is ended."""
        if watcher not in self._watchers:
            self._watchers.append(watcher)


UNLIMITED = Ticket()
_current: ContextVar[Ticket] = ContextVar("ticket", default=UNLIMITED)


def current() -> Ticket:
    """The ticket of the request that this thread works on."""
    return _current.get()


def holding(ticket: Ticket, work: Callable[[], Result]) -> Result:
    """Do `work` under `ticket`, unless it has ended already.

    Raises DeadlinePassed, Abandoned.
    """
    ticket.check()
    token = _current.set(ticket)
    try:
        return work()
    finally:
        _current.reset(token)
