"""Gaussian random fields on the unit square by their Karhunen–Loève expansion.

    ξ = Σ_k c_k √λ_k φ_k,   c_k ~ N(0, 1),   φ_k = cos(πk₁x) cos(πk₂y) (Neumann eigenfunctions),
    √λ_k = τ^{α−1} (π²(k₁² + k₂²) + τ²)^{−α/2},   λ_0 = 0,

the law N(0, τ^{2(α−1)}(−Δ + τ²)^{−α}) of Li et al., "Fourier neural operator" (arXiv 2010.08895, §5.2).
"""

import numpy as np
from jaxtyping import Float
from scipy.fft import idctn


def neumann_field(
    generator: np.random.Generator, points: int, smoothness: float, inverse_length: float
) -> Float[np.ndarray, "x y"]:
    """Draw one mean-free field on `points`² nodes; α is `smoothness`, τ is `inverse_length`.

    The discrete scaling (orthonormal inverse DCT-II times `points`) is that of the authors' own generator.
    """
    wavenumber = np.pi * np.arange(points)
    symbol = wavenumber[:, None] ** 2 + wavenumber[None, :] ** 2 + inverse_length**2
    coefficients = inverse_length ** (smoothness - 1) * symbol ** (-smoothness / 2)
    coefficients[0, 0] = 0.0
    noise = generator.standard_normal((points, points))
    field: Float[np.ndarray, "x y"] = points * idctn(coefficients * noise, type=2, norm="ortho")
    return field
