"""No server: the session in a loop. Prints {arrangement: {"per_second": samples, "median": ms per run}} as JSON.

Arrangements: "4" is a batch of 4 in one run at a time that has every core; "2×4" are as many runs at a time as there are
cores, 2, of 4 samples and with one thread each.

python raw_loop.py MODEL.onnx SECONDS
"""

import json
import os
import sys
import threading
import time

import numpy as np
from onnx_session import MOST_TOGETHER, open_session

WARMING = 5


def timed(session, batch: int, runs: int, seconds: float) -> dict[str, float]:
    """Samples per second of so many runs at a time and the median time of a run, ms."""
    feeds = {"a": np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)}
    for _ in range(WARMING):
        session.run(None, feeds)
    began, times = time.perf_counter(), [[] for _ in range(runs)]

    def loop(own: list[float]) -> None:
        last = time.perf_counter()
        while last - began < seconds:
            session.run(None, feeds)
            now = time.perf_counter()
            own.append(now - last)
            last = now

    threads = [threading.Thread(target=loop, args=(own,)) for own in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [took for own in times for took in own]
    return {"per_second": batch * len(done) / (time.perf_counter() - began), "median": 1e3 * float(np.median(done))}


if __name__ == "__main__":
    path, seconds = sys.argv[1], float(sys.argv[2])
    batches = [2**k for k in range(MOST_TOGETHER.bit_length())]
    together = open_session(path)
    found = {str(batch): timed(together, batch, 1, seconds) for batch in batches}
    os.environ["THREADS"], cores = "1", len(os.sched_getaffinity(0))
    alone = open_session(path)
    found |= {f"{cores}×{batch}": timed(alone, batch, cores, seconds) for batch in batches}
    print(json.dumps(found))
