"""The tolerance contract: accept → correct → solve → refuse, the cheapest way to an error that is stated to be small.

A wish names a tolerance (of a quantity, in a norm), the kinds of statement that may meet it, and how far to go when the
answer misses: `flag` (answer all the same, marked), `correct`, `solve`, `refuse`. Those but `flag` end in a refusal, never
in an answer that misses. What cannot be met whatever the inputs is said before any work (`require_possible`).

    k = ⌈ln(value/tolerance) / |ln rate|⌉ further steps,   leave for the solver when k · t_step ≥ t_solve

Times are measured: of solving on the bundle's golden inputs, then on requests; of a step while stepping. Absence of an
acceptable statement is a miss. Statistical statements are about the surrogate's own answers, so a corrected or solved
answer has none.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from models import ticket
from models.bundle import GOLDEN_FILE
from models.errors import DeadlinePassed, NotOffered, SurrogateError, ToleranceNotMet, UnknownOption
from models.fields import LEAD_TIME
from models.physical_model import Arrays, Corrector, Improved
from models.statements import Statement
from models.surrogate import Answer, Clock, Question, Surrogate
from models.ticket import Ticket

Result = TypeVar("Result")
OnMiss = Literal["flag", "correct", "solve", "refuse"]
Outcome = Literal["accepted", "flagged", "corrected", "solved", "refused"]
Statements = tuple[Statement, ...]
Acceptable = Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator"]
KINDS: tuple[Acceptable, ...] = ("guaranteed", "guaranteed_vs_discrete", "statistical", "indicator")
"""From the strongest to the weakest."""
ACCEPTED: tuple[Acceptable, ...] = KINDS[:3]
MOST_STEPS = 1000
STALLED = 0.99  # a converged corrector that lowers the value by less than this has no more to give
HOPELESS = 4.0  # halving the grid lowers the error of a first-order method to a half, of a second-order one to this
CAUTION = 1.5  # times the measured milliseconds must be left: other work goes on beside
RESERVED = 0.1  # of the request's time, and 5 ms, to write the answer in
SAME_TIME = 1e-7


@dataclass(frozen=True)
class Tolerance:
    """The error of `quantity` in `norm` shall be at most `value`, relative to the norm of the truth when `relative`."""

    quantity: str
    norm: str
    value: float
    relative: bool = False


@dataclass(frozen=True)
class Wish:
    """A tolerance, what to do when the answer misses it, and which kinds of statement may meet it."""

    tolerance: Tolerance
    on_miss: OnMiss = "flag"
    accept: tuple[Acceptable, ...] = ACCEPTED


@dataclass(frozen=True)
class Verdict:
    """What became of one sample; `statement` is the best reached, `avoided` milliseconds against solving at once."""

    met: bool
    outcome: Outcome
    statement: Statement | None
    avoided: float | None

    @property
    def is_changed(self) -> bool:
        """Whether the answer is no longer the surrogate's own."""
        return self.outcome in ("corrected", "solved")

    def document(self, wish: Wish) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "met": self.met, "outcome": self.outcome, "on_miss": wish.on_miss, "accept": list(wish.accept),
            "kind": None if self.statement is None else self.statement.kind,
            "statement": None if self.statement is None else self.statement.document(),
            "tolerance": vars(wish.tolerance), "avoided_milliseconds": self.avoided,
        }  # fmt: skip


# --- before any work ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """A kind of statement in a norm: about the surrogate's `own` answer, and about a `better` one."""

    norm: str
    kind: Acceptable
    relative: bool
    own: bool
    better: bool


def offers(surrogate: Surrogate, quantity: str, question: Question) -> tuple[Offer, ...]:
    """Every kind of statement that can be reached about one output."""
    found: list[Offer] = []
    physics = surrogate.physics
    if physics is not None:
        further = () if physics.corrector is None else physics.corrector.offers
        solvable = physics.solve is not None
        for norm, kind in (*physics.bounds, *further):
            if kind in KINDS:
                relatives = (False, True) if norm in physics.relative_norms else (False,)
                found += [Offer(norm, _kind(kind), relative, True, solvable) for relative in relatives]
        if physics.solves_truth:
            found.append(Offer("sup", "guaranteed_vs_discrete", False, False, True))
    if quantity in surrogate.calibrations:
        found.append(Offer("band", "statistical", False, True, False))
        if question.band == "simultaneous":
            found.append(Offer("sup", "statistical", False, True, False))
    return tuple(found)


