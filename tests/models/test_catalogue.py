"""The battery over every physical model of the catalogue."""

import numpy as np
import pytest

from models import catalog
from models.errors import UnknownModel
from models.statements import Statement

SMALL = 17
ORDER_TOLERANCE = 0.1  # three grids in the asymptotic range


@pytest.fixture
def model(model_name: str):
    return catalog.load(model_name)


def test_equal_seeds_give_equal_samples_and_others_differ(model):
    draws = [model.draw(seed, 3, SMALL, model.training_family) for seed in (5, 5, 6)]
    for name in draws[0]:
        np.testing.assert_array_equal(draws[0][name], draws[1][name])
        assert np.any(draws[0][name] != draws[2][name])


def test_every_family_stays_in_the_declared_ranges(model):
    for family in model.families:
        for index in range(5):
            sample = model.draw(7, index, SMALL, family)
            for field in model.inputs(SMALL):
                values = sample[field.name]
                assert values.shape == field.shape
                assert field.minimum <= values.min() and values.max() <= field.maximum


def test_reference_reproduces_every_case_at_its_declared_order(model):
    assert model.cases
    for case in model.cases:
        errors = [np.abs(case.solve(n) - case.exact(n)).max() / np.abs(case.exact(n)).max() for n in case.points]
        assert errors[-1] <= case.tolerance, case.name
        widths = np.log(1.0 / (np.array(case.points) - 1))
        order = np.polyfit(widths, np.log(errors), 1)[0]
        assert abs(order - case.order) <= ORDER_TOLERANCE, (case.name, order)


def test_residual_of_the_fallback_vanishes_and_of_a_wrong_answer_does_not(model):
    inputs = model.draw(8, 0, SMALL, model.training_family)
    outputs = model.solve(inputs)
    assert np.abs(model.residual(inputs, outputs)).max() < 1e-5  # source 1, solver tolerance 1e-8
    wrong = {name: 1.1 * values for name, values in outputs.items()}
    assert np.abs(model.residual(inputs, wrong)).max() > 0.05


def test_solver_gradient_agrees_with_central_differences(model, generator):
    inputs = model.draw(9, 0, SMALL, model.training_family)
    (name,), (target,) = inputs, [field.name for field in model.outputs(SMALL)]
    weights = generator.standard_normal(inputs[name].shape)
    direction = 0.1 * inputs[name] * generator.standard_normal(inputs[name].shape)
    step = 1e-3  # truncation 1e-6 relative, far above the solver's 1e-8 over the step

    def quantity(sign: float) -> float:
        return float((weights * model.solve({name: inputs[name] + sign * step * direction})[target]).sum())

    measured = (quantity(1) - quantity(-1)) / (2 * step)
    exact = float((model.solver_gradient(inputs, target, weights)[name] * direction).sum())
    assert measured == pytest.approx(exact, rel=1e-4)


def test_guaranteed_statements_declare_norm_truth_and_assumptions(model):
    inputs = model.draw(10, 0, SMALL, model.training_family)
    statements = model.statements(inputs, model.solve(inputs))
    assert statements
    for statement in statements:
        assert isinstance(statement, Statement)
        assert statement.kind in {"guaranteed", "none"}
        assert statement.truth.startswith("continuum")
        assert statement.assumptions


def test_seeds_of_all_splits_are_disjoint(model):
    for recipe in model.recipes.values():
        seeds = [split.seed for split in recipe.splits.values()] + [recipe.unlabelled.seed]
        assert len(set(seeds)) == len(seeds)


def test_the_folder_has_the_files_every_model_has(model_name):
    from pathlib import Path

    folder = Path(catalog.__file__).parent / model_name
    expected = {"spec.py", "sampler.py", "reference.py", "bound.py", "cases.py", "recipe.py", "README.md"}
    assert expected <= {path.name for path in folder.iterdir()}


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(UnknownModel, match="darcy"):
        catalog.load("../zoo")
