"""The battery over every physical model of the catalogue."""

from pathlib import Path

import numpy as np
import pytest

from models import catalog
from models.errors import Abandoned, UnknownModel
from models.physical_model import Arrays, PhysicalModel
from models.statements import NORMS, Statement
from models.ticket import Ticket, holding

ORDER_TOLERANCE = 0.3  # three grids; cases declare the order they show
KINDS = {"guaranteed", "guaranteed_vs_discrete", "indicator", "none"}


@pytest.fixture
def model(model_name: str) -> PhysicalModel:
    return catalog.load(model_name)


@pytest.fixture
def points(model: PhysicalModel) -> int:
    return model.recipes["tiny"].points


def at_last_lead_time(model: PhysicalModel, inputs: Arrays) -> Arrays:
    """Inputs of the graph: with a lead time where the graph takes one."""
    if model.lead_times is None or model.lead_times.input is None:
        return inputs
    return inputs | {model.lead_times.input: np.float32(model.lead_times.stop)}


def require(claim: object) -> None:
    if claim is None:
        pytest.skip("this physics has none")


def test_equal_seeds_give_equal_samples_and_others_differ(model, points):
    draws = [model.draw(seed, index, points, model.training_family) for seed, index in ((5, 3), (5, 3), (5, 4))]
    for name in draws[0]:
        np.testing.assert_array_equal(draws[0][name], draws[1][name])
        assert np.any(draws[0][name] != draws[2][name])


def test_every_family_stays_in_the_declared_ranges(model, points):
    assert model.training_family in model.families
    assert set(model.held_out) <= set(model.families)
    for family in model.families:
        for index in range(3):
            sample = at_last_lead_time(model, model.draw(7, index, points, family))
            assert set(sample) == {field.name for field in model.inputs(points)}
            for field in model.inputs(points):
                values = np.asarray(sample[field.name])
                assert values.shape == field.shape, field.name
                assert field.minimum <= values.min() and values.max() <= field.maximum, field.name


def test_shifts_give_inputs_of_the_declared_shapes_that_training_would_not(model, points):
    for label, draw in model.shifts.items():
        first, again = draw(7, 1, points), draw(7, 1, points)
        usual = model.draw(7, 1, points, model.training_family)
        fields = {field.name: field for field in model.inputs(points) if field.role != "lead_time"}
        assert set(first) == set(fields), label
        for name, field in fields.items():
            assert np.shape(first[name]) == field.shape, (label, name)
            np.testing.assert_array_equal(first[name], again[name])
        assert any(np.any(first[name] != usual[name]) for name in fields), label


def test_pairs_have_the_declared_shapes_and_the_drawn_inputs(model, points):
    inputs, outputs = model.pair(7, 1, points, model.training_family)
    drawn = model.draw(7, 1, points, model.training_family)
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, drawn[name])
    lead = model.lead_times
    frames = () if lead is None or lead.input is None else (lead.frames,)
    for field in model.outputs(points):
        assert outputs[field.name].shape == (*frames, *field.shape)
        assert field.minimum is None or outputs[field.name].min() >= field.minimum


def test_reference_reproduces_every_case_at_its_declared_order(model):
    assert model.cases
    for case in model.cases:
        errors = [np.abs(case.solve(n) - case.exact(n)).max() / np.abs(case.exact(n)).max() for n in case.points]
        assert errors[-1] <= case.tolerance, case.name
        if case.order is not None:
            widths = np.log(1.0 / (np.array(case.points) - 1))
            order = np.polyfit(widths, np.log(errors), 1)[0]
            assert abs(order - case.order) <= ORDER_TOLERANCE, (case.name, order)


def test_fallback_solver_gives_the_declared_outputs(model, points):
    require(model.solve)
    outputs = model.solve(at_last_lead_time(model, model.draw(8, 0, points, model.training_family)))
    assert {name: values.shape for name, values in outputs.items()} == {f.name: f.shape for f in model.outputs(points)}


def test_residual_of_the_fallback_vanishes_and_of_a_wrong_answer_does_not(model, points):
    require(model.residual)
    inputs = model.draw(8, 0, points, model.training_family)
    outputs = model.solve(inputs)
    assert np.abs(model.residual(inputs, outputs)).max() < 1e-5  # source 1, solver tolerance 1e-8
    wrong = {name: 1.1 * values for name, values in outputs.items()}
    assert np.abs(model.residual(inputs, wrong)).max() > 0.05


def test_solver_gradient_agrees_with_central_differences(model, points, generator):
    require(model.solver_gradient)
    inputs = model.draw(9, 0, points, model.training_family)
    (name,), (target,) = inputs, [field.name for field in model.outputs(points)]
    weights = generator.standard_normal(inputs[name].shape)
    direction = 0.1 * inputs[name] * generator.standard_normal(inputs[name].shape)
    step = 1e-3  # truncation 1e-6 relative, far above the solver's 1e-8 over the step

    def quantity(sign: float) -> float:
        return float((weights * model.solve({name: inputs[name] + sign * step * direction})[target]).sum())

    measured = (quantity(1) - quantity(-1)) / (2 * step)
    exact = float((model.solver_gradient(inputs, target, weights)[name] * direction).sum())
    assert measured == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", ["burgers", "flood"])
def test_a_solver_that_steps_in_time_ends_with_its_request(name):
    """Its steps grow with the speed of the waves, without a limit that the cost of a usual input would tell."""
    model = catalog.load(name)
    inputs = at_last_lead_time(model, model.draw(7, 0, model.recipes["tiny"].points, model.training_family))
    request = Ticket(60.0)

    def gone(work, *arguments):
        request.end(Abandoned())
        work(*arguments)

    with pytest.raises(Abandoned):
        holding(request, lambda: gone(model.solve, inputs))


def test_statements_declare_norm_truth_and_assumptions_as_announced(model, points):
    inputs, outputs = model.pair(10, 0, points, model.training_family)
    if model.bound_times is not None:
        lead = model.lead_times
        inputs = inputs | {lead.input: lead.values}
    statements = model.statements(inputs, outputs)
    assert statements
    for statement in statements:
        assert isinstance(statement, Statement)
        assert statement.kind in KINDS
        assert statement.truth and statement.assumptions
        assert statement.norm in NORMS and statement.reading
    announced = {(b.quantity, b.norm, b.relative): b.kind for b in model.bounds}
    stated = {(s.quantity, s.norm, s.relative): s.kind for s in statements}
    assert stated.keys() == announced.keys()
    assert all(kind in (announced[about], "none") for about, kind in stated.items())


def test_seeds_or_families_of_all_splits_are_disjoint(model):
    for recipe in model.recipes.values():
        streams = [(s.seed, s.family) for s in (*recipe.splits.values(), recipe.unlabelled)]
        assert len(set(streams)) == len(streams)


def test_the_folder_has_the_files_every_model_has(model_name):
    folder = Path(catalog.__file__).parent / model_name
    expected = {"spec.py", "sampler.py", "reference.py", "bound.py", "cases.py", "recipe.py", "README.md"}
    assert expected <= {path.name for path in folder.iterdir()}


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(UnknownModel, match="darcy"):
        catalog.load("../zoo")
