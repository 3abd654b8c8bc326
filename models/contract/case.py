"""One sample under a contract, and the states it goes through."""

import math
import time
from dataclasses import dataclass

import numpy as np

from models import ticket
from models.contract.costs import Costs
from models.contract.reached import Statements, reached
from models.contract.wish import Outcome, Wish
from models.physical_model import Arrays, Corrector
from models.statements import Statement
from models.surrogate import Clock, Surrogate

RESERVED = 0.1  # of the request's time, and 5 ms, to write the answer in
CAUTION = 1.5  # times the measured milliseconds must be left: other work goes on beside


@dataclass(frozen=True)
class State:
    """An answer to one sample, what is stated about it, and the statement that decides."""

    outputs: Arrays
    statements: Statements
    best: Statement | None
    outcome: Outcome = "accepted"

    @property
    def value(self) -> float:
        """Of the deciding statement; infinite without one."""
        return math.inf if self.best is None or self.best.value is None else self.best.value


@dataclass(frozen=True)
class Case:
    """One sample under a contract; `leads` are the lead times that must meet it, `times` those a forecast asks for."""

    surrogate: Surrogate
    wish: Wish
    inputs: Arrays
    costs: Costs
    clock: Clock
    leads: tuple[float | None, ...]
    times: np.ndarray | None
    index: int | None

    def is_met(self, state: State) -> bool:
        """Whether the tolerance is."""
        return state.value <= self.wish.tolerance.value

    def state(self, outputs: Arrays, statements: Statements, outcome: Outcome) -> State:
        """With the statement that decides."""
        return State(outputs, statements, reached(statements, self.wish, self.leads), outcome)

    def mark(self, step: str, iterations: int, before: State, after: State) -> None:
        """One entry of the ledger."""
        kind = None if after.best is None else after.best.kind
        values = (None if s.best is None else s.best.value for s in (before, after))
        self.clock.mark(step, self.index, iterations, kind, *values)

    @property
    def corrector(self) -> Corrector | None:
        """That of the physical model."""
        physics = self.surrogate.physics
        return None if physics is None else physics.corrector

    def cost(self, work: str) -> float:
        """Milliseconds that solving or refining takes."""
        return self.costs.of(self.surrogate, work)

    def milliseconds_left(self) -> float:
        """Until the answer must be written."""
        mine = ticket.current()
        if mine.deadline is None or mine.seconds is None:
            return math.inf
        return (mine.deadline - time.monotonic() - RESERVED * mine.seconds) * 1e3 - 5.0
