"""What is not the training law, fixed beforehand: how well the validity test sees it is measured, nothing is fitted to it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from models.catalog.darcy import sampler
from models.numerics.gaussian_random_field import neumann_field
from models.physical_model import Arrays

STRIDE = 5
SPECKS = 10


def _medium(law: Callable[[np.random.Generator, int], np.ndarray], seed: int, index: int, points: int) -> Arrays:
    fine = law(np.random.default_rng([seed, index]), STRIDE * (points - 1) + 1)
    return {"permeability": fine[::STRIDE, ::STRIDE]}


def _two_phase(generator: np.random.Generator, points: int, tau: float = 3.0, level: float = 0.0) -> np.ndarray:
    """`level` in standard deviations of the thresholded field."""
    field = neumann_field(generator, points, 2.0, tau)
    return np.asarray(np.where(field >= level * field.std(), sampler.HIGH, sampler.LOW))


def _specked(generator: np.random.Generator, points: int) -> np.ndarray:
    """Single nodes of the other phase, seen by the served grid."""
    medium = _two_phase(generator, points)
    rows, columns = STRIDE * generator.integers(1, points // STRIDE - 1, size=(2, SPECKS))
    medium[rows, columns] = sampler.HIGH + sampler.LOW - medium[rows, columns]
    return medium


def _blocked(generator: np.random.Generator, points: int) -> np.ndarray:
    """A block of 2 × 2 served nodes of the other phase."""
    medium = _two_phase(generator, points)
    row, column = STRIDE * generator.integers(1, points // STRIDE - 2, size=2)
    part = (slice(row, row + STRIDE + 1), slice(column, column + STRIDE + 1))
    medium[part] = sampler.HIGH + sampler.LOW - medium[part]
    return medium


SHIFTS: Mapping[str, Callable[[int, int, int], Arrays]] = {
    "correlation length × 0.6": partial(_medium, partial(_two_phase, tau=5.0)),
    "correlation length × 0.43": partial(_medium, partial(_two_phase, tau=7.0)),
    "correlation length × 3": partial(_medium, partial(_two_phase, tau=1.0)),
    "threshold + ½ deviation": partial(_medium, partial(_two_phase, level=0.5)),
    "specks": partial(_medium, _specked),
    "a block of 2 × 2": partial(_medium, _blocked),
} | {name: partial(_medium, law) for name, law in sampler.FAMILIES.items() if name not in ("two_phase", "short_scale")}
