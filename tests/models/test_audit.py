"""A solution holds what was stated about the surrogate's own answer; a band or a bound that is too small is seen."""

from dataclasses import replace

import numpy as np
import pytest

from models import catalog
from models.contract import Costs, Tolerance, Wish
from models.contract.audit import audited
from models.contract.case import Case, State
from models.coverage import covered
from models.repository import SHIPPED, bundle_folders, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Answer, Clock, Interval, Surrogate

SEED = 97  # used nowhere else
SOLVED = [f for f in bundle_folders(SHIPPED) if f.parent.name in catalog.names() and catalog.load(f.parent.name).solve]
SMALL = 1e-3  # times a claim: none of the surrogates is that much better than it says


@pytest.fixture(scope="module", params=SOLVED, ids=lambda folder: folder.parent.name)
def solved(request) -> tuple[Surrogate, Case, Answer, State, State]:
    """A fresh case of the training law, the surrogate's answer, its state and the solver's."""
    surrogate = load_surrogate(request.param, RuntimeOptions())
    physics, lead = surrogate.physics, surrogate.lead_times
    drawn = physics.draw(SEED, 0, int(surrogate.manifest.document["points"]), physics.training_family)
    if lead is not None and lead.input is not None:
        drawn |= {lead.input: np.array(lead.stop)}
    inputs = {item.name: np.asarray(drawn[item.name], dtype=np.float32) for item in surrogate.manifest.inputs}
    answer = surrogate.predict({name: values[None] for name, values in inputs.items()})
    name = surrogate.manifest.outputs[0].name
    wish = Wish(Tolerance(name, "sup", 1.0), "solve")
    case = Case(surrogate, wish, inputs, Costs(), Clock(), (None,), None, None)
    own = case.state({k: p.mean[0] for k, p in answer.predictions.items()}, answer.statements[0], "accepted")
    exact = {k: v.astype(np.float32) for k, v in physics.solve({k: v.astype(float) for k, v in inputs.items()}).items()}
    shown = {k: v[None] for k, v in exact.items()} if physics.bound_times else exact
    statements = (
        surrogate.trajectory_statements(inputs, np.atleast_1d(inputs[lead.input]), shown)
        if physics.bound_times is not None
        else physics.statements(inputs, exact)
    )
    return surrogate, case, answer, own, case.state(exact, statements, "solved")


def test_guarantees_hold_and_bands_do_where_the_truth_lies_inside(solved):
    surrogate, case, answer, own, solution = solved
    found = audited(case, answer, 0, own, solution)
    guarantees = [held for kind, held in found if kind == "guaranteed"]
    bands = [held for kind, held in found if kind == "statistical"]
    assert all(guarantees)
    assert bool(guarantees) == (surrogate.physics.distances is not None)
    truths = {name: values[None] for name, values in solution.outputs.items()}
    inside = [
        bool(hit)
        for name in sorted(surrogate.calibrations)
        for hit in covered(surrogate, name, answer.predictions[name], truths[name])[0]
    ]
    assert bands == (inside if surrogate.physics.solves_truth and answer.validity[0].in_domain else [])


def test_what_is_too_small_is_seen(solved):
    _, case, answer, own, solution = solved
    bands = {n: _narrow(answer.predictions[n].mean, band) for n, band in answer.bands.items()}
    bold = [replace(s, value=None if s.value is None else SMALL * s.value) for s in own.statements]
    proven = [replace(s, value=0.0) for s in solution.statements]
    found = audited(
        case, replace(answer, bands=bands), 0, replace(own, statements=tuple(bold)),
        replace(solution, statements=tuple(proven)),
    )  # fmt: skip
    kinds = {kind for kind, _ in audited(case, answer, 0, own, solution)}
    broken = {kind for kind, held in found if not held}
    assert broken == kinds - ({"guaranteed"} if case.corrector is not None else set())


def _narrow(mean: np.ndarray, band: Interval | None) -> Interval | None:
    return None if band is None else Interval(mean + SMALL * (band.lower - mean), mean + SMALL * (band.upper - mean))


def test_frames_of_a_forecast_are_not_audited(solved):
    _, case, answer, own, solution = solved
    assert audited(replace(case, times=np.array([1.0])), answer, 0, own, solution) == ()
