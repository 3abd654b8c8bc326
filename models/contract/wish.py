"""What a caller asks for, and what becomes of it."""

from dataclasses import dataclass
from typing import Any, Literal

from models.statements import Statement

OnMiss = Literal["flag", "correct", "solve", "refuse"]
Outcome = Literal["accepted", "flagged", "corrected", "solved", "refused"]
Acceptable = Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator"]
KINDS: tuple[Acceptable, ...] = ("guaranteed", "guaranteed_vs_discrete", "statistical", "indicator")
"""From the strongest to the weakest."""
ACCEPTED: tuple[Acceptable, ...] = KINDS[:3]


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
    """What became of one sample.

    `statement` is the best reached, `avoided` milliseconds against solving at once; `audits` say of the surrogate's own
    statements, by kind, which ones the solution bears out.
    """

    met: bool
    outcome: Outcome
    statement: Statement | None
    avoided: float | None
    audits: tuple[tuple[str, bool], ...] = ()

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


def kind_of(text: str) -> Acceptable:
    """One of KINDS."""
    return next(kind for kind in KINDS if kind == text)
