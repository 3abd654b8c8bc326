"""Map a function over tasks with Dask: a local cluster of single-threaded workers, or a scheduler's address."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from dask.distributed import Client, LocalCluster, as_completed

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4  # tasks submitted per thread: enough to keep it busy, few enough that waiting tasks and results stay small
# workers compute with one thread, and keep memory that they free: Dask has all beyond 64 KiB given back at once, and
# solvers that allocate an array in every line then spend more time on page faults than on computing
WORKER_VARIABLES = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25),
}  # fmt: skip


def run(function: Callable[[Task], Result], tasks: Iterable[Task], scheduler: str | None = None) -> Iterator[Result]:
    """Yield results as they complete; tasks are taken as workers free up. One process per core without `scheduler`."""
    if scheduler is not None:
        with Client(scheduler) as client:
            yield from _collect(client, function, iter(tasks))
        return
    for variable, value in WORKER_VARIABLES.items():
        os.environ.setdefault(variable, value)
    waiting = iter(tasks)
    head = list(islice(waiting, os.cpu_count() or 1))
    if not head:
        return
    with (
        LocalCluster(n_workers=len(head), threads_per_worker=1, dashboard_address=":0") as local,
        Client(local) as client,
    ):
        yield from _collect(client, function, chain(head, waiting))


def _collect(client: Client, function: Callable[[Task], Result], tasks: Iterator[Task]) -> Iterator[Result]:
    running = as_completed(_submit(client, function, tasks, 0))
    for future in running:
        running.update(_submit(client, function, tasks, running.count()))
        yield future.result()


def _submit(client: Client, function: Callable[[Task], Result], tasks: Iterator[Task], running: int) -> list:
    """Futures of as many tasks as keep the present workers busy; a future that is dropped is forgotten everywhere."""
    wanted = AHEAD * max(1, sum(client.nthreads().values()))
    if running > wanted // 2:
        return []
    return client.map(function, list(islice(tasks, wanted - running)), pure=False)
