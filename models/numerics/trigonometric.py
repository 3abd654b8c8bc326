"""Trigonometric polynomials of period 1, and what equispaced samples prove about them.

    f(x) = c₀ + 2 Re Σ_{k=1..n} c_k e^{2πikx},   samples f_j = f(j/P),   P > 2n

Coefficients are (c₀, …, c_n). Between samples nothing is hidden but a factor:

    max f − min f ≤ (max f_j − min f_j) / cos(πn/P)                    (Ehlich & Zeller 1964)
    ∫|f| dx ≤ (P/(P − 2n))^{1/2} · (1/P) Σ|f_j|

For the second let V have coefficients 1 up to n, falling to 0 at P − n: V is the product of the Dirichlet kernels with P
and P − 2n terms over P − 2n, f = (1/P) Σ f_j V(· − x_j), and ‖V‖₁ ≤ (P(P − 2n))^{1/2}/(P − 2n) by Cauchy's inequality.
"""

import numpy as np
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len

from models.errors import OutOfRange

Coefficients = Complex[np.ndarray, "*rows mode"]


def coefficients(values: Float[np.ndarray, "*rows x"]) -> Coefficients:
    """Coefficients of the interpolant; of an even number of points the highest mode is taken as a cosine."""
    points = values.shape[-1]
    found = np.fft.rfft(np.asarray(values, dtype=np.float64), norm="forward")
    if points % 2 == 0:
        found[..., -1] *= 0.5
    return found


def evaluate(polynomial: Coefficients, points: int) -> Float[np.ndarray, "*rows x"]:
    """Values at j/points.

    Raises OutOfRange unless points exceed twice the degree.
    """
    _require(polynomial.shape[-1] - 1, points)
    return np.asarray(np.fft.irfft(polynomial, points, norm="forward"))


def derivative(polynomial: Coefficients) -> Coefficients:
    """Coefficients of f′."""
    return np.asarray(polynomial * (2j * np.pi * np.arange(polynomial.shape[-1])))


def primitive(polynomial: Coefficients) -> Coefficients:
    """Coefficients of the mean-free primitive of f − ∫f."""
    factor = np.zeros(polynomial.shape[-1], dtype=np.complex128)
    factor[1:] = 1.0 / (2j * np.pi * np.arange(1, len(factor)))
    return np.asarray(polynomial * factor)


def fast_points(least: int) -> int:
    """The next number of points at which transforms are fast."""
    return int(next_fast_len(least, real=True))


def _require(degree: int, points: int) -> None:
    if points <= 2 * degree:
        raise OutOfRange("points", f"more than twice the degree {degree}", str(points))


def maximum_factor(degree: int, points: int) -> float:
    """Largest ratio of max|f|, or of the oscillation, to its sampled value.

    Raises OutOfRange unless points exceed twice the degree.
    """
    _require(degree, points)
    return float(1.0 / np.cos(np.pi * degree / points))


def integral_factor(degree: int, points: int) -> float:
    """A ratio that ∫|f| to its sampled value never exceeds.

    Raises OutOfRange unless points exceed twice the degree.
    """
    _require(degree, points)
    return float(np.sqrt(points / (points - 2 * degree)))


def oscillation_bound(values: Float[np.ndarray, "*rows x"], degree: int) -> Float[np.ndarray, "*rows"]:
    """Upper bound of max f − min f from samples of polynomials of the given degree."""
    sampled = values.max(axis=-1) - values.min(axis=-1)
    return np.asarray(sampled * maximum_factor(degree, values.shape[-1]))


def integral_bound(values: Float[np.ndarray, "*rows x"], degree: int) -> Float[np.ndarray, "*rows"]:
    """Upper bound of ∫|f| from samples of polynomials of the given degree."""
    return np.asarray(np.abs(values).mean(axis=-1) * integral_factor(degree, values.shape[-1]))
