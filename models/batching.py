"""Requests in flight → batches, without waiting: while a session runs, what arrives joins the next batch.

An idle engine starts at once, on every core if nothing else runs. Batches hold samples of one graph (so of one model and
version) and one shape, at most as many as run fastest (`measure`), and leave others their share; larger requests run in parts, between which others get their turn, oldest first.
Expired and abandoned work in the queue never runs; a run is stopped when nobody waits for it any more. A graph that takes
less time than handing it to another thread does not queue at all.
"""

import logging
import math
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from models.errors import BrokenBundle, Unavailable
from models.runtime import Graph, Stop
from models.ticket import UNLIMITED, Ticket, current

Results = list[np.ndarray]
Deliver = Callable[[Results | None, BaseException | None], None]
Key = tuple[int, tuple[tuple[int, ...], ...]]

LARGEST_BATCH = 16
UNMEASURED_BATCH = 4
WORTHWHILE = 0.97  # a larger batch must save this much per sample to be preferred: latency counts too
SPREADING_ROUNDS = 5
SLOWER = 1.25
AT_ONCE = 1e-4  # seconds: about what the way to another thread and back takes
BOUNDS = tuple(round(1e9 * s) for s in (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5))
RETRY_AFTER = 1.0
_log = logging.getLogger(__name__)


@dataclass
class Statistics:
    """What one graph has done; times in nanoseconds.

    `batches` counts runs by batch size with their time, `waits` samples and `times` runs by time, up to each of BOUNDS.
    """

    samples: int = 0
    runs: int = 0
    failures: int = 0
    dropped: int = 0
    queued_ns: int = 0
    computed_ns: int = 0
    last: float = 0.0
    batches: dict[int, list[int]] = field(default_factory=dict)
    waits: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


@dataclass(eq=False)
class _Job:
    """Samples of one request, few enough for one run."""

    graph: Graph
    feeds: Mapping[str, np.ndarray]
    count: int
    ticket: Ticket
    deliver: Deliver
    since: int

    @property
    def key(self) -> Key:
        return id(self.graph), tuple(values.shape[1:] for values in self.feeds.values())


class _Parts:
    """Puts the parts of a large request together; the first failure is the request's."""

    def __init__(self, count: int, deliver: Deliver) -> None:
        self._left, self._deliver, self._lock = count, deliver, threading.Lock()
        self._results: list[Results | None] = [None] * count

    def receive(self, index: int, results: Results | None, error: BaseException | None) -> None:
        """One part has ended."""
        with self._lock:
            if self._left <= 0:
                return
            self._left = self._left - 1 if error is None else 0
            self._results[index] = results
            if self._left:
                return
        if error is not None:
            self._deliver(None, error)
            return
        columns = zip(*(part or [] for part in self._results), strict=True)
        self._deliver([np.concatenate(column) for column in columns], None)


