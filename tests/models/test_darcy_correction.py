"""Corrections of a Darcy answer: every step's claims hold for what is returned, and the system is that of the served function."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog.darcy import bound, correction, reference, sampler
from models.numerics import bilinear, nine_point
from models.numerics.sine_transform import solve_bilinear_nodes
from models.physical_model import Improved
from models.statements import Statement

POINTS = 13
ROUNDING = 1e-12


def problem(seed: int, family: str, points: int = POINTS) -> tuple[dict, dict]:
    """A medium, and the five-point answer with smooth and rough errors, in single precision as a network gives it."""
    medium = sampler.draw(seed, 0, 5 * (points - 1) + 1, family)[::5, ::5].astype(np.float32)
    exact = reference.solve(medium.astype(float))
    noise = np.random.default_rng(seed).standard_normal(exact.shape) * 0.02 * exact.max()
    noise[[0, -1]] = noise[:, [0, -1]] = 0.0
    return {"permeability": medium}, {"pressure": (1.03 * exact + noise).astype(np.float32)}


def value(found: tuple[Statement, ...], norm: str, kind: str) -> float:
    return next(s.value for s in found if (s.norm, s.kind) == (norm, kind) and not s.relative)


def least_error(inputs: dict, outputs: dict) -> float:
    """A lower estimate of |||u − Vp|||, without rounding slack: J on a finer mesh is at least J(u)."""
    medium = inputs["permeability"].astype(float)
    values = bound.interpolate(outputs["pressure"].astype(float), medium)
    return float(np.sqrt(bound._energy_gains(values, bound.control_volumes(medium), 1)[-1]))


def assert_true(inputs: dict, found: Improved, solution: np.ndarray, system: correction.System) -> None:
    """All that is claimed about one answer, against a finer mesh and against the direct solution."""
    assert value(found.statements, "energy", "guaranteed") >= least_error(inputs, found.outputs)
    error = found.outputs["pressure"].astype(float)[1:-1, 1:-1] - solution
    vs_discrete = "guaranteed_vs_discrete"
    assert value(found.statements, "energy", vs_discrete) >= system.matrix.energy(error) * (1 - ROUNDING)
    assert value(found.statements, "sup", vs_discrete) >= np.abs(error).max()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), family=st.sampled_from(sorted(sampler.FAMILIES)))
def test_every_statement_of_every_step_is_true(seed: int, family: str):
    inputs, outputs = problem(seed, family)
    system = correction.System.of(inputs)
    solution = system.matrix.solve(system.load)
    found = list(islice(correction.steps(inputs, outputs, bound.statements(inputs, outputs)), 4))
    assert found[0].outputs is outputs
    for step in found[1:]:
        assert_true(inputs, step, solution, system)
    assert_true(inputs, correction.solve(inputs), solution, system)


def test_a_step_that_forgets_what_rounding_costs_or_gains_too_much_is_noticed():
    """The guards above can fail: claims of a tenth of their size are false."""
    inputs, outputs = problem(3, "contrast_300")
    system = correction.System.of(inputs)
    solution = system.matrix.solve(system.load)
    last = list(islice(correction.steps(inputs, outputs, bound.statements(inputs, outputs)), 4))[-1]
    small = tuple(Statement(**(vars(s) | {"value": (s.value or 0) / 10})) for s in last.statements)
    with pytest.raises(AssertionError):
        assert_true(inputs, Improved(last.outputs, small), solution, system)


@pytest.mark.parametrize("family", ["two_phase", "log_normal"])
def test_the_matrix_is_the_energy_of_the_served_function(family, generator):
    inputs, _ = problem(5, family)
    system = correction.System.of(inputs)
    values = generator.standard_normal((POINTS - 2, POINTS - 2))
    served = bound.interpolate(np.pad(values, 1), system.permeability)
    coefficient = bound.control_volumes(system.permeability)
    assert system.matrix.energy(values) ** 2 == pytest.approx(bilinear.energy_squared(served, coefficient), rel=1e-12)
    load = float(np.vdot(bilinear.cell_load(np.ones_like(coefficient)), served))
    assert np.vdot(system.load, values) == pytest.approx(load, rel=1e-12)
    np.testing.assert_allclose(system.matrix.apply(system.matrix.solve(system.load)), system.load, atol=1e-14)


def test_no_nodal_values_have_less_error_than_the_solution():
    inputs, outputs = problem(6, "two_phase")
    best = least_error(inputs, correction.solve(inputs).outputs)
    assert best < least_error(inputs, {"pressure": reference.solve(inputs["permeability"].astype(float))})
    assert best < least_error(inputs, outputs)


def test_limits_of_the_spectrum_are_those_of_the_whole_matrix_or_beyond(generator):
    from scipy.linalg import eigh

    inputs, _ = problem(7, "contrast_300", 9)
    system = correction.System.of(inputs)
    unit = np.eye(49).reshape(49, 7, 7)
    matrix = np.stack([system.matrix.apply(u).ravel() for u in unit])
    inverse = np.stack([solve_bilinear_nodes(u).ravel() for u in unit])
    values = eigh(matrix, np.linalg.inv(inverse), eigvals_only=True)
    assert system.smallest <= values[0] and values[-1] <= system.largest
    assert correction._largest_response(8) == pytest.approx(inverse.diagonal().max(), rel=1e-12)
    constant = nine_point.spectral_limits(np.multiply.outer(nine_point.BILINEAR, np.full((4, 4), 6.0)))
    assert constant == pytest.approx((6.0, 6.0), rel=1e-12)


def test_the_refined_answer_is_a_finer_function_and_says_so():
    inputs, _ = problem(8, "two_phase")
    coarse = correction.solve(inputs)
    fine = correction.refine(inputs, coarse.outputs)
    energy = value(fine.statements, "energy", "guaranteed")
    assert energy < 0.7 * value(coarse.statements, "energy", "guaranteed")
    assert all(f"on {4 * (POINTS - 1)}² cells" in " ".join(s.assumptions) for s in fine.statements)
    cells = 4 * (POINTS - 1)
    direct = _finer_solution(inputs, cells)
    assert np.abs(fine.outputs["pressure"] - direct[::4, ::4]).max() <= 0.02 * direct.max()


def _finer_solution(inputs: dict, cells: int) -> np.ndarray:
    coefficient = np.kron(bound.control_volumes(inputs["permeability"].astype(float)), np.ones((2, 2)))
    elements = np.multiply.outer(nine_point.BILINEAR, coefficient)
    loads = np.full((4, cells, cells), 0.25 / cells**2)
    return np.pad(nine_point.assemble(elements).solve(nine_point.assemble_load(loads)), 1)
