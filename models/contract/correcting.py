"""The second state: steps of the corrector, as long as they bring the tolerance nearer and are cheaper than solving."""

import math
import time
from collections.abc import Iterator

from models.contract.case import CAUTION, Case, State
from models.contract.reached import Statements
from models.physical_model import Improved
from models.statements import Statement

MOST_STEPS = 1000
STALLED = 0.99  # a converged corrector that lowers the value by less than this has no more to give


def corrected(case: Case, start: State, improvements: Iterator[Improved]) -> tuple[State, bool, float]:
    """The best of the corrector's iterates, whether it has no more to give, and the milliseconds missing for more."""
    best, iterations, exhausted, missing = start, 0, True, 0.0
    began = time.perf_counter()
    for improved in improvements:
        iterations += improved.iterations
        state = case.state(improved.outputs, improved.statements, "corrected")
        gain = state.value / best.value if math.isfinite(best.value) else 0.0
        best = state if gain < 1.0 else best
        if case.is_met(best) or iterations >= MOST_STEPS or (improved.is_converged and gain > STALLED):
            break
        further = _further_steps(best.value, case.wish.tolerance.value, min(improved.rate, max(gain, 0.1)))
        per_step = (time.perf_counter() - began) * 1e3 / max(iterations, 1)
        missing = max(per_step * CAUTION - case.milliseconds_left(), 0.0)
        if missing or (case.wish.on_miss == "solve" and further * per_step >= case.cost("solve")):
            exhausted = False
            break
    if exhausted and not case.is_met(best):
        best = _restated(case, best)
    case.mark("correct", iterations, start, best)
    return best, exhausted, missing


def _further_steps(value: float, tolerance: float, rate: float) -> float:
    """K of the module's docstring."""
    if not math.isfinite(value) or rate >= 1.0:
        return math.inf
    if rate <= 0.0:
        return 1.0
    return max(1.0, math.ceil((math.log(value) - math.log(tolerance)) / -math.log(rate)))


def _restated(case: Case, state: State) -> State:
    """With the bound of the mathematics computed anew: it may say more than what the steps have carried along."""
    if case.surrogate.physics is None:
        return state
    anew = case.surrogate.physics.statements(case.inputs, state.outputs)
    return case.state(state.outputs, (*_saying_more(state.statements, anew), *anew), state.outcome)


def _saying_more(statements: Statements, anew: Statements) -> Statements:
    """Those that say more than any of `anew` about the same."""

    def about(s: Statement) -> tuple[object, ...]:
        return s.quantity, s.norm, s.relative, s.kind, s.truth, s.lead_time

    values = {about(s): s.value for s in anew if s.value is not None}
    return tuple(s for s in statements if s.value is not None and s.value < values.get(about(s), math.inf))
