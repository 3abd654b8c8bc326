"""A solution holds what was stated about the surrogate's own answer; a band or a bound that is too small is seen."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from api.encodings.trajectory import assemble
from models import catalog
from models.contract import Costs, Tolerance, Wish, settle
from models.contract.audit import audited
from models.contract.case import Case, State
from models.coverage import covered
from models.forecast import Forecast
from models.repository import SHIPPED, bundle_folders, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Answer, Clock, Interval, Question, Surrogate
from models.uncertainty import has_lead_times

SEED = 97  # used nowhere else
SOLVED = [f for f in bundle_folders(SHIPPED) if f.parent.name in catalog.names() and catalog.load(f.parent.name).solve]
ROUNDED = 1e-4  # only the solver's answer itself, in single precision, is so close
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


def settled_forecast(surrogate: Surrogate, inputs: dict, frames: int) -> list[tuple[str, bool]]:
    """Audits of a forecast of so many frames that ends at the solver."""
    lead, physics = surrogate.lead_times, surrogate.physics
    times = np.linspace(lead.start, lead.stop, lead.frames)[-frames:]
    given = {name: values[None] for name, values in inputs.items() if name != lead.input}
    forecast = Forecast(surrogate, given, times, Question())
    answer = assemble(forecast, list(forecast.frames()), forecast.summary())
    name = surrogate.manifest.outputs[0].name
    tolerance = Tolerance(name, "sup", ROUNDED) if physics.solves_truth else _beyond(surrogate, forecast, answer)
    wish = Wish(tolerance, "solve", ("guaranteed", "guaranteed_vs_discrete"))
    _, (verdict,) = settle(surrogate, forecast.inputs, answer, wish, Costs(), Clock(), times)
    assert verdict.outcome == "solved"
    return list(verdict.audits)


def _beyond(surrogate: Surrogate, forecast: Forecast, answer: Answer) -> Tolerance:
    """What the surrogate's guarantee does not meet and the solver's does."""
    sample = {name: values[0].astype(float) for name, values in forecast.inputs.items()}
    exact = surrogate.physics.statements(sample, surrogate.physics.solve(sample))
    norm = exact[0].norm
    own = next(s.value for s in answer.statements[0] if s.norm == norm and not s.relative)
    assert exact[0].value < own
    return Tolerance(exact[0].quantity, norm, 0.5 * (exact[0].value + own))


def test_a_forecast_is_audited_lead_time_by_lead_time_where_these_are_claims_of_their_own(solved):
    surrogate, case, *_ = solved
    lead = surrogate.lead_times
    if lead is None:
        pytest.skip("no forecasts")
    for frames in (2, lead.frames):
        found = settled_forecast(surrogate, case.inputs, frames)
        timed = [has_lead_times(item) for item in surrogate.manifest.outputs]
        claims = sum(frames if own else 1 for own in timed) if surrogate.physics.solves_truth else 0
        proven = 0 if surrogate.physics.distances is None else frames if lead.input else int(frames == lead.frames)
        assert Counter(kind for kind, _ in found) == Counter(statistical=claims, guaranteed=proven)
        assert all(held for kind, held in found if kind == "guaranteed")
