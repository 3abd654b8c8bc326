"""Through the states, sample by sample."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from models import ticket
from models.contract.audit import audited
from models.contract.case import Case, State
from models.contract.correcting import corrected
from models.contract.costs import Costs
from models.contract.reached import largest_errors, new
from models.contract.refusal import refusal
from models.contract.solving import has_lead, solved
from models.contract.wish import Tolerance, Verdict, Wish
from models.physical_model import Improved
from models.surrogate import Answer, Clock, Surrogate


def settle(
    surrogate: Surrogate,
    inputs: Mapping[str, np.ndarray],
    answer: Answer,
    wish: Wish,
    costs: Costs,
    clock: Clock,
    times: np.ndarray | None = None,
) -> tuple[Answer, tuple[Verdict, ...]]:
    """The answer as the contract leaves it, and what became of every sample; `times` are a forecast's lead times.

    Raises ToleranceNotMet for the first sample that cannot be brought to meet it, DeadlinePassed, Abandoned.
    """
    count, leads = len(answer.statements), _leads(surrogate, wish.tolerance, times)
    means = {name: prediction.mean for name, prediction in answer.predictions.items()}
    statements, verdicts = list(answer.statements), []
    for i in range(count):
        ticket.current().check()
        sample = {name: np.asarray(values[i], dtype=np.float32) for name, values in inputs.items()}
        index = i if count > 1 else None
        case = Case(surrogate, wish, sample, costs, clock, leads, times, index)
        own = (*statements[i], *largest_errors(answer, i, wish.tolerance.quantity, leads))
        first = case.state({name: values[i] for name, values in means.items()}, own, "accepted")
        state = _run(case, first)
        verdicts.append(_verdict(case, state, count))
        if state.outcome == "solved":
            verdicts[-1] = replace(verdicts[-1], audits=audited(case, answer, i, first, state))
        statements[i] = tuple(s for s in state.statements if s not in own[len(statements[i]) :])
        if verdicts[-1].is_changed:
            means = {name: _with_row(values, i, state.outputs[name]) for name, values in means.items()}
    predictions = {name: replace(p, mean=means[name]) for name, p in answer.predictions.items()}
    return replace(answer, predictions=predictions, statements=tuple(statements)), tuple(verdicts)


def _leads(surrogate: Surrogate, tolerance: Tolerance, times: np.ndarray | None) -> tuple[float | None, ...]:
    """The lead times at which a tolerance must be met one by one; (None,) where one statement is about all."""
    lead = surrogate.lead_times
    is_timed = has_lead(surrogate, tolerance.quantity)
    if lead is None or not (is_timed or (lead.input is not None and times is not None)):
        return (None,)
    return tuple(map(float, lead.values if times is None else times))


def _with_row(values: np.ndarray, index: int, row: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[index] = row
    return changed


def _verdict(case: Case, state: State, count: int) -> Verdict:
    physics = case.surrogate.physics
    avoided = None
    if physics is not None and physics.solve is not None:
        avoided = case.cost("solve") - case.clock.milliseconds / count
    return Verdict(case.is_met(state), state.outcome, state.best, avoided)


def _run(case: Case, own: State) -> State:
    """Through the states until the tolerance is met, or the last one allowed is reached.

    Raises ToleranceNotMet.
    """
    on_miss, missing = case.wish.on_miss, 0.0
    improvements = _improvements(case, own)
    state = _accepted(case, own, improvements)
    if case.is_met(state):
        return state
    if on_miss == "flag":
        return replace(state, outcome="flagged")
    exhausted = False
    if on_miss in ("correct", "solve") and improvements is not None:
        state, exhausted, missing = corrected(case, state, improvements)
    if on_miss == "solve" and not case.is_met(state) and not missing:
        state, missing = solved(case, state, exhausted)
    if not case.is_met(state):
        raise refusal(case, state, own, missing)
    return state


def _improvements(case: Case, own: State) -> Iterator[Improved] | None:
    """The corrector's steps, where it can say or do something for this wish."""
    corrector, wish = case.corrector, case.wish
    if corrector is None or case.is_met(own):
        return None
    asked = (wish.tolerance.norm, wish.tolerance.relative)
    useful = {one.kind for one in corrector.offers if (one.norm, one.relative) == asked}
    if wish.on_miss in ("flag", "refuse") and not useful.intersection(wish.accept):
        return None
    return corrector.steps(case.inputs, own.outputs, own.statements)


def _accepted(case: Case, own: State, improvements: Iterator[Improved] | None) -> State:
    """The surrogate's own answer, with what the corrector can say about it when that could decide."""
    state, iterations = own, 0
    if improvements is not None:
        first = next(improvements)
        iterations = first.iterations
        state = case.state(own.outputs, (*own.statements, *new(first.statements, own.statements)), "accepted")
    case.mark("accept", iterations, own, state)
    return state