class Engine:
    """Runs graphs in threads of its own, one for each run that may go on at the same time.

    `close` ends it once what was accepted is done.
    """

    def __init__(self, runs: int = 1) -> None:
        self._queues: dict[Key, deque[_Job]] = {}
        self._running: dict[Stop, list[_Job]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._counting = threading.Lock()
        self._statistics: dict[tuple[str, str], Statistics] = {}
        self._threads = [threading.Thread(target=self._serve, name=f"engine-{n}", daemon=True) for n in range(runs)]
        for thread in self._threads:
            thread.start()

    def submit(self, graph: Graph, feeds: Mapping[str, np.ndarray], deliver: Deliver, ticket: Ticket) -> None:
        """Have `deliver(outputs, error)` called, from the engine's thread, when the samples have run.

        Every feed has a leading batch axis of one length.
        """
        if ticket is not UNLIMITED:
            ticket.watch(self._reconsider)
        count, now = len(next(iter(feeds.values()))), time.perf_counter_ns()
        size = graph.batch or UNMEASURED_BATCH
        if count <= size:
            self._enqueue([_Job(graph, feeds, count, ticket, deliver, now)])
            return
        starts = range(0, count, size)
        parts = _Parts(len(starts), deliver)
        jobs = []
        for index, first in enumerate(starts):
            some = {name: values[first : first + size] for name, values in feeds.items()}
            receive = _receiver(parts, index)
            jobs.append(_Job(graph, some, min(size, count - first), ticket, receive, now))
        self._enqueue(jobs)

    def at_once(self, graph: Graph, feeds: Mapping[str, np.ndarray], ticket: Ticket) -> Results | None:
        """The outputs of a graph that takes next to no time, run in the caller's thread; None of any other graph.

        Raises DeadlinePassed, Abandoned, or what the run raised.
        """
        count = len(next(iter(feeds.values())))
        if graph.seconds > AT_ONCE or graph.batch is None or count > graph.batch or self._closed:
            return None
        ticket.check()
        started = time.perf_counter_ns()
        try:
            results = graph.execute(feeds)
        except Exception:
            self.statistics(graph).failures += 1
            raise
        ticket.note(0, self._count(graph, [(0, count)], started), count)
        return results

    def run(self, graph: Graph, feeds: Mapping[str, np.ndarray]) -> Results:
        """Submit under the ticket at hand and wait.

        Raises DeadlinePassed, Abandoned, or what the run raised.
        """
        found = self.at_once(graph, feeds, current())
        if found is not None:
            return found
        future: Future[Results] = Future()

        def deliver(results: Results | None, error: BaseException | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(results or [])

        self.submit(graph, feeds, deliver, current())
        return future.result()

    def statistics(self, graph: Graph) -> Statistics:
        """What one graph has done so far; kept by model, version and file, so a reload goes on counting."""
        return self._statistics.setdefault((graph.owner, graph.file), Statistics())

    def all_statistics(self) -> Mapping[tuple[str, str], Statistics]:
        """What every graph has done so far, by owner (name/version) and file."""
        return dict(self._statistics)

    @property
    def waiting(self) -> int:
        """Samples in the queue."""
        with self._changed:
            return sum(job.count for queue in self._queues.values() for job in queue)

    @property
    def waiting_by_owner(self) -> Mapping[str, int]:
        """Jobs in the queue, by name/version."""
        with self._changed:
            return Counter(job.graph.owner for queue in self._queues.values() for job in queue)

    def close(self) -> None:
        """Finish what was accepted; refuse what comes after."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, jobs: list[_Job]) -> None:
        with self._changed:
            refused = self._closed
            if not refused:
                self._queues.setdefault(jobs[0].key, deque()).extend(jobs)
                self._changed.notify()
        if refused:
            jobs[0].deliver(None, Unavailable("a running engine", "one that is shutting down", RETRY_AFTER))

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._queues:
                    if self._closed:
                        return
                    self._changed.wait()
                batch = self._take()
                is_alone = not (self._running or self._queues)
                stop = Stop()
                self._running[stop] = batch
            alive = [job for job in batch if job.ticket.reason is None]
            self._drop([job for job in batch if job.ticket.reason is not None])
            if alive:
                self._run(alive, stop, is_alone)
            with self._changed:
                self._running.pop(stop)

    def _take(self) -> list[_Job]:
        """The next batch: of the queue whose first job is the oldest, its share and no more than run fastest."""
        key = min(self._queues, key=lambda k: self._queues[k][0].since)
        queue = self._queues[key]
        batch = [queue.popleft()]
        room = min(batch[0].graph.batch or UNMEASURED_BATCH, self._share(key, batch[0].count)) - batch[0].count
        while queue and queue[0].count <= room:
            room -= queue[0].count
            batch.append(queue.popleft())
        if not queue:
            del self._queues[key]
        return batch

    def _share(self, key: Key, taken: int) -> int:
        """Of all samples of one key that are here, an equal part for every run and one for the queue.

        So the next batch is there when a run ends, before those who got their answers have asked again.
        """
        if len(self._threads) == 1:
            return LARGEST_BATCH
        here = taken + sum(job.count for job in self._queues[key])
        here += sum(job.count for some in self._running.values() for job in some if job.key == key)
        return math.ceil(here / (len(self._threads) + 1))

    def _run(self, batch: list[_Job], stop: Stop, is_alone: bool = False) -> None:
        graph, started = batch[0].graph, time.perf_counter_ns()
        try:
            results = graph.execute(_joined(batch), stop, is_alone)
        except Exception as error:  # noqa: BLE001  ONNX Runtime raises a dozen unrelated classes
            self._failed(batch, error)
            return
        took = self._count(graph, [(started - job.since, job.count) for job in batch], started)
        first = 0
        for job in batch:
            part = results if len(batch) == 1 else [values[first : first + job.count] for values in results]
            first += job.count
            job.ticket.note(started - job.since, took, sum(one.count for one in batch))
            _hand_over(job, part, None)

    def _failed(self, batch: list[_Job], error: Exception) -> None:
        """Those who still wait run again one by one: what broke a batch is the fault of one of them."""
        ended = [job for job in batch if job.ticket.reason is not None]
        self._drop(ended)
        waiting = [job for job in batch if job not in ended]
        if len(batch) == 1 and waiting:
            self.statistics(batch[0].graph).failures += 1
            _hand_over(batch[0], None, error)
            return
        for job in waiting:
            self._run([job], Stop())

    def _drop(self, jobs: list[_Job]) -> None:
        for job in jobs:
            self.statistics(job.graph).dropped += 1
            _hand_over(job, None, job.ticket.reason)

    def _count(self, graph: Graph, waits: list[tuple[int, int]], started: int) -> int:
        """Note a run of samples, (ns that they waited, how many) of each job; the time it took."""
        took = time.perf_counter_ns() - started
        count = sum(samples for _, samples in waits)
        facts = self.statistics(graph)
        with self._counting:
            facts.samples, facts.runs, facts.last = facts.samples + count, facts.runs + 1, time.time()
            for wait, samples in waits:
                facts.queued_ns += wait * samples
                facts.waits[bisect_left(BOUNDS, wait)] += samples
            facts.computed_ns += took
            facts.times[bisect_left(BOUNDS, took)] += 1
            entry = facts.batches.setdefault(count, [0, 0])
            entry[0], entry[1] = entry[0] + 1, entry[1] + took
        return took

    def _reconsider(self) -> None:
        """A ticket has ended: forget its work in the queue; stop a run that nobody waits for."""
        dropped = []
        with self._changed:
            for key in list(self._queues):
                queue = self._queues[key]
                dropped += [job for job in queue if job.ticket.reason is not None]
                self._queues[key] = deque(job for job in queue if job.ticket.reason is None)
                if not self._queues[key]:
                    del self._queues[key]
            for stop, batch in self._running.items():
                if all(job.ticket.reason is not None for job in batch):
                    stop.now()
        self._drop(dropped)


def _receiver(parts: _Parts, index: int) -> Deliver:
    return lambda results, error: parts.receive(index, results, error)


def _hand_over(job: _Job, results: Results | None, error: BaseException | None) -> None:
    """A receiver that fails must not end the engine."""
    try:
        job.deliver(results, error)
    except Exception:  # noqa: BLE001  whatever it is, it is logged and the engine goes on
        _log.exception("an answer of %s could not be handed over", job.graph.owner)


def _joined(batch: list[_Job]) -> Mapping[str, np.ndarray]:
    if len(batch) == 1:
        return batch[0].feeds
    return {name: np.concatenate([job.feeds[name] for job in batch]) for name in batch[0].feeds}


def measure(graph: Graph, largest: int = LARGEST_BATCH, seconds: float = 0.5) -> None:
    """Find the batch size that runs fastest per sample on this machine: the smallest within 3 % of the best of 1, 2, 4, ….

    Measured on ones, the fastest of several rounds over all sizes, as many as fit into `seconds`: something else may run
    beside it. Sizes whose first run takes twice as long per sample as the best are left out. A graph of one fixed batch
    size has no choice. What larger runs took is given back. Raises BrokenBundle.
    """
    began, fastest = time.perf_counter(), dict[int, float]()
    size = graph.fixed_batch or 1
    largest = graph.fixed_batch or largest
    while size <= largest and time.perf_counter() - began < seconds:
        feeds = graph.blank(size)
        try:
            graph.execute(feeds)  # allocates
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            if not fastest:
                raise BrokenBundle(graph.file, f"a graph that runs {size} at once", str(error)[:200]) from error
            break  # too large for the device: what is larger runs in parts
        fastest[size] = _timed(graph, feeds) / size
        size *= 2
    fastest = {size: spent for size, spent in fastest.items() if spent < 2 * min(fastest.values())}
    while time.perf_counter() - began < seconds:
        for size in fastest:
            fastest[size] = min(fastest[size], _timed(graph, graph.blank(size)) / size)
    best = min(size for size, spent in fastest.items() if spent <= min(fastest.values()) / WORTHWHILE)
    graph.batch, graph.seconds = best, best * fastest[best]
    graph.shrink()


def spread(graph: Graph) -> None:
    """Have runs that nothing goes on beside use every core, unless that is slower.

    While others keep the cores busy neither is faster, and nothing is learnt about a run that is alone.
    """
    if not graph.spread():
        return
    feeds = graph.blank(graph.fixed_batch or 1)
    graph.execute(feeds, is_alone=True)  # allocates
    rounds = [[_timed(graph, feeds, is_alone) for is_alone in (False, True)] for _ in range(SPREADING_ROUNDS)]
    narrow, wide = np.min(rounds, axis=0)
    if wide > SLOWER * narrow:
        graph.narrow()


def _timed(graph: Graph, feeds: Mapping[str, np.ndarray], is_alone: bool = False) -> float:
    started = time.perf_counter()
    graph.execute(feeds, is_alone=is_alone)
    return time.perf_counter() - started
