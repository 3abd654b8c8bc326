"""Which of an answer's statements decides whether a tolerance is met."""

import math
from dataclasses import replace

import numpy as np

from models.contract.wish import KINDS, Wish, kind_of
from models.statements import Statement
from models.surrogate import Answer

Statements = tuple[Statement, ...]
SAME_TIME = 1e-7


def reached(statements: Statements, wish: Wish, leads: tuple[float | None, ...] = (None,)) -> Statement | None:
    """The acceptable statement that decides: the strongest kind that meets the tolerance, else the least value.

    Of several lead times, the one that is worst: all must meet it. None where one of them has no acceptable statement.
    """
    tolerance, worst = wish.tolerance, None

    def rank(s: Statement) -> tuple[bool, float, float]:
        value = math.inf if s.value is None else s.value
        missed = value > tolerance.value
        return missed, 0.0 if missed else KINDS.index(kind_of(s.kind)), value

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


def new(statements: Statements, known: Statements) -> Statements:
    """Those of `statements` that are not known."""
    return tuple(s for s in statements if s not in known)
