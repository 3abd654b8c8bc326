"""What solving costs, measured on this machine."""

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from models.bundle import GOLDEN_FILE
from models.errors import Ended, SurrogateError
from models.physical_model import Arrays, Corrector
from models.surrogate import Surrogate

Result = TypeVar("Result")


class Costs:
    """Measured milliseconds of solving and refining, by bundle: at first on its golden inputs, then on requests too."""

    WEIGHT = 0.25  # of a new measurement in the running mean
    MOST = 2.0  # times the mean that a measurement counts: one request of fast waves is not what the next ones take

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], float] = {}

    def measure(self, surrogate: Surrogate) -> None:
        """Solve, and refine, one golden input, unless that has been done: the first run also compiles.

        A solver that fails on it is never in time. Raises what ends the request in which it happens.
        """
        physics, key = surrogate.physics, surrogate.manifest.digest
        if physics is None or physics.solve is None or (key, "solve") in self._found:
            return
        golden = surrogate.bundle.arrays(GOLDEN_FILE)
        inputs = {item.name: np.asarray(golden[f"input.{item.name}"][0]) for item in surrogate.manifest.inputs}
        if surrogate.lead_times is not None and surrogate.lead_times.input is not None:
            inputs[surrogate.lead_times.input] = np.asarray(surrogate.lead_times.stop)
        try:
            self._measure(key, physics.corrector, physics.solve, inputs)
        except Ended:
            raise
        except (SurrogateError, ArithmeticError):
            self._found |= {(key, work): math.inf for work in ("solve", "refine")}

    def _measure(
        self, key: str, corrector: Corrector | None, solve: Callable[[Arrays], Arrays], inputs: Arrays
    ) -> None:
        if corrector is None:
            solve(inputs)
            self._timed(key, "solve", lambda: solve(inputs))
            return
        outputs = corrector.solve(inputs).outputs
        self._timed(key, "refine", lambda: corrector.refine(inputs, outputs))
        self._timed(key, "solve", lambda: corrector.solve(inputs))  # last: with it, all is known

    def of(self, surrogate: Surrogate, work: str) -> float:
        """Milliseconds of `work`, solve or refine."""
        self.measure(surrogate)
        return self._found[surrogate.manifest.digest, work]

    def timed(self, surrogate: Surrogate, work: str, call: Callable[[], Result]) -> Result:
        """What `call` returns; its time goes into the mean."""
        return self._timed(surrogate.manifest.digest, work, call)

    def _timed(self, key: str, work: str, call: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        result = call()
        spent = (time.perf_counter() - started) * 1e3
        with self._lock:
            before = self._found.get((key, work), spent)
            self._found[key, work] = before + self.WEIGHT * (min(spent, self.MOST * before) - before)
        return result