def _kind(text: str) -> Acceptable:
    return next(kind for kind in KINDS if kind == text)


def require_possible(surrogate: Surrogate, wish: Wish, question: Question) -> None:
    """Raises UnknownOption, naming the field, when no inputs whatever could let the wish be met."""
    tolerance, outputs = wish.tolerance, [item.name for item in surrogate.manifest.outputs]
    if not (math.isfinite(tolerance.value) and tolerance.value > 0.0):
        raise UnknownOption("tolerance.value", "a positive number", f"{tolerance.value:g}")
    if tolerance.quantity not in outputs:
        raise UnknownOption("tolerance.quantity", f"one of the outputs {', '.join(outputs)}", f"'{tolerance.quantity}'")
    offered = offers(surrogate, tolerance.quantity, question)
    _require_route(surrogate, wish.on_miss)
    listed = "; ".join(f"{n} ({', '.join(sorted({o.kind for o in offered if o.norm == n}))})" for n in _norms(offered))
    name = surrogate.manifest.name
    if tolerance.norm not in _norms(offered):
        expected = (
            f"a norm in which the error of {tolerance.quantity} of {name} can be stated: {listed or 'there is none'}"
        )
        raise UnknownOption("tolerance.norm", expected, f"'{tolerance.norm}'")
    offered = tuple(o for o in offered if o.norm == tolerance.norm and o.relative == tolerance.relative)
    if not offered:
        expected = f"false: {name} makes no relative statement in the norm {tolerance.norm}"
        raise UnknownOption("tolerance.relative", expected, "true")
    _require_kind(wish, offered)


def _norms(offered: tuple[Offer, ...]) -> list[str]:
    return list(dict.fromkeys(offer.norm for offer in offered))


def _require_route(surrogate: Surrogate, on_miss: OnMiss) -> None:
    physics = surrogate.physics
    possible = ["flag", "refuse"]
    if physics is not None and physics.corrector is not None:
        possible.append("correct")
    if physics is not None and physics.solve is not None:
        possible.append("solve")
    if on_miss not in possible:
        missing = "corrector" if on_miss == "correct" else "solver"
        expected = f"{', '.join(possible)}: {surrogate.manifest.name} has no {missing}"
        raise UnknownOption("on_miss", expected, f"'{on_miss}'")


def _require_kind(wish: Wish, offered: tuple[Offer, ...]) -> None:
    goes_on, norm = wish.on_miss in ("correct", "solve"), wish.tolerance.norm
    reachable = {o.kind for o in offered if o.own or (o.better and goes_on)}
    if not reachable.intersection(wish.accept):
        expected = (
            f"a kind that statements in the norm {norm} can have: {', '.join(sorted(reachable)) or 'there is none'}"
        )
        raise UnknownOption("accept", expected, ", ".join(wish.accept) or "nothing")
    if goes_on and not {o.kind for o in offered if o.better}.intersection(wish.accept):
        expected = f"flag or refuse: nothing acceptable is stated in the norm {norm} about a corrected or solved answer"
        raise UnknownOption("on_miss", expected, f"'{wish.on_miss}'")


# --- what things cost -----------------------------------------------------------------------------------------------


