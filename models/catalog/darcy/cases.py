"""Problems with known answers, for the reference solver.

Each case solves on a grid of the given number of nodes per side and returns nodal values to compare with the exact ones.
"""

from collections.abc import Callable

import numpy as np

from models.catalog.darcy import reference
from models.numerics.finite_volume import FaceMean
from models.physical_model import Case

GRIDS = (22, 43, 85)


def _nodes(points: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(0.0, 1.0, points)
    return axis[:, None], axis[None, :]


def _smooth_medium(points: int) -> np.ndarray:
    x, y = _nodes(points)
    return np.asarray(np.exp(np.sin(2 * np.pi * x) * np.cos(np.pi * y)))


def _sines(points: int) -> np.ndarray:
    x, y = _nodes(points)
    return np.asarray(np.sin(np.pi * x) * np.sin(np.pi * y))


def _smooth_source(points: int) -> np.ndarray:
    """f = −∇·(a∇u) for a = exp(sin 2πx cos πy), u = sin πx sin πy."""
    x, y = _nodes(points)
    medium, pi = _smooth_medium(points), np.pi
    slope_x = 2 * pi * np.cos(2 * pi * x) * np.cos(pi * y)
    slope_y = -pi * np.sin(2 * pi * x) * np.sin(pi * y)
    along_x = pi * np.cos(pi * x) * np.sin(pi * y)
    along_y = pi * np.sin(pi * x) * np.cos(pi * y)
    return np.asarray(medium * (2 * pi**2 * _sines(points) - slope_x * along_x - slope_y * along_y))


def _manufactured(face_mean: FaceMean) -> Callable[[int], np.ndarray]:
    def solve(points: int) -> np.ndarray:
        return reference.solve(_smooth_medium(points), _smooth_source(points), face_mean)

    return solve


def _constant(points: int) -> np.ndarray:
    return reference.solve(np.full((points, points), 2.0))


def _constant_series(points: int) -> np.ndarray:
    """u = Σ_{odd k,m} 16/(π⁴ k m (k²+m²)) sin kπx sin mπy / a, a = 2; 400 odd modes per axis."""
    x, _ = _nodes(points)
    odd = np.arange(1, 800, 2)
    sines = np.sin(np.pi * x * odd[None, :])
    weights = 16.0 / (np.pi**4 * odd[:, None] * odd[None, :] * (odd[:, None] ** 2 + odd[None, :] ** 2))
    return np.asarray(sines @ weights @ sines.T / 2.0)


def _layered_medium(points: int) -> np.ndarray:
    x, y = _nodes(points)
    return np.asarray(np.where(x < 0.5, 3.0, 12.0) + 0.0 * y)


def _layered_exact(points: int) -> np.ndarray:
    """A ∂ₓu continuous at x = ½: u = sin(2πx) sin(πy)/a is zero there, with flux 2π cos(2πx) sin(πy) on both sides."""
    x, y = _nodes(points)
    return np.asarray(np.sin(2 * np.pi * x) * np.sin(np.pi * y) / _layered_medium(points))


def _layered(points: int) -> np.ndarray:
    """The interface lies midway between two nodes, so `points` must be even."""
    x, y = _nodes(points)
    source = 5 * np.pi**2 * np.sin(2 * np.pi * x) * np.sin(np.pi * y)
    return reference.solve(_layered_medium(points), source, "harmonic")


CASES = (
    Case("manufactured, arithmetic means", _manufactured("arithmetic"), _sines, GRIDS, 2e-3, 2.0,
         "manufactured: a = exp(sin 2πx cos πy), u = sin πx sin πy; 2e−3 is twice h² at 85²"),
    Case("manufactured, geometric means", _manufactured("geometric"), _sines, GRIDS, 2e-3, 2.0,
         "manufactured, as above"),
    Case("manufactured, harmonic means", _manufactured("harmonic"), _sines, GRIDS, 2e-3, 2.0,
         "manufactured, as above"),
    Case("constant medium", _constant, _constant_series, GRIDS, 2e-4, 2.0,
         "double sine series, centre value 0.0736713/a"),
    Case("layered medium", _layered, _layered_exact, (22, 44, 88), 2e-3, 2.0,
         "u = sin 2πx sin πy / a, interface at x = ½ midway between nodes, harmonic means exact for the flux"),
)  # fmt: skip
