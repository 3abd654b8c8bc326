"""Once the solver has answered, what had been stated about the surrogate's own answer is held against it.

A statistical band is, where the solver computes its truth, if it holds the solution; a guarantee B of ‖u − v‖ is refuted
by a solution w with its own guarantee B′ if ‖v − w‖ > B + B′. The sample is biased, for only answers that missed a
tolerance are solved, and of a trajectory only the lead times that were asked for are seen, but it is free.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.contract.case import Case, State
from models.contract.reached import Statements
from models.physical_model import Arrays
from models.statements import Kind
from models.surrogate import Answer, Interval
from models.uncertainty import has_lead_times

Audits = Iterator[tuple[Kind, bool]]
"""Kinds of statements, and whether these held."""


def audited(case: Case, answer: Answer, index: int, own: State, solution: State) -> tuple[tuple[Kind, bool], ...]:
    """Of one sample that ended at the solver, or of its forecast."""
    return (*_bands(case, answer, index, solution), *_guarantees(case, own, solution))


def _bands(case: Case, answer: Answer, index: int, solution: State) -> Audits:
    """Simultaneous bands that were stated; each lead time of a field that has that axis is a claim by itself."""
    physics = case.surrogate.physics
    stated = {s.quantity for s in answer.statements[index] if (s.norm, s.kind) == ("band", "statistical")}
    if physics is None or not physics.solves_truth or answer.question.band != "simultaneous":
        return
    for name in sorted(stated):
        band = answer.bands[name]
        if band is not None:
            inside = _is_inside(band, index, solution.outputs[name]) | (answer.predictions[name].scale[index] <= 0)
            alone = has_lead_times(case.surrogate.manifest.output(name))
            for claim in inside.reshape(len(inside) if alone else 1, -1):
                yield "statistical", bool(claim.all())


def _is_inside(band: Interval, index: int, values: np.ndarray) -> np.ndarray:
    return np.asarray((band.lower[index] <= values) & (values <= band.upper[index]))


def _guarantees(case: Case, own: State, solution: State) -> Audits:
    physics = case.surrogate.physics
    if physics is None or physics.distances is None:
        return
    # what is stated after a refinement is about a finer function than the one that is returned
    known = solution.statements if case.corrector is None else physics.statements(case.inputs, solution.outputs)
    ours, theirs = _proven(own.statements), _proven(known)
    pairs = zip(_moments(case, own.outputs), _moments(case, solution.outputs), strict=True)
    for number, (mine, other) in enumerate(pairs):
        for norm, apart in physics.distances(case.inputs, mine, other).items():
            allowed = ours[norm][number] + theirs[norm][number]
            if math.isfinite(allowed):
                yield "guaranteed", apart <= allowed


def _proven(statements: Statements) -> Mapping[str, Sequence[float]]:
    """Values of absolute guarantees by norm, one for each time at which there is one; infinite where nothing is."""
    found = defaultdict(list)
    for one in statements:
        if one.kind == "guaranteed" and not one.relative:
            found[one.norm].append(math.inf if one.value is None else one.value)
    return found


def _moments(case: Case, outputs: Arrays) -> Sequence[Arrays]:
    """What guarantees are about: the whole answer, or where lead times are an input each frame by itself.

    Nothing of a forecast without all of the lead times that one guarantee is about.
    """
    lead = case.surrogate.lead_times
    if case.times is None or lead is None:
        return (outputs,)
    if lead.input is None:
        return (outputs,) if len(case.times) == lead.frames else ()
    return [{name: values[frame] for name, values in outputs.items()} for frame in range(len(case.times))]