class Costs:
    """Measured milliseconds of solving and refining, by bundle: at first on its golden inputs, then on requests too."""

    WEIGHT = 0.25  # of a new measurement in the running mean

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], float] = {}

    def measure(self, surrogate: Surrogate) -> None:
        """Solve, and refine, one golden input, unless that has been done: the first run also compiles.

        A solver that fails on it is never in time.
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
        self._timed(key, "solve", lambda: corrector.solve(inputs))
        self._timed(key, "refine", lambda: corrector.refine(inputs, outputs))

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
            self._found[key, work] = before + self.WEIGHT * (spent - before)
        return result


def _corrector(surrogate: Surrogate) -> Corrector | None:
    return None if surrogate.physics is None else surrogate.physics.corrector


# --- what has been reached ------------------------------------------------------------------------------------------


def reached(statements: Statements, wish: Wish, leads: tuple[float | None, ...] = (None,)) -> Statement | None:
    """The acceptable statement that decides: the strongest kind that meets the tolerance, else the least value.

    Of several lead times, the one that is worst: all must meet it. None where one of them has no acceptable statement.
    """
    tolerance, worst = wish.tolerance, None

    def rank(s: Statement) -> tuple[bool, float, float]:
        value = math.inf if s.value is None else s.value
        missed = value > tolerance.value
        return missed, 0.0 if missed else KINDS.index(_kind(s.kind)), value

    for lead in leads:
        found = [s for s in statements if _is_about(s, wish, lead)]
        if not found:
            return None
        best = min(found, key=rank)
        worst = best if worst is None or rank(best) > rank(worst) else worst
    return worst


def _is_about(statement: Statement, wish: Wish, lead: float | None) -> bool:
    tolerance = wish.tolerance
    named = (statement.quantity, statement.norm, statement.relative)
    if named != (tolerance.quantity, tolerance.norm, tolerance.relative) or statement.kind not in wish.accept:
        return False
    if statement.value is None or not math.isfinite(statement.value):
        return False
    return lead is None or statement.lead_time is None or abs(statement.lead_time - lead) < SAME_TIME


def largest_errors(answer: Answer, index: int, quantity: str, leads: tuple[float | None, ...]) -> Statements:
    """What a simultaneous band says in the sup norm: the largest distance from the answer to an end of the band.

    That is more than the half-width where errors are symmetric in another scale. One statement per lead time.
    """
    band = answer.bands.get(quantity)
    said = [s for s in answer.statements[index] if (s.quantity, s.norm, s.kind) == (quantity, "band", "statistical")]
    if band is None or not said or answer.question.band != "simultaneous":
        return ()
    mean = answer.predictions[quantity].mean[index]
    reach = np.maximum(band.upper[index] - mean, mean - band.lower[index])
    parts = [reach] if leads == (None,) else list(reach)
    of_lead = said if len(said) == len(parts) else said[:1] * len(parts)
    meaning = ("value is the largest half-width", "value is the largest distance from the answer to an end of the band")
    return tuple(
        replace(
            one, norm="sup", value=float(part.max()), lead_time=lead if lead is not None else one.lead_time,
            assumptions=tuple(text.replace(*meaning) for text in one.assumptions),
        )
        for one, part, lead in zip(of_lead, parts, leads, strict=True)
    )  # fmt: skip


# --- the states -----------------------------------------------------------------------------------------------------


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

    def cost(self, work: str) -> float:
        """Milliseconds that solving or refining takes."""
        return self.costs.of(self.surrogate, work)

    def milliseconds_left(self) -> float:
        """Until the answer must be written."""
        mine = ticket.current()
        if mine.deadline is None or mine.seconds is None:
            return math.inf
        return (mine.deadline - time.monotonic() - RESERVED * mine.seconds) * 1e3 - 5.0


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
        sample = {name: np.asarray(values[i], dtype=np.float32) for name, values in inputs.items()}
        index = i if count > 1 else None
        case = Case(surrogate, wish, sample, costs, clock, leads, times, index)
        own = (*statements[i], *largest_errors(answer, i, wish.tolerance.quantity, leads))
        state = _run(case, case.state({name: values[i] for name, values in means.items()}, own, "accepted"))
        verdicts.append(_verdict(case, state, count))
        statements[i] = tuple(s for s in state.statements if s not in own[len(statements[i]) :])
        if verdicts[-1].is_changed:
            means = {name: _with_row(values, i, state.outputs[name]) for name, values in means.items()}
    predictions = {name: replace(p, mean=means[name]) for name, p in answer.predictions.items()}
    return replace(answer, predictions=predictions, statements=tuple(statements)), tuple(verdicts)


def _leads(surrogate: Surrogate, tolerance: Tolerance, times: np.ndarray | None) -> tuple[float | None, ...]:
    """The lead times at which a tolerance must be met one by one; (None,) where one statement is about all."""
    lead = surrogate.lead_times
    is_timed = _has_lead(surrogate, tolerance.quantity)
    if lead is None or not (is_timed or (lead.input is not None and times is not None)):
        return (None,)
    return tuple(map(float, lead.values if times is None else times))


def _has_lead(surrogate: Surrogate, quantity: str) -> bool:
    axes = surrogate.manifest.output(quantity).axes
    return bool(axes) and axes[0].name == LEAD_TIME


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
        state, exhausted, missing = _corrected(case, state, improvements)
    if on_miss == "solve" and not case.is_met(state) and not missing:
        state, missing = _solved(case, state, exhausted)
    if not case.is_met(state):
        raise _refusal(case, state, own, missing)
    return state


def _improvements(case: Case, own: State) -> Iterator[Improved] | None:
    """The corrector's steps, where it can say or do something for this wish."""
    corrector, wish = _corrector(case.surrogate), case.wish
    if corrector is None or case.is_met(own):
        return None
    useful = {kind for norm, kind in corrector.offers if norm == wish.tolerance.norm}
    if wish.on_miss in ("flag", "refuse") and not useful.intersection(wish.accept):
        return None
    return corrector.steps(case.inputs, own.outputs, own.statements)


