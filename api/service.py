"""What the application holds while it runs, and one request's stay in it: admission, body, deadline, work, end.

The event loop parses, queues and encodes, and runs graphs that take less time than handing them over; all others run in
the engine's threads, NumPy in the workers'.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import telemetry
from api.admission import Gate
from api.errors import BodyTooSlow
from api.settings import BODY_SETTING, Settings
from models.batching import Engine, Results
from models.contract import Costs
from models.errors import Abandoned, TooLarge, UnknownModel, UnknownOption, UnknownVersion
from models.repository import Repository
from models.runtime import Graph
from models.surrogate import Answer, Clock, Question, RouteStep, Surrogate
from models.ticket import Ticket, holding

Result = TypeVar("Result")
DEADLINE_HEADER = "x-request-timeout"
# seconds: a thread that computes in Python holds the loop up as well, by turns (`api.app.TURN`) and by being woken; when work
# of more than 1 ms was handed over, full answers near that threshold fell behind the requests that came
SHORT = 3e-3
PIECE = 2**18  # bytes of an answer that wait for a client at a time
RECENT = 0.1  # weight of the latest in a mean of recent times


@dataclass(frozen=True)
class Service:
    """What the application holds while it runs."""

    settings: Settings
    repository: Repository
    engine: Engine
    workers: ThreadPoolExecutor
    callers: ThreadPoolExecutor
    files: ThreadPoolExecutor
    gates: dict[str, Gate] = field(default_factory=dict)
    mailbox: "Mailbox" = field(default_factory=lambda: Mailbox())
    costs: Costs = field(default_factory=Costs)
    pace: "Pace" = field(default_factory=lambda: Pace())
    ending: threading.Event = field(default_factory=threading.Event)

    def gate(self, model: str) -> Gate:
        """The gate of one model."""
        if model not in self.gates:
            self.gates[model] = Gate(model, self.settings.max_waiting, self.settings.max_waiting_bytes)
        return self.gates[model]


class Pace:
    """Processor time that each kind of work has taken of late, by number that goes in; a kind not yet seen takes forever."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._seconds: dict[Hashable, float] = {}

    def is_short(self, kind: Hashable, size: int) -> bool:
        """Whether the event loop may do it itself."""
        return size * self._seconds.get(kind, math.inf) < SHORT

    def timed(self, kind: Hashable, size: int, work: Callable[[], Result]) -> Result:
        """Do it, and remember the time this thread took: waiting for others does not count."""
        began = self._clock()
        result = work()
        spent = (self._clock() - began) / max(size, 1)
        before = self._seconds.get(kind, spent)
        self._seconds[kind] = before + RECENT * (spent - before)
        return result


