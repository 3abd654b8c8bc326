"""What can be stated about an output at all: a wish that nothing can meet is refused before any work."""

import math
from dataclasses import dataclass

from models.contract.wish import Acceptable, OnMiss, Wish, kind_of
from models.errors import UnknownOption
from models.surrogate import Question, Surrogate


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
        stated = [one for one in (*physics.bounds, *further) if one.quantity == quantity and one.kind != "none"]
        found += [Offer(one.norm, kind_of(one.kind), one.relative, True, solvable) for one in stated]
        if physics.solves_truth:
            found.append(Offer("sup", "guaranteed_vs_discrete", False, False, True))
    if quantity in surrogate.calibrations:
        found.append(Offer("band", "statistical", False, True, False))
        if question.band == "simultaneous":
            found.append(Offer("sup", "statistical", False, True, False))
    return tuple(found)


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
        wanted, made, got = (
            ("false", "no relative statement", "true")
            if tolerance.relative
            else ("true", "relative statements only", "false")
        )
        raise UnknownOption("tolerance.relative", f"{wanted}: {name} makes {made} in the norm {tolerance.norm}", got)
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