def _accepted(case: Case, own: State, improvements: Iterator[Improved] | None) -> State:
    """The surrogate's own answer, with what the corrector can say about it when that could decide."""
    state, iterations = own, 0
    if improvements is not None:
        first = next(improvements)
        iterations = first.iterations
        state = case.state(own.outputs, (*own.statements, *_new(first.statements, own.statements)), "accepted")
    case.mark("accept", iterations, own, state)
    return state


def _new(statements: Statements, known: Statements) -> Statements:
    return tuple(s for s in statements if s not in known)


def _corrected(case: Case, start: State, improvements: Iterator[Improved]) -> tuple[State, bool, float]:
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
    return max(1.0, math.ceil(math.log(value / tolerance) / -math.log(rate)))


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


def _solved(case: Case, start: State, exhausted: bool) -> tuple[State, float]:
    """The solver's answer, once more on a finer grid where that may help; and the milliseconds missing for it."""
    corrector, best = _corrector(case.surrogate), start
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
        missing = max(case.cost(work) * CAUTION - case.milliseconds_left(), 0.0)
        improved = None if missing else _in_time(case, work, call, best)
        if improved is None:
            return best, missing or case.cost(work)
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
        outputs = {name: v[chosen] if _has_lead(surrogate, name) else v for name, v in outputs.items()}
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


# --- refusing -------------------------------------------------------------------------------------------------------


def _refusal(case: Case, state: State, own: State, missing: float) -> ToleranceNotMet:
    """The best statement reached, the ledger, and what would have sufficed: a tolerance, a kind, a further state, time."""
    wish, tolerance = case.wish, case.wish.tolerance
    known = (*own.statements, *_new(state.statements, own.statements))
    others = [kind for kind in KINDS if kind not in wish.accept]
    kinds = [kind for kind in others if _would_do(reached(known, replace(wish, accept=(kind,)), case.leads), tolerance)]
    further = [] if wish.on_miss == "solve" else _states_beyond(case.surrogate, wish.on_miss)
    verdict = Verdict(False, "refused", state.best, None)
    sufficient = {
        "tolerance": state.best.value if state.best is not None else None,
        "accept": kinds, "on_miss": further, "milliseconds": missing or None,
    }  # fmt: skip
    remedies = [
        f"allow {missing:.0f} ms more" if missing else "",
        f"accept {' or '.join(kinds)}" if kinds else "",
        f"try on_miss {' or '.join(further)}" if further else "",
        f"ask for a tolerance of {state.value:.3g}" if state.best is not None else "",
    ]
    got = "no acceptable statement" if state.best is None else f"{state.best.kind} {state.value:.3g}"
    asked = (
        f"{'relative ' if tolerance.relative else ''}error of at most {tolerance.value:g} in the norm {tolerance.norm}"
    )
    details = {
        "contract": verdict.document(wish) | {"sample": case.index, "sufficient": sufficient},
        "statements": [s.document() for s in known],
        "route": [step.document() for step in case.clock.route],
    }
    remedy = " or ".join(part for part in remedies if part) or "state no tolerance"
    return ToleranceNotMet(f"{tolerance.quantity} with an {asked}", got, f"You may {remedy}.", details)


def _would_do(statement: Statement | None, tolerance: Tolerance) -> bool:
    return statement is not None and statement.value is not None and statement.value <= tolerance.value


def _states_beyond(surrogate: Surrogate, on_miss: OnMiss) -> list[str]:
    physics = surrogate.physics
    can_solve = physics is not None and physics.solve is not None
    can_correct = on_miss != "correct" and _corrector(surrogate) is not None
    return [*(["correct"] if can_correct else []), *(["solve"] if can_solve else [])]
