"""The last state: the reference solver's answer, once more on a finer grid where that may help."""

import math
from collections.abc import Callable

import numpy as np

from models import ticket
from models.contract.case import CAUTION, Case, State
from models.contract.reached import Statements
from models.errors import DeadlinePassed, NotOffered, OutOfRange
from models.fields import LEAD_TIME
from models.physical_model import Arrays, Improved
from models.statements import Statement
from models.surrogate import Surrogate
from models.ticket import Ticket

HOPELESS = 4.0  # halving the grid lowers the error of a first-order method to a half, of a second-order one to this


def solved(case: Case, start: State, exhausted: bool) -> tuple[State, float]:
    """The solver's answer, once more on a finer grid where that may help; and the milliseconds missing for it."""
    corrector, best = case.corrector, start
    stages: list[tuple[str, Callable[[State], Improved]]] = []
    if corrector is None:
        stages.append(("solve", lambda _: _solution(case)))
    else:
        refine = corrector.refine
        if not exhausted:
            stages.append(("solve", lambda _: corrector.solve(case.inputs)))
        stages.append(("refine", lambda state: refine(case.inputs, state.outputs)))
    for work, call in stages:
        if case.is_met(best) or (work == "refine" and best.value > HOPELESS * case.wish.tolerance.value):
            break
        left = case.milliseconds_left()
        missing = max(case.cost(work) * CAUTION - left, 0.0)
        try:
            improved = None if missing else _in_time(case, work, call, best)
        except OutOfRange:  # beyond what the solver can do
            return best, 0.0
        if improved is None:
            return best, missing or max(case.cost(work), left)
        state = case.state(improved.outputs, improved.statements, "solved")
        case.mark(work, improved.iterations, best, state)
        best = state if state.value < best.value else best
    return best, 0.0


def _in_time(case: Case, work: str, call: Callable[[State], Improved], state: State) -> Improved | None:
    """What `call` gives, or None where it would take so long that a refusal came too late.

    Raises Ended when the request itself has ended.
    """
    mine, left = ticket.current(), case.milliseconds_left()
    inner = Ticket(None if math.isinf(left) else left / 1e3)
    if mine is not ticket.UNLIMITED:
        mine.watch(lambda: inner.end(mine.reason or DeadlinePassed(0.0)))
    try:
        return case.costs.timed(case.surrogate, work, lambda: ticket.holding(inner, lambda: call(state)))
    except DeadlinePassed:
        mine.check()
        return None


def _solution(case: Case) -> Improved:
    """The fallback solver's answer, and what is certain about it.

    Raises NotOffered.
    """
    surrogate, physics, lead = case.surrogate, case.surrogate.physics, case.surrogate.lead_times
    if physics is None or physics.solve is None:
        raise NotOffered(f"a solution by {surrogate.manifest.name}", "none")
    inputs = {name: values.astype(np.float64) for name, values in case.inputs.items()}
    clock = None if lead is None else lead.input
    if clock is not None and case.times is not None:
        inputs[clock] = case.times
    exact = physics.solve(inputs)
    outputs = {name: values.astype(np.float32) for name, values in exact.items()}
    if clock is not None and physics.bound_times is not None:
        found = {name: values if case.times is not None else values[None] for name, values in outputs.items()}
        statements = surrogate.trajectory_statements(case.inputs, np.atleast_1d(inputs[clock]), found)
    else:
        statements = physics.statements(case.inputs, outputs)
    if physics.solves_truth:
        statements += _rounding(case, exact, outputs)
    if lead is not None and clock is None and case.times is not None:
        chosen = [int(np.abs(lead.values - t).argmin()) for t in case.times]
        outputs = {name: v[chosen] if has_lead(surrogate, name) else v for name, v in outputs.items()}
    return Improved(outputs, statements)


def _rounding(case: Case, exact: Arrays, outputs: Arrays) -> Statements:
    """The answer is the reference solution; what separates them is single precision."""
    truth = str(case.surrogate.manifest.document["truth"])
    assumption = "the answer is the reference solver's own, rounded to single precision"
    return tuple(
        Statement(
            name,
            "sup",
            float(np.abs(values - outputs[name]).max()),
            "guaranteed_vs_discrete",
            None,
            truth,
            (assumption,),
        )
        for name, values in exact.items()
    )


def has_lead(surrogate: Surrogate, quantity: str) -> bool:
    """Whether an output has an axis of lead times."""
    axes = surrogate.manifest.output(quantity).axes
    return bool(axes) and axes[0].name == LEAD_TIME
