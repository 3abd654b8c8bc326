"""Once the solver has answered, what had been stated about the surrogate's own answer is held against it.

A statistical band is, where the solver computes its truth, if it holds the solution; a guarantee B of ‖u − v‖ is refuted
by a solution w with its own guarantee B′ if ‖v − w‖ > B + B′. The sample is biased, for only answers that missed a
tolerance are solved, but it is free.
"""

from collections.abc import Iterator

import numpy as np

from models.contract.case import Case, State
from models.statements import Kind
from models.surrogate import Answer, Interval
from models.uncertainty import has_lead_times

Audits = Iterator[tuple[Kind, bool]]
"""Kinds of statements, and whether these held."""


def audited(case: Case, answer: Answer, index: int, own: State, solution: State) -> tuple[tuple[Kind, bool], ...]:
    """Of one sample that ended at the solver; nothing of the frames of a forecast, whose times are the client's."""
    if case.times is not None:
        return ()
    return (*_bands(case, answer, index, solution), *_guarantees(case, own, solution))


def _bands(case: Case, answer: Answer, index: int, solution: State) -> Audits:
    """Simultaneous bands that were stated; each lead time of a field that has that axis is a claim by itself."""
    physics = case.surrogate.physics
    stated = {s.quantity for s in answer.statements[index] if (s.norm, s.kind) == ("band", "statistical")}
    if physics is None or not physics.solves_truth or answer.question.band != "simultaneous":
        return
    for name in sorted(stated):
        band, item = answer.bands[name], case.surrogate.manifest.output(name)
        if band is not None:
            inside = _is_inside(band, index, solution.outputs[name]) | (answer.predictions[name].scale[index] <= 0)
            for claim in inside.reshape(item.shape[0] if has_lead_times(item) else 1, -1):
                yield "statistical", bool(claim.all())


def _is_inside(band: Interval, index: int, values: np.ndarray) -> np.ndarray:
    return np.asarray((band.lower[index] <= values) & (values <= band.upper[index]))


def _guarantees(case: Case, own: State, solution: State) -> Audits:
    physics = case.surrogate.physics
    if physics is None or physics.distances is None:
        return
    # what is stated after a refinement is about a finer function than the one that is returned
    known = solution.statements if case.corrector is None else physics.statements(case.inputs, solution.outputs)
    proven = {(s.quantity, s.norm): s.value for s in known if s.kind == "guaranteed" and not s.relative}
    apart = physics.distances(case.inputs, own.outputs, solution.outputs)
    for one in own.statements:
        other = proven.get((one.quantity, one.norm))
        if one.kind == "guaranteed" and not one.relative and one.norm in apart and None not in (one.value, other):
            yield "guaranteed", apart[one.norm] <= float(one.value or 0.0) + float(other or 0.0)
