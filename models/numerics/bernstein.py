"""Polynomials in time by their Bernstein coefficients, for integrals of norms without a quadrature error.

    p(s) = Σ_k C_k B_k(s),   B_k(s) = (d choose k) s^k (1 − s)^{d−k},   s ∈ [0, 1]

B_k ≥ 0, Σ B_k = 1 and ∫B_k = 1/(d+1), so for every convex functional φ (a norm, an oscillation)

    ∫₀¹ φ(p(s)) ds ≤ Σ_k φ(C_k) / (d+1).

Coefficients run along the first axis.
"""

from math import comb

import numpy as np
from jaxtyping import Float, Inexact

Polynomial = Inexact[np.ndarray, "coefficient *axes"]


def from_hermite(
    start: np.ndarray, start_slope: np.ndarray, stop: np.ndarray, stop_slope: np.ndarray, width: np.ndarray | float
) -> Polynomial:
    """The cubic with these values and slopes at the ends of an interval of the given width."""
    third = width / 3.0
    return np.stack(np.broadcast_arrays(start, start + third * start_slope, stop - third * stop_slope, stop))


def elevation(degree: int, to: int) -> Float[np.ndarray, "to degree"]:
    """The matrix that writes a polynomial of `degree` with the coefficients of degree `to`."""
    rise = to - degree
    rows = [
        [comb(degree, i) * comb(rise, k - i) / comb(to, k) if 0 <= k - i <= rise else 0.0 for i in range(degree + 1)]
        for k in range(to + 1)
    ]
    return np.array(rows)


def square_pairs(degree: int) -> tuple[tuple[int, int], ...]:
    """The index pairs i ≤ j of the products C_i C_j that make a square."""
    return tuple((i, j) for i in range(degree + 1) for j in range(i, degree + 1))


def squaring(degree: int) -> Float[np.ndarray, "square pair"]:
    """The matrix from products C_i C_j (i ≤ j, as `square_pairs`) to the coefficients of p²."""
    pairs = square_pairs(degree)
    matrix = np.zeros((2 * degree + 1, len(pairs)))
    for column, (i, j) in enumerate(pairs):
        weight = comb(degree, i) * comb(degree, j) / comb(2 * degree, i + j)
        matrix[i + j, column] = weight if i == j else 2.0 * weight
    return matrix


def derivative(polynomial: Polynomial, width: np.ndarray | float) -> Inexact[np.ndarray, "lower *axes"]:
    """Coefficients of dp/dt on an interval of the given width, one degree lower."""
    degree = polynomial.shape[0] - 1
    return np.asarray(degree * np.diff(polynomial, axis=0) / width)


def evaluate(polynomial: Polynomial, s: float) -> np.ndarray:
    """The value at s ∈ [0, 1]."""
    degree = polynomial.shape[0] - 1
    weights = np.array([comb(degree, k) * s**k * (1.0 - s) ** (degree - k) for k in range(degree + 1)])
    return np.asarray(np.tensordot(weights, polynomial, 1))
