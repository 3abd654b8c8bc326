"""Smoothing by (I − ℓ²Δ)⁻¹ on a uniform grid, natural boundary or periodic.

Diagonal in the cosine transform (DCT-I, nodes on the boundary) or in Fourier's, with the eigenvalues of the second
difference. Integrals by the trapezoid rule, or the rectangle rule on a period, are kept.
"""

import numpy as np
from jaxtyping import Float
from scipy.fft import dct, fft, idct, ifft


def _second_difference(points: int, periodic: bool) -> Float[np.ndarray, " mode"]:
    """Eigenvalues of −h²Δ_h."""
    period = points if periodic else 2 * (points - 1)
    return np.asarray(4.0 * np.sin(np.pi * np.arange(points) / period) ** 2)


def smooth(
    values: Float[np.ndarray, "*grid"], lengths: tuple[float, ...], periodic: tuple[bool, ...]
) -> Float[np.ndarray, "*grid"]:
    """(I − Σ ℓ²∂²)⁻¹ of nodal values; `lengths` are in steps of each axis, zero where there is nothing to smooth."""
    spectrum: np.ndarray = np.asarray(values, dtype=np.complex128)
    symbol = np.ones(values.shape)
    for axis, (length, wraps) in enumerate(zip(lengths, periodic, strict=True)):
        if length > 0.0:
            spectrum = fft(spectrum, axis=axis) if wraps else dct(spectrum, type=1, axis=axis)
            shape = [-1 if other == axis else 1 for other in range(values.ndim)]
            symbol = symbol + length**2 * _second_difference(values.shape[axis], wraps).reshape(shape)
    spectrum = spectrum / symbol
    for axis, (length, wraps) in enumerate(zip(lengths, periodic, strict=True)):
        if length > 0.0:
            spectrum = ifft(spectrum, axis=axis) if wraps else idct(spectrum, type=1, axis=axis)
    return np.asarray(spectrum.real)
