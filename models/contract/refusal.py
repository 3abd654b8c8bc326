"""The end of a wish that could not be met: what was reached, and what would have sufficed."""

from dataclasses import replace

from models.contract.case import Case, State
from models.contract.offers import offers
from models.contract.reached import new, reached
from models.contract.wish import KINDS, Tolerance, Verdict
from models.errors import ToleranceNotMet
from models.statements import Statement
from models.surrogate import Question


def refusal(case: Case, state: State, own: State, missing: float) -> ToleranceNotMet:
    """The best statement reached, the ledger, and what would have sufficed: a tolerance, a kind, a further state, time."""
    wish, tolerance = case.wish, case.wish.tolerance
    known = (*own.statements, *new(state.statements, own.statements))
    others = [kind for kind in KINDS if kind not in wish.accept]
    kinds = [kind for kind in others if _would_do(reached(known, replace(wish, accept=(kind,)), case.leads), tolerance)]
    further = [] if wish.on_miss == "solve" else _states_beyond(case)
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
    error = "a relative error" if tolerance.relative else "an error"
    asked = f"{tolerance.quantity} with {error} of at most {tolerance.value:g} in the norm {tolerance.norm}"
    details = {
        "contract": verdict.document(wish) | {"sample": case.index, "sufficient": sufficient},
        "statements": [s.document() for s in known],
        "route": [step.document() for step in case.clock.route],
    }
    remedy = " or ".join(part for part in remedies if part) or "state no tolerance"
    return ToleranceNotMet(asked, got, f"You may {remedy}.", details)


def _would_do(statement: Statement | None, tolerance: Tolerance) -> bool:
    return statement is not None and statement.value is not None and statement.value <= tolerance.value


def _states_beyond(case: Case) -> list[str]:
    """Further states in which something acceptable could be stated in this norm."""
    wish, physics = case.wish, case.surrogate.physics
    asked = (wish.tolerance.norm, wish.tolerance.relative)
    offered = offers(case.surrogate, wish.tolerance.quantity, Question())
    better = {o.kind for o in offered if o.better and (o.norm, o.relative) == asked}
    if physics is None or physics.solve is None or not better.intersection(wish.accept):
        return []
    return ["correct", "solve"] if case.corrector is not None and wish.on_miss != "correct" else ["solve"]
