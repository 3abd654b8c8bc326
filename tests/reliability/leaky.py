"""python -m tests.reliability.leaky — the service with a surrogate that keeps what it has computed: it must be caught."""

import numpy as np

from api.__main__ import main
from models.runtime import Graph

LEAK = 2**17  # bytes kept for every run
_execute = Graph.execute
_kept: list[np.ndarray] = []


def _leaking(*arguments, **options):
    _kept.append(np.ones(LEAK, np.uint8))
    return _execute(*arguments, **options)


if __name__ == "__main__":
    Graph.execute = _leaking
    main()
