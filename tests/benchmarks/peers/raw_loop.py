"""No server: the session in a loop. Prints {"batch": {"per_second": samples, "median": ms per run}} as JSON.

python raw_loop.py MODEL.onnx SECONDS
"""

import json
import sys
import time

import numpy as np
from onnx_session import MOST_TOGETHER, open_session

WARMING = 5


def timed(session, batch: int, seconds: float) -> dict[str, float]:
    """Samples per second and the median time of a run, ms."""
    feeds = {"a": np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)}
    for _ in range(WARMING):
        session.run(None, feeds)
    ticks = [time.perf_counter()]
    while ticks[-1] - ticks[0] < seconds:
        session.run(None, feeds)
        ticks.append(time.perf_counter())
    per_second = batch * (len(ticks) - 1) / (ticks[-1] - ticks[0])
    return {"per_second": per_second, "median": 1e3 * float(np.median(np.diff(ticks)))}


if __name__ == "__main__":
    session = open_session(sys.argv[1])
    batches = [2**k for k in range(MOST_TOGETHER.bit_length())]
    print(json.dumps({str(batch): timed(session, batch, float(sys.argv[2])) for batch in batches}))
