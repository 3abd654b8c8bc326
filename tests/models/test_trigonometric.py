"""Sampling factors and Bernstein sums against dense evaluation; and red where the factor is left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import OutOfRange
from models.numerics import bernstein, trigonometric

DENSE = 20_000
ROUNDING = 1e-12


def random_polynomial(seed: int, degree: int, rows: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((2, rows, degree + 1))
    found = noise[0] + 1j * noise[1]
    found[:, 0] = noise[0, :, 0]
    return found


def wave(degree: int, points: int, phase: float) -> np.ndarray:
    """cos(2πnx − phase) at the nodes."""
    return np.cos(2 * np.pi * degree * np.arange(points) / points - phase)


@given(seed=st.integers(0, 9999), degree=st.integers(1, 20), extra=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_samples_bound_oscillation_and_integral(seed: int, degree: int, extra: int):
    polynomial = random_polynomial(seed, degree)
    dense = trigonometric.evaluate(polynomial, DENSE)[0]
    samples = trigonometric.evaluate(polynomial, 2 * degree + extra)
    assert trigonometric.oscillation_bound(samples, degree)[0] * (1 + ROUNDING) >= np.ptp(dense)
    # at 20 000 nodes the sampled integral itself is within 20 · π · 1/20 000 of the true one, squared at kinks
    assert trigonometric.integral_bound(samples, degree)[0] * (1 + 1e-4) >= np.abs(dense).mean()


def test_without_its_factor_a_sampled_oscillation_is_too_small_and_with_it_sharp():
    degree, points = 3, 12
    samples = wave(degree, points, np.pi / 4)  # every node lies midway between an extremum and a zero
    assert np.ptp(samples) < 1.5 < 2.0
    assert trigonometric.oscillation_bound(samples[None], degree)[0] == pytest.approx(2.0, rel=ROUNDING)


def test_without_its_factor_a_sampled_integral_is_too_small():
    degree, points = 3, 12
    samples = wave(degree, points, 0.0)  # 1, 0, −1, 0: mean ½ where the integral is 2/π
    assert np.abs(samples).mean() < 2 / np.pi <= trigonometric.integral_bound(samples[None], degree)[0]


@pytest.mark.parametrize("points", [9, 10])
def test_coefficients_interpolate_and_derivative_undoes_primitive(points, generator):
    values = generator.standard_normal((3, points))
    polynomial = trigonometric.coefficients(values)
    fine = trigonometric.evaluate(polynomial, 3 * points)
    np.testing.assert_allclose(fine[:, ::3], values, atol=ROUNDING)
    again = trigonometric.derivative(trigonometric.primitive(polynomial))
    np.testing.assert_allclose(again[:, 1:], polynomial[:, 1:], atol=ROUNDING)
    assert np.all(again[:, 0] == 0)


def test_too_few_points_are_refused():
    with pytest.raises(OutOfRange, match="twice the degree"):
        trigonometric.evaluate(random_polynomial(0, 5), 10)
    with pytest.raises(OutOfRange):
        trigonometric.maximum_factor(5, 10)


def test_hermite_cubic_takes_values_and_slopes(generator):
    start, start_slope, stop, stop_slope = generator.standard_normal((4, 5))
    cubic = bernstein.from_hermite(start, start_slope, stop, stop_slope, 0.3)
    slope = bernstein.derivative(cubic, 0.3)
    ends = [bernstein.evaluate(p, s) for p in (cubic, slope) for s in (0.0, 1.0)]
    np.testing.assert_allclose(ends, [start, stop, start_slope, stop_slope], atol=ROUNDING)


@pytest.mark.parametrize("s", [0.0, 0.2, 0.7, 1.0])
def test_elevation_keeps_the_polynomial_and_squaring_squares_it(s, generator):
    cubic = generator.standard_normal((4, 6))
    raised = np.tensordot(bernstein.elevation(3, 6), cubic, 1)
    np.testing.assert_allclose(bernstein.evaluate(raised, s), bernstein.evaluate(cubic, s), atol=ROUNDING)
    products = np.stack([cubic[i] * cubic[j] for i, j in bernstein.square_pairs(3)])
    square = np.tensordot(bernstein.squaring(3), products, 1)
    np.testing.assert_allclose(bernstein.evaluate(square, s), bernstein.evaluate(cubic, s) ** 2, atol=ROUNDING)


@given(seed=st.integers(0, 9999), degree=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_bernstein_sum_is_above_the_integral_of_a_norm(seed: int, degree: int):
    polynomial = np.random.default_rng(seed).standard_normal((degree + 1, 30))
    s, weights = np.polynomial.legendre.leggauss(200)
    oscillations = [np.ptp(bernstein.evaluate(polynomial, float(value))) for value in 0.5 * (s + 1)]
    exact = float(np.dot(weights, oscillations)) / 2
    assert np.ptp(polynomial, axis=1).mean() >= exact * (1 - 1e-4)  # kinks limit Gauss quadrature, not the sum
