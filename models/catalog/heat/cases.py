"""Problems with known answers, for the reference solver.

Each case solves on a grid of the given number of nodes per side and returns nodal values to compare with the exact ones.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.optimize import brentq

from models.catalog.heat import reference
from models.numerics import bilinear
from models.physical_model import Case

TIMES = np.array([0.02, 0.1])
SLOW, FAST = 0.5, 2.0  # diffusivities of the two layers

Frames = Float[np.ndarray, "time x y"]


def _nodes(points: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, points)


def _constant_medium(points: int) -> Frames:
    return reference.solve(np.full((points, points), 2.0), _two_modes(points, np.zeros(1))[0], TIMES)


def _two_modes(points: int, times: np.ndarray) -> Frames:
    """Σ e^{−2π²(k² + m²)t} sin kπx sin mπy for a = 2 and (k, m) = (1, 1), (2, 1)."""
    x = np.pi * _nodes(points)
    parts = [
        np.exp(-2 * np.pi**2 * (k**2 + 1) * times)[:, None, None] * np.outer(np.sin(k * x), np.sin(x)) for k in (1, 2)
    ]
    return np.asarray(sum(parts))


@lru_cache(maxsize=1)
def _layered_mode() -> tuple[float, float, float]:
    """(μ, α, β): −(aX′)′ + aπ²X = μX, X(0) = X(1) = 0 by matching X and aX′ at x = ½, a = ½ | 2.

    Left X = sin αx sinh ½β, right X = sin ½α sinh β(1 − x), α² = μ/½ − π², β² = π² − μ/2.
    """

    def wave_numbers(mu: float) -> tuple[float, float]:
        return np.sqrt(mu / SLOW - np.pi**2), np.sqrt(np.pi**2 - mu / FAST)

    def mismatch(mu: float) -> float:
        alpha, beta = wave_numbers(mu)
        left = SLOW * alpha * np.cos(alpha / 2) * np.sinh(beta / 2)
        return float(left + FAST * beta * np.sin(alpha / 2) * np.cosh(beta / 2))

    low = SLOW * (np.pi**2 + np.pi**2)  # α = π: the slope on the left is zero
    mu = float(brentq(mismatch, low, FAST * np.pi**2 - 1e-9))
    return (mu, *wave_numbers(mu))


def _layered_exact(points: int, times: np.ndarray = TIMES) -> Frames:
    mu, alpha, beta = _layered_mode()
    x = _nodes(points)
    left, right = np.sin(alpha * x) * np.sinh(beta / 2), np.sin(alpha / 2) * np.sinh(beta * (1 - x))
    across = np.where(x < 0.5, left, right)
    mode = np.outer(across / np.abs(across).max(), np.sin(np.pi * x))
    return np.asarray(np.exp(-mu * times)[:, None, None] * mode)


def _layered(points: int) -> Frames:
    """The interface lies midway between two nodes, so `points` must be even."""
    medium = np.where(_nodes(points) < 0.5, SLOW, FAST)[:, None] * np.ones(points)
    return reference.solve(medium, _layered_exact(points, np.zeros(1))[0], TIMES)


def _random(points: int) -> tuple[bilinear.Nodes, bilinear.Cells]:
    generator = np.random.default_rng(1)
    initial = np.pad(generator.standard_normal((points - 2, points - 2)), 1)
    return reference.refined(np.exp(generator.standard_normal((points, points))), initial, 2)


def _krylov(points: int) -> Frames:
    return reference.evolve(*_random(points)).at(TIMES)


def _dense(points: int) -> Frames:
    """The same semi-discrete problem by all its eigenvectors: e^{−tM⁻¹A}."""
    initial, coefficient = _random(points)
    mass, stiffness = bilinear.mass_matrix(len(coefficient)), bilinear.stiffness_matrix(coefficient)
    rates, vectors = eigh(stiffness.toarray(), mass.toarray())
    start = vectors.T @ (mass @ initial[1:-1, 1:-1].ravel())
    inner = (vectors * start) @ np.exp(-np.outer(rates, TIMES))
    return np.pad(inner.T.reshape(len(TIMES), *(len(initial) - 2,) * 2), ((0, 0), (1, 1), (1, 1)))


CASES = (
    Case("two modes in a constant medium", _constant_medium, lambda points: _two_modes(points, TIMES), (9, 17, 33),
         5e-3, 2.0, "eigenfunctions of the square; 5e−3 is a few times the rate's error π²h²/12 of half cells over 8 decay times"),
    Case("two layers", _layered, _layered_exact, (10, 20, 40), 5e-3, 2.0,
         "eigenfunction of a layered medium, interface midway between nodes; its rate from the matching condition"),
    Case("time alone", _krylov, _dense, (9,), 1e-6, None,
         "the semi-discrete problem by a dense eigenvalue decomposition, rough data"),
)  # fmt: skip
