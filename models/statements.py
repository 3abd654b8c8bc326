"""Statements: what is claimed about the error of an answer, as data and in a sentence.

`kind` is one of guaranteed (mathematics, for the continuum problem), guaranteed_vs_discrete (distance to the
reference scheme's own solution), statistical (conformal coverage, void out of domain), indicator (informative,
no claim) and none (nothing can honestly be said; the reason is in `assumptions`). `truth` names what the error is
measured against.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

Kind = Literal["guaranteed", "guaranteed_vs_discrete", "statistical", "indicator", "none"]

# what |error| in each norm is, for a reader who has met none of them
NORMS: Mapping[str, str] = {
    "energy": "energy norm (root of the integrated coefficient times squared gradient of the error)",
    "space_time_energy": "energy norm over all times so far (root of the integrated coefficient times squared gradient "
    "of the error)",
    "l2": "L2 norm (root of the integrated squared error)",
    "l1": "L1 norm (integrated absolute error)",
    "sup": "sup norm (largest pointwise error)",
    "primitive_oscillation": "oscillation of the primitive (integral of the error over any interval)",
    "band": "prediction band",
    "interval": "interval around a quantity of interest",
    "mass": "balance of mass",
}
_UNSAID: Mapping[str, str] = {
    "band": "No band can be given here for {}",
    "interval": "No interval can be given here for a quantity of {}",
    "mass": "The balance of mass of {} cannot be judged here",
}
EVERYWHERE = "all grid points at once"
LARGEST_SHARE = 100  # shares are spoken of as n of at most so many, others in per cent


@dataclass(frozen=True)
class Statement:
    """One claim: |quantity error| in `norm` is at most `value`; `relative` to the norm of the truth when set.

    `lead_time` is the forecast time it speaks about, None for steady models and for the whole trajectory at once;
    `scope` is where a band holds at once, and of an interval what it is around.
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
    scope: str | None = None

    @property
    def reading(self) -> str:
        """The claim in one sentence, for somebody who has read none of the papers."""
        return f"{_READINGS[self.kind](self)}."

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return vars(self) | {"assumptions": list(self.assumptions), "reading": self.reading}


def nothing(
    quantity: str, norm: str, truth: str, reason: str, level: float | None = None, lead_time: float | None = None
) -> Statement:
    """The statement that nothing can be said, and why."""
    return Statement(quantity, norm, None, "none", level, truth, (reason,), lead_time=lead_time)


def _name(s: Statement) -> str:
    when = "" if s.lead_time is None else f" at lead time {s.lead_time:g}"
    return s.quantity.replace("_", " ") + when


def _size(s: Statement) -> str:
    if s.value is None:
        return "the value given"
    return f"{100 * s.value:.3g} % of the truth's own" if s.relative else f"{s.value:.3g}"


@lru_cache(maxsize=64)
def share(level: float) -> str:
    """A level as people say it: 9 of 10 cases."""
    fraction = Fraction(level).limit_denominator(LARGEST_SHARE)
    if fraction in (0, 1) or abs(float(fraction) - level) > 1e-9:
        return f"{100 * level:.6g} % of cases"
    return f"{fraction.numerator} of {fraction.denominator} cases"


def _certain(s: Statement, against: str) -> str:
    shown = f"the error of {_name(s)} is at most {_size(s)} in the {NORMS[s.norm]}"
    if s.norm == "primitive_oscillation":
        shown = f"the integral of the error of {_name(s)} over any interval is at most {_size(s)} in size"
    return f"Whatever the input, {shown}, measured against {against}"


def _guaranteed(s: Statement) -> str:
    return _certain(s, "the exact solution of the equation; this is a theorem")


def _discrete(s: Statement) -> str:
    return _certain(
        s, "the solution of the discrete scheme named as its truth; how far that is from the exact one is not said"
    )


def _statistical(s: Statement) -> str:
    cases = f"In at least {share(s.level or 0.0)} like those it was calibrated on"
    truth = f"truth: {re.split(r' [(]|[,;:]', s.truth)[0]}"
    if s.norm == "interval":
        return f"{cases}, the true quantity differs from the {(s.scope or 'one').replace('_', ' ')} given by at most {_size(s)} ({truth})"
    if s.norm != "band":
        return f"{cases}, the error of {_name(s)} is at most {_size(s)} in the {NORMS[s.norm]} ({truth})"
    if s.scope == EVERYWHERE:
        return f"{cases}, the whole true field of {_name(s)} lies inside this band ({truth})"
    where = f" at {s.scope}" if s.scope else ""
    return f"{cases}, the true {_name(s)} lies inside this band{where} ({truth})"


def _indicator(s: Statement) -> str:
    return f"A sign of quality and no bound: the {NORMS[s.norm]} of {_name(s)} is off by {_size(s)}"


def _none(s: Statement) -> str:
    reason = "; ".join(s.assumptions).rstrip(".")
    if s.norm in _UNSAID:
        return f"{_UNSAID[s.norm].format(_name(s))}: {reason}"
    error = "relative error" if s.relative else "error"
    return f"No bound of the {error} of {_name(s)} in the {NORMS[s.norm]} can be given here: {reason}"


_READINGS = {
    "guaranteed": _guaranteed,
    "guaranteed_vs_discrete": _discrete,
    "statistical": _statistical,
    "indicator": _indicator,
    "none": _none,
}
