"""Random media and initial temperatures.

    a = c^{s − 1/2},   s: g mapped onto [0, 1],   contrast c log-uniform in [1, 12]
    g = Σ_{k,m=0}^{15} (π²(k² + m²) + 25)^{−3/2} ξ_km cos kπx cos mπy,     ξ, η ~ N(0, 1)
    u₀ = σ Σ_{k,m=1}^{16} (k² + m² + 9)^{−5/2} η_km sin kπx sin mπy,      σ = 330

so that the geometric middle of a is 1 and u₀ is of order one. Another grid sees the same functions, but for the extremes
of g, which are those of its nodes. The families other than "smooth" are held out: nothing is trained on them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Float32

from models.physical_model import Arrays

MODES = 16
AMPLITUDE = 330.0
LARGEST_CONTRAST = 12.0

Nodal = Float[np.ndarray, "x y"]
Coefficients = Float[np.ndarray, "mode mode"]


def _gaussian(generator: np.random.Generator, points: int, inverse_length: float) -> Nodal:
    """g, with another inverse correlation length for other families."""
    modes = np.arange(MODES)
    size = (np.pi**2 * (modes[:, None] ** 2 + modes**2) + inverse_length**2) ** -1.5
    waves = np.cos(np.pi * np.linspace(0.0, 1.0, points)[:, None] * modes)
    return np.asarray(waves @ (size * generator.standard_normal((MODES, MODES))) @ waves.T)


def _smooth(
    generator: np.random.Generator, points: int, least: float, greatest: float, inverse_length: float = 5.0
) -> Nodal:
    contrast = np.exp(generator.uniform(np.log(least), np.log(greatest)))
    field = _gaussian(generator, points, inverse_length)
    span = max(float(np.ptp(field)), 1e-300)
    return np.asarray(contrast ** ((field - field.min()) / span - 0.5))


def _constant(generator: np.random.Generator, points: int) -> Nodal:
    return np.ones((points, points))


def _two_phase(generator: np.random.Generator, points: int, contrast: float) -> Nodal:
    root = np.sqrt(contrast)
    return np.asarray(np.where(_gaussian(generator, points, 5.0) >= 0.0, root, 1.0 / root))


def _initial(generator: np.random.Generator, points: int, power: float, amplitude: float) -> Nodal:
    modes = np.arange(1, MODES + 1)
    size = amplitude * (modes[:, None] ** 2 + modes**2 + 9.0) ** -power
    waves = np.sin(np.pi * np.linspace(0.0, 1.0, points)[:, None] * modes)
    waves[[0, -1]] = 0.0
    return np.asarray(waves @ (size * generator.standard_normal((MODES, MODES))) @ waves.T)


Family = Callable[[np.random.Generator, int], tuple[Nodal, Nodal]]


def _family(
    medium: Callable[[np.random.Generator, int], Nodal], power: float = 2.5, amplitude: float = AMPLITUDE
) -> Family:
    return lambda generator, points: (medium(generator, points), _initial(generator, points, power, amplitude))


FAMILIES: dict[str, Family] = {
    "smooth": _family(partial(_smooth, least=1.0, greatest=LARGEST_CONTRAST)),
    "constant": _family(_constant),
    "contrast_4": _family(partial(_smooth, least=4.0, greatest=4.0)),
    "contrast_12": _family(partial(_smooth, least=LARGEST_CONTRAST, greatest=LARGEST_CONTRAST)),
    "contrast_50": _family(partial(_smooth, least=50.0, greatest=50.0)),
    "short_scale": _family(partial(_smooth, least=1.0, greatest=LARGEST_CONTRAST, inverse_length=10.0)),
    "long_scale": _family(partial(_smooth, least=1.0, greatest=LARGEST_CONTRAST, inverse_length=2.5)),
    "two_phase": _family(partial(_two_phase, contrast=4.0)),
    "rough_initial": _family(partial(_smooth, least=1.0, greatest=LARGEST_CONTRAST), 1.5, 30.0),
}


def draw(seed: int, index: int, points: int, family: str = "smooth") -> Arrays:
    """Sample number `index` of the stream `seed`; equal arguments give equal samples."""
    medium, initial = FAMILIES[family](np.random.default_rng([seed, index]), points)
    return {"diffusivity": _single(medium), "initial_temperature": _single(initial)}


def _single(values: Nodal) -> Float32[np.ndarray, "x y"]:
    return values.astype(np.float32)
