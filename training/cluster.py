"""Map a function over tasks with Dask: a local cluster of single-threaded workers, or a scheduler's address."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dask.distributed import Client, LocalCluster, as_completed

Task = TypeVar("Task")
Result = TypeVar("Result")

BATCH = 100  # tasks carry arrays; a graph of all of them at once would be large
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(function: Callable[[Task], Result], tasks: Iterable[Task], scheduler: str | None = None) -> Iterator[Result]:
    """Yield results as they complete. One worker process per core unless `scheduler` is given."""
    tasks = list(tasks)
    if scheduler is not None:
        with Client(scheduler) as client:
            yield from _collect(client, function, tasks)
        return
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")
    workers = min(os.cpu_count() or 1, len(tasks))
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield from _collect(client, function, tasks)


def _collect(client: Client, function: Callable[[Task], Result], tasks: list[Task]) -> Iterator[Result]:
    futures = client.map(function, tasks, pure=False, batch_size=BATCH)
    for future in as_completed(futures):
        yield future.result()