class Mailbox:
    """Takes results from the engine's thread to the event loop; one wake-up serves all that have come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[tuple[asyncio.Future[Results], Results | None, BaseException | None]] = deque()
        self._called = False

    def receiver(self, future: "asyncio.Future[Results]") -> Callable[[Results | None, BaseException | None], None]:
        """What the engine calls for one future."""

        def deliver(results: Results | None, error: BaseException | None) -> None:
            self._items.append((future, results, error))
            if not self._called:
                self._called = True
                self._loop.call_soon_threadsafe(self._empty)

        return deliver

    def _empty(self) -> None:
        self._called = False
        while self._items:
            future, results, error = self._items.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(results or [])


class Visit:
    """One request's stay; work done in it ends with the client, or with the deadline."""

    def __init__(self, service: Service, scope: Scope, receive: Receive) -> None:
        self.service, self._scope, self._receive = service, scope, receive
        self._gate: Gate | None = None
        self._bytes = 0
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_all = False
        self.model = ""
        # when the body was there, the work began, its result was there
        self.received = self.called = self.concluded = 0.0
        self.route: tuple[RouteStep, ...] = ()
        self.spent: tuple[int, int] | None = None  # ns in the queue and in the runs of the forward graph
        self._headers = dict(reversed(scope["headers"]))  # of several of one name the first counts
        self.facts: dict[str, Any] = {}  # what a line of the log says beside times
        self.ticket = Ticket()
        self.started = time.perf_counter()

    def header(self, name: bytes) -> str | None:
        """One request header."""
        found = self._headers.get(name)
        return None if found is None else found.decode("latin-1")

    def digest(self, version: str) -> str:
        """What the hash of the bundle at work begins with; empty once it has been taken away."""
        with suppress(UnknownModel, UnknownVersion):
            return self.service.repository.get(self.model, version).manifest.digest[7:19]
        return ""

    def enter(self, model: str, seconds: float | None = None) -> None:
        """Be admitted to a model, with `seconds`, or those of the header, or the service's own, to stay.

        Raises Overloaded, TooLarge, UnknownOption.
        """
        settings = self.service.settings
        declared = self.header(b"content-length") or "0"
        size = int(declared) if declared.isdigit() else 0
        if size > settings.max_body_bytes:
            raise TooLarge("body", f"at most {settings.max_body_bytes} bytes", declared, BODY_SETTING)
        asked = self._asked_seconds() if seconds is None else seconds
        seconds = min(settings.request_seconds, asked or settings.request_seconds)
        gate = self.service.gate(model)
        gate.enter(size)
        self._gate, self._bytes = gate, size
        self.model = "" if model.startswith("/") else model
        self.set_deadline(seconds)

    def move(self, model: str) -> None:
        """Go on to the gate of the model that the body has named; whoever enters without a model comes this way.

        Raises Overloaded.
        """
        gate, before = self.service.gate(model), self._gate
        gate.enter(self._bytes)
        self._gate, self.model = gate, model
        if before is not None:
            before.leave(self._bytes)

    def set_deadline(self, seconds: float) -> None:
        """Allow so many seconds from now on."""
        ended, self.ticket = self.ticket.reason, Ticket(seconds)
        if ended is not None:
            self.ticket.end(ended)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _asked_seconds(self) -> float | None:
        text = self.header(DEADLINE_HEADER.encode())
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0.0 < seconds < float("inf"):
            raise UnknownOption(DEADLINE_HEADER, "a positive number of seconds", repr(text)[:40])
        return seconds

    async def body(self) -> bytes:
        """The body, refused as soon as it is known to be too large.

        Raises TooLarge, Overloaded, BodyTooSlow, Abandoned.
        """
        seconds = self.service.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._read()
        except TimeoutError:
            raise BodyTooSlow(f"the whole body within {seconds:g} s", "less", "Send it faster.", "body") from None

    async def _read(self) -> bytes:
        limit, parts, size = self.service.settings.max_body_bytes, [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.ticket.end(Abandoned())
                self.ticket.check()
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise TooLarge("body", f"at most {limit} bytes", "more", BODY_SETTING)
            self.hold(size)
            parts.append(part)
            if not message.get("more_body", False):
                break
        self._read_all, self.received = True, time.perf_counter()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, size: int) -> None:
        """Take memory for a body of undeclared length, or unpacked, that has `size` bytes so far.

        Raises Overloaded.
        """
        if size > self._bytes and self._gate is not None:
            self._gate.grow(size - self._bytes)
            self._bytes = size

    def _linger(self) -> asyncio.AbstractEventLoop:
        """Before waiting: have the ticket ended by the clock, and once the body is there by the client's leaving."""
        loop = asyncio.get_running_loop()
        if self._timer is None and self.ticket.deadline is not None:
            left = self.ticket.deadline - time.monotonic()
            self._timer = loop.call_later(max(0.0, left), self.ticket.expire)
        if self._watcher is None and self._read_all:
            self._watcher = loop.create_task(self._watch())
        return loop

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.ticket.end(Abandoned())

    def leave(self) -> None:
        """The request has been answered, or has failed."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._gate is not None:
            self._gate.leave(self._bytes)

    async def off_loop(self, work: Callable[[], Result]) -> Result:
        """Do `work` that computes, in one of as many threads as there are cores, under this request's ticket.

        Raises DeadlinePassed, Abandoned.
        """
        return await self._linger().run_in_executor(self.service.workers, holding, self.ticket, work)

    async def shortly(self, kind: Hashable, size: int, work: Callable[[], Result]) -> Result:
        """Do work on `size` numbers here and now if its kind has lately been short, else in a worker.

        Raises DeadlinePassed, Abandoned, and what the work raises.
        """
        pace = self.service.pace
        timed = partial(pace.timed, kind, size, work)
        return holding(self.ticket, timed) if pace.is_short(kind, size) else await self.off_loop(timed)

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do `work` that mostly waits for the engine, under this request's ticket: more of it may go on at a time.

        Raises DeadlinePassed, Abandoned.
        """
        self.called = self.called or time.perf_counter()
        found = await self._linger().run_in_executor(self.service.callers, holding, self.ticket, work)
        self.concluded = time.perf_counter()
        return found

    async def in_file_thread(self, work: Callable[[], Result]) -> Result:
        """Do `work` in the one thread that writes NetCDF: HDF5 is not thread-safe."""
        return await self._linger().run_in_executor(self.service.files, holding, self.ticket, work)

    async def run(self, graph: Graph, feeds: Mapping[str, np.ndarray]) -> Results:
        """Run a graph, in a batch with what else has come for it."""
        engine = self.service.engine
        found = engine.at_once(graph, feeds, self.ticket)
        if found is not None:
            return found
        future: asyncio.Future[Results] = self._linger().create_future()
        engine.submit(graph, feeds, self.service.mailbox.receiver(future), self.ticket)
        return await future

    async def predict(
        self, surrogate: Surrogate, inputs: Mapping[str, np.ndarray], question: Question, clock: Clock | None = None
    ) -> Answer:
        """An answer with what `question` asks for; `clock` may have begun before.

        Raises InvalidInput in one of its forms, DeadlinePassed, Abandoned.
        """
        size, owner = sum(values.size for values in inputs.values()), surrogate.graphs["model"].owner
        prepared = await self.shortly((owner,), size, partial(surrogate.prepare, inputs, question, clock))
        results = await self.run(surrogate.graphs["model"], prepared.feeds)
        self.spent = (self.ticket.queued_ns, self.ticket.computed_ns)
        telemetry.MODELS.computed(surrogate.manifest.name, surrogate.to_be_finite(results))

        def conclude() -> Answer:
            answer = surrogate.conclude(prepared, results)
            telemetry.MODELS.answered(surrogate.manifest.name, answer)
            self.facts |= {
                "elements_in": size,
                "elements_out": sum(found.mean.size for found in answer.predictions.values()),
                "statement_kinds": sorted({one.kind for some in answer.statements for one in some}),
            }
            return answer

        answer = await self.shortly((owner, question.bounds, question.uncertainty), size, conclude)
        self.conclude(answer.route)
        return answer

    def conclude(self, route: tuple[RouteStep, ...]) -> None:
        """The result is there, by these steps; what follows is writing it."""
        self.route, self.concluded = route, time.perf_counter()
        if self.spent is None:
            self.spent = (self.ticket.queued_ns, self.ticket.computed_ns)


class Visits:
    """ASGI middleware: every request gets a visit, which ends with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = scope["visit"] = Visit(scope["app"].state.service, scope, receive)
        try:
            await self.app(scope, receive, partial(_in_pieces, send))
        finally:
            visit.leave()


async def _in_pieces(send: Send, message: Message) -> None:
    """Hand an answer over as the client takes it, so that it leaves when it is gone and not when it is written."""
    body, more = message.get("body", b""), message.get("more_body", False)
    if len(body) <= PIECE:
        await send(message)
        return
    for start in range(0, len(body), PIECE):
        last = start + PIECE >= len(body)
        await send({"type": message["type"], "body": body[start : start + PIECE], "more_body": more or not last})


def visit_of(request: HTTPConnection) -> Visit:
    """The stay of this request."""
    return cast(Visit, request.scope["visit"])


def service_of(request: HTTPConnection) -> Service:
    """The running service."""
    return visit_of(request).service
