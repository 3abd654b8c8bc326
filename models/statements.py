"""Statements: what is claimed about the error of an answer, as data.

`kind` is one of guaranteed (mathematics, for the continuum problem), guaranteed_vs_discrete (distance to the
reference scheme's own solution), statistical (conformal coverage, void out of domain), indicator (informative,
no claim) and none (nothing can honestly be said; the reason is in `assumptions`). `truth` names what the error is
measured against.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator", "none"]


@dataclass(frozen=True)
class Statement:
    """One claim: |quantity error| in `norm` is at most `value`; `relative` to the norm of the truth when set.

    `lead_time` is the forecast time it speaks about, None for steady models and for the whole trajectory at once.
    """

    quantity: str
    norm: str
    value: float | None
    kind: Kind
    level: float | None
    truth: str
    assumptions: tuple[str, ...]
    relative: bool = False
    lower: float | None = None
    lead_time: float | None = None

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {**asdict(self), "assumptions": list(self.assumptions)}


def nothing(
    quantity: str, norm: str, truth: str, reason: str, level: float | None = None, lead_time: float | None = None
) -> Statement:
    """The statement that nothing can be said, and why."""
    return Statement(quantity, norm, None, "none", level, truth, (reason,), lead_time=lead_time)
