"""The tolerance contract: accept → correct → solve → refuse, the cheapest way to an error that is stated to be small.

A wish names a tolerance (of a quantity, in a norm), the kinds of statement that may meet it, and how far to go when the
answer misses: `flag` (answer all the same, marked), `correct`, `solve`, `refuse`. Those but `flag` end in a refusal, never
in an answer that misses. What cannot be met whatever the inputs is said before any work (`require_possible`).

    k = ⌈ln(value/tolerance) / |ln rate|⌉ further steps,   leave for the solver when k · t_step ≥ t_solve

Times are measured: of solving on the bundle's golden inputs, then on requests; of a step while stepping. Absence of an
acceptable statement is a miss. Statistical statements are about the surrogate's own answers, so a corrected or solved
answer has none.
"""

from models.contract.costs import Costs
from models.contract.offers import offers, require_possible
from models.contract.reached import reached
from models.contract.settle import settle
from models.contract.wish import ACCEPTED, KINDS, Acceptable, OnMiss, Outcome, Tolerance, Verdict, Wish

__all__ = [
    "ACCEPTED", "KINDS", "Acceptable", "Costs", "OnMiss", "Outcome", "Tolerance", "Verdict", "Wish",
    "offers", "reached", "require_possible", "settle",
]  # fmt: skip
