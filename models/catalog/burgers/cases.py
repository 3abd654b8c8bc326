"""Problems with known answers, for the reference solver.

The method is spectral in x, so there is no order to see there: cases of an order 4 run on a fixed grid, and their
`points` are the time levels, steps + 1. The others solve as the reference does, on that many nodes.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float
from scipy.special import ive

from models.catalog.burgers import reference
from models.physical_model import Case

GRID = 256
QUADRATURE = 6000  # nodes over ten standard deviations: far past the spectral accuracy of the trapezoidal rule

Values = Float[np.ndarray, " x"]
Function = Callable[[np.ndarray], np.ndarray]


def _nodes(points: int) -> Values:
    return np.arange(points) / points


def _sine(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * x))


def _two_modes(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.2 * np.sin(2 * np.pi * x) + 0.3 * np.cos(4 * np.pi * x))


def _two_modes_primitive(x: np.ndarray) -> np.ndarray:
    return np.asarray((0.3 * np.sin(4 * np.pi * x) - 0.4 * np.cos(2 * np.pi * x)) / (4 * np.pi))


def sine_series(x: np.ndarray, viscosity: float, time: float) -> np.ndarray:
    """u = 4πν Σ n a_n d_n sin 2πnx / (I₀ + Σ a_n d_n cos 2πnx), a_n = 2 I_n(1/4πν), d_n = e^{−4π²n²νt}, for u₀ = sin 2πx.

    The Bessel functions are scaled by e^{−1/4πν}, which cancels.
    """
    order, argument = np.arange(1, 400), 1.0 / (4 * np.pi * viscosity)
    weight = 2 * ive(order, argument) * np.exp(-4 * np.pi**2 * order**2 * viscosity * time)
    angle = 2 * np.pi * order * np.asarray(x)[:, None]
    below = ive(0, argument) + np.cos(angle) @ weight
    return np.asarray(4 * np.pi * viscosity * (np.sin(angle) @ (order * weight)) / below)


def cole_hopf(initial: Function, primitive: Function, x: np.ndarray, viscosity: float, time: float) -> np.ndarray:
    """u(t, x) = ∫ u₀(y) e^{−Ψ/2ν} dy / ∫ e^{−Ψ/2ν} dy, Ψ = (x − y)²/2t + ∫₀^y u₀, by the trapezoidal rule.

    Both integrands decay like a Gaussian of variance 2νt about their peaks, which lie within t max|u₀| of x.
    """
    reach = 10 * np.sqrt(2 * viscosity * time) + time * float(np.abs(initial(np.linspace(0, 1, 512))).max()) + 0.05
    y = np.asarray(x)[:, None] + np.linspace(-reach, reach, QUADRATURE)
    exponent = -((y - np.asarray(x)[:, None]) ** 2 / (2 * time) + primitive(y)) / (2 * viscosity)
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray((weight * initial(y)).sum(axis=1) / weight.sum(axis=1))


def _stepped(initial: Function, viscosity: float, time: float, levels: int) -> Values:
    """The scheme with levels − 1 steps on the fixed grid."""
    start, step = initial(_nodes(GRID))[None], time / (levels - 1)
    return np.asarray(reference.integrate(start, np.array([viscosity]), np.array([time]), GRID, step)[0, 0])


def _solved(initial: Function, viscosity: float, time: float, points: int) -> Values:
    return np.asarray(reference.solve(initial(_nodes(points))[None], np.array([viscosity]), np.array([time]))[0, 0])


def _sine_exact(viscosity: float, time: float, levels: int) -> Values:
    return sine_series(_nodes(GRID), viscosity, time)


@lru_cache(maxsize=8)
def _two_modes_exact(viscosity: float, time: float, points: int) -> Values:
    return cole_hopf(_two_modes, _two_modes_primitive, _nodes(points), viscosity, time)


def _two_modes_stepped_exact(viscosity: float, time: float, levels: int) -> Values:
    return _two_modes_exact(viscosity, time, GRID)


SMALL = 1e-8


def _small(x: np.ndarray) -> np.ndarray:
    return np.asarray(SMALL * (np.sin(2 * np.pi * x) + np.cos(6 * np.pi * x)))


def _small_exact(viscosity: float, time: float, points: int) -> Values:
    x, decay = _nodes(points), -4 * np.pi**2 * viscosity * time
    return np.asarray(SMALL * (np.exp(decay) * np.sin(2 * np.pi * x) + np.exp(9 * decay) * np.cos(6 * np.pi * x)))


def _shifted(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + _two_modes(x))


def _shifted_exact(viscosity: float, time: float, points: int) -> Values:
    """Galilean invariance: mean velocity c carries the mean-free solution along by ct."""
    moved = cole_hopf(_two_modes, _two_modes_primitive, _nodes(points) - 0.5 * time, viscosity, time)
    return np.asarray(0.5 + moved)


LEVELS = (41, 81, 161)

CASES = (
    Case("sine, order in time", partial(_stepped, _sine, 0.02, 0.5), partial(_sine_exact, 0.02, 0.5), LEVELS,
         1e-6, 4.0, "Cole–Hopf series (Cole 1951); points are time levels, 256 nodes"),
    Case("two modes, order in time", partial(_stepped, _two_modes, 0.01, 1.0),
         partial(_two_modes_stepped_exact, 0.01, 1.0), LEVELS,
         1e-6, 4.0, "Cole–Hopf by quadrature; points are time levels, 256 nodes"),
    Case("sine through the front", partial(_solved, _sine, 0.005, 0.5), lambda points: sine_series(_nodes(points), 0.005, 0.5),
         (256, 512), 1e-6, None, "Cole–Hopf series with scaled Bessel functions"),
    Case("two modes at ν = 0.001", partial(_solved, _two_modes, 1e-3, 1.0), partial(_two_modes_exact, 1e-3, 1.0),
         (256, 512), 1e-5, None, "Cole–Hopf by quadrature; 1e−5 is a hundredth of what the surrogate is trained to"),
    Case("moving frame", partial(_solved, _shifted, 0.01, 1.0), partial(_shifted_exact, 0.01, 1.0),
         (256,), 1e-6, None, "Cole–Hopf by quadrature, carried by the mean velocity"),
    Case("small amplitude", partial(_solved, _small, 0.01, 1.0), partial(_small_exact, 0.01, 1.0),
         (64, 128), 1e-5, None, "decay of the heat equation; u ∂u/∂x adds some 2π max|u₀|/(4π²ν) ≈ 2e−7"),
)  # fmt: skip
