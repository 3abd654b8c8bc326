"""Random initial velocities and viscosities.

The training law is that of the PI-DeepONet and PINO data (arXiv 2103.10974, 2111.03794),

    u₀ = √2 σ Σ_{k=1}^{points/2−1} ((2πk)² + τ²)^{−γ/2} (ξ_k cos 2πkx + η_k sin 2πkx),   ξ, η ~ N(0, 1),

γ = 4, τ = 5, σ = 625. The papers write N(0, 25²(−Δ + 25)^{−4}); their script uses σ = 625 as an amplitude, which is 25
times larger, and so do we: with σ = 25 the standard deviation would be 0.0085 and the equation all but linear.
Every family is a Fourier series cut at points/2 − 1, and its numbers are drawn from the lowest mode up: fewer points see
the same function with fewer modes. The families other than "pino" are held out: nothing is trained on them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Float32

from models.physical_model import Arrays

Series = tuple[Float[np.ndarray, " mode"], Float[np.ndarray, " mode"]]
LEAST, GREATEST = 1e-3, 0.1


def log_uniform(generator: np.random.Generator) -> float:
    """The training law of the viscosity."""
    return float(np.exp(generator.uniform(np.log(LEAST), np.log(GREATEST))))


def fixed(generator: np.random.Generator, value: float) -> float:
    """A viscosity outside the training law."""
    return value


def gaussian(generator: np.random.Generator, modes: int, gamma: float, tau: float, sigma: float) -> Series:
    """Cosine and sine coefficients of √2 σ (−Δ + τ²)^{−γ/2} applied to white noise, mean left out."""
    wavenumber = 2 * np.pi * np.arange(1, modes + 1)
    scale = np.sqrt(2.0) * sigma * (wavenumber**2 + tau**2) ** (-gamma / 2)
    noise = generator.standard_normal((modes, 2))
    return scale * noise[:, 0], scale * noise[:, 1]


def two_sines(generator: np.random.Generator, modes: int) -> Series:
    """Two waves of lengths 1 and ½: amplitudes uniform in [0.1, 0.5], any phase."""
    cosine, sine = np.zeros((2, modes))
    for index in range(2):
        amplitude, phase = generator.uniform(0.1, 0.5), generator.uniform(0.0, 2 * np.pi)
        cosine[index], sine[index] = amplitude * np.cos(phase), amplitude * np.sin(phase)
    return cosine, sine


def smoothed_step(generator: np.random.Generator, modes: int) -> Series:
    """Mean-free step up and down, height uniform in [0.2, 0.8], smoothed by a Gaussian of width in [0.01, 0.03]."""
    height, width = generator.uniform(0.2, 0.8), generator.uniform(0.01, 0.03)
    centre, share = generator.uniform(0.0, 1.0), generator.uniform(0.3, 0.7)
    order = np.arange(1, modes + 1)
    size = 2 * height * np.sin(np.pi * order * share) / (np.pi * order) * np.exp(-2 * (np.pi * order * width) ** 2)
    return size * np.cos(2 * np.pi * order * centre), size * np.sin(2 * np.pi * order * centre)


Family = tuple[Callable[[np.random.Generator], float], Callable[[np.random.Generator, int], Series]]
smooth = partial(gaussian, gamma=4.0, tau=5.0, sigma=625.0)

FAMILIES: dict[str, Family] = {
    "pino": (log_uniform, smooth),
    "viscosity_5e-4": (partial(fixed, value=5e-4), smooth),
    "viscosity_0.2": (partial(fixed, value=0.2), smooth),
    "rough": (log_uniform, partial(gaussian, gamma=2.5, tau=7.0, sigma=49.0)),
    "two_sines": (log_uniform, two_sines),
    "smoothed_step": (log_uniform, smoothed_step),
}


def _values(series: Series, points: int) -> Float32[np.ndarray, " x"]:
    cosine, sine = series
    spectrum = np.zeros(points // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(cosine) + 1] = 0.5 * (cosine - 1j * sine)
    return np.fft.irfft(spectrum, points, norm="forward").astype(np.float32)


def draw(seed: int, index: int, points: int, family: str = "pino") -> Arrays:
    """Sample number `index` of the stream `seed`; equal arguments give equal samples."""
    generator = np.random.default_rng([seed, index])
    viscosity, series = FAMILIES[family]
    value = np.array(np.clip(viscosity(generator), 1e-4, 1.0), dtype=np.float32)
    return {"initial_velocity": _values(series(generator, (points - 1) // 2), points), "viscosity": value}
