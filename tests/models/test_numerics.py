"""Shared numerics against brute force and analytic identities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog.darcy import reference, sampler
from models.errors import OutOfRange
from models.numerics import conjugate_gradients, finite_volume, metrics, sine_transform
from models.numerics.gaussian_random_field import neumann_field

ROUNDING = 1e-12


@given(cells=st.integers(3, 20), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_five_point_solve_inverts_the_stencil(cells: int, seed: int):
    load = np.random.default_rng(seed).standard_normal((cells - 1, cells - 1))
    z = np.pad(sine_transform.solve_five_point_nodes(load), 1)
    applied = 4 * z[1:-1, 1:-1] - z[2:, 1:-1] - z[:-2, 1:-1] - z[1:-1, 2:] - z[1:-1, :-2]
    np.testing.assert_allclose(applied, load, atol=ROUNDING)


@given(cells=st.integers(3, 20), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_cell_centred_solve_inverts_the_stencil_with_zero_on_boundary_faces(cells: int, seed: int):
    load = np.random.default_rng(seed).standard_normal((cells, cells))
    width = 1.0 / cells
    phi = sine_transform.solve_five_point_cells(load, width)
    ghost = np.pad(phi, 1)
    ghost[0], ghost[-1], ghost[:, 0], ghost[:, -1] = -ghost[1], -ghost[-2], -ghost[:, 1], -ghost[:, -2]
    applied = ghost[2:, 1:-1] + ghost[:-2, 1:-1] + ghost[1:-1, 2:] + ghost[1:-1, :-2] - 4 * phi
    np.testing.assert_allclose(applied / width**2, load, atol=1e-10)


@pytest.mark.parametrize("neumann", [False, True])
def test_bilinear_solves_invert_the_stiffness_matrix(neumann: bool, generator):
    from models.numerics.bilinear import apply_stiffness

    cells = 9
    ones = np.ones((cells, cells))
    if neumann:
        load = generator.standard_normal((cells + 1, cells + 1))
        load -= load.mean()
        solution = sine_transform.solve_bilinear_neumann(load)
        np.testing.assert_allclose(apply_stiffness(solution, ones), load, atol=ROUNDING)
    else:
        load = generator.standard_normal((cells - 1, cells - 1))
        solution = np.pad(sine_transform.solve_bilinear_nodes(load), 1)
        np.testing.assert_allclose(apply_stiffness(solution, ones)[1:-1, 1:-1], load, atol=ROUNDING)


@pytest.mark.parametrize("face_mean", ["arithmetic", "geometric", "harmonic"])
def test_direct_and_iterative_solvers_agree(face_mean, generator):
    matrix = finite_volume.assemble(np.exp(generator.standard_normal((20, 20))), face_mean)
    load = generator.standard_normal((18, 18))
    direct = finite_volume.solve_directly(matrix, load)
    np.testing.assert_allclose(matrix.apply(direct), load, atol=1e-10)
    np.testing.assert_allclose(finite_volume.solve_iteratively(matrix, load, 1e-12), direct, rtol=1e-8, atol=1e-10)


def test_conjugate_gradients_account_for_every_bit_of_energy(generator):
    matrix = finite_volume.assemble(np.exp(generator.standard_normal((12, 12))), "arithmetic")
    load = generator.standard_normal((10, 10))
    solution = finite_volume.solve_directly(matrix, load)
    steps = conjugate_gradients.conjugate_gradient_steps(
        matrix.apply, sine_transform.solve_five_point_nodes, load, np.zeros_like(load)
    )
    remaining = float(np.vdot(solution, load))
    for step, _ in zip(steps, range(8), strict=False):
        remaining -= step.energy_drop
        error = solution - step.values
        assert float(np.vdot(error, matrix.apply(error))) == pytest.approx(remaining, rel=1e-6)


def test_too_few_iterations_are_an_error():
    matrix = finite_volume.assemble(sampler.draw(0, 0, 40, "contrast_300"), "arithmetic")
    with pytest.raises(ArithmeticError, match="within 2 steps"):
        conjugate_gradients.solve(matrix.apply, sine_transform.solve_five_point_nodes, np.ones((38, 38)), 1e-10, 2)


def test_reference_solver_refuses_a_medium_that_is_not_positive():
    with pytest.raises(OutOfRange, match="permeability"):
        reference.solve(np.zeros((9, 9)))


def test_energy_identity_of_the_reference(generator):
    """∫ a|∇u|² = ∫ u for f = 1, exactly so in the discrete scheme."""
    medium = sampler.draw(1, 1, 41)
    pressure = reference.solve(medium, relative_tolerance=1e-12)
    inner = pressure[1:-1, 1:-1]
    matrix = finite_volume.assemble(medium, "geometric")
    assert np.vdot(inner, matrix.apply(inner)) == pytest.approx(inner.sum() / 40**2, rel=1e-10)


def test_random_field_has_the_declared_spectrum():
    """The DCT of 400 draws has standard deviation s·τ^{α−1}(π²|k|²+τ²)^{−α/2}, within sampling error."""
    from scipy.fft import dctn

    points, draws = 24, 400
    spectra = [
        dctn(neumann_field(np.random.default_rng(i), points, 2.0, 3.0), type=2, norm="ortho") / points
        for i in range(draws)
    ]
    k = np.pi * np.arange(points)
    expected = 3.0 / (k[:, None] ** 2 + k[None, :] ** 2 + 9.0)
    measured = np.std(spectra, axis=0)
    assert measured[0, 0] < 1e-12
    ratio = (measured / expected).ravel()[1:]
    assert np.abs(ratio - 1).max() < 5 / np.sqrt(2 * draws)  # five standard errors over 575 coefficients


def test_relative_errors_of_a_scaled_field(generator):
    truth = generator.standard_normal((3, 9, 9))
    np.testing.assert_allclose(metrics.relative_l2(1.1 * truth, truth), 0.1, rtol=1e-12)
    np.testing.assert_allclose(metrics.relative_h1(1.1 * truth, truth), 0.1, rtol=1e-12)


def test_shapes_in_signatures_are_checked_while_testing():
    from jaxtyping import TypeCheckError

    from models.numerics import bilinear

    with pytest.raises(TypeCheckError):
        bilinear.energy_squared(np.ones(3), np.ones((2, 2)))


def test_assembled_bilinear_matrices_equal_their_quadratic_forms(generator):
    from models.numerics import bilinear

    cells = 7
    coefficient = generator.uniform(0.5, 5.0, (cells, cells))
    values = np.pad(generator.standard_normal((cells - 1, cells - 1)), 1)
    inner = values[1:-1, 1:-1].ravel()
    applied = bilinear.apply_stiffness(values, coefficient)[1:-1, 1:-1].ravel()
    np.testing.assert_allclose(bilinear.stiffness_matrix(coefficient) @ inner, applied, atol=ROUNDING)
    fine = values
    for _ in range(4):
        fine = bilinear.prolong(fine)
    squared = float(inner @ (bilinear.mass_matrix(cells) @ inner))
    assert squared == pytest.approx(float(np.mean(np.square(fine[:-1, :-1]))), rel=1e-2)  # sixteen points per cell


def test_fluxes_of_many_times_are_those_of_each(generator):
    from models.numerics import bilinear, raviart_thomas

    coefficient = generator.uniform(0.5, 5.0, (6, 6))
    values, source = generator.standard_normal((3, 7, 7)), generator.standard_normal((3, 6, 6))
    together = raviart_thomas.equilibrate(raviart_thomas.harmonic_flux(bilinear.gradient(values), coefficient), source)
    squares = raviart_thomas.constitutive_error_squared(together, bilinear.gradient(values), coefficient)
    for k in range(3):
        alone = raviart_thomas.equilibrate(
            raviart_thomas.harmonic_flux(bilinear.gradient(values[k]), coefficient), source[k]
        )
        np.testing.assert_allclose(together.along_x[k], alone.along_x, atol=1e-10)
        expected = raviart_thomas.constitutive_error_squared(alone, bilinear.gradient(values[k]), coefficient)
        np.testing.assert_allclose(squares[k], expected, rtol=1e-9)
