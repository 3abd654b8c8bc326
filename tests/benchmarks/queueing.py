"""What chance alone does to latencies: customers at random, a fixed time of service, first come first served (M/D/c)."""

import heapq

import numpy as np

CUSTOMERS, WARMING = 60_000, 2_000


def sojourns(servers: int, load: float, customers: int = CUSTOMERS, seed: int = 0) -> np.ndarray:
    """Waiting and service of every customer, in times of service, at a share `load` < 1 of what the servers can do."""
    gaps = np.random.default_rng(seed).exponential(1.0 / (servers * load), customers)
    free, found = [0.0] * servers, np.empty(customers)
    for index, arrival in enumerate(np.cumsum(gaps)):
        end = max(float(arrival), heapq.heappop(free)) + 1.0
        heapq.heappush(free, end)
        found[index] = end - arrival
    return found[WARMING:]


def tail_ratio(servers: int, load: float) -> float:
    """99th percentile over median of the sojourn."""
    middle, tail = np.percentile(sojourns(servers, load), [50, 99])
    return float(tail / middle)
