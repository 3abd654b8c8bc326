"""Scores of probabilistic forecasts (Gneiting & Raftery 2007)."""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

Values = Float[np.ndarray, "*shape"]


def gaussian_crps(mean: Values, deviation: Values, truth: Values) -> Values:
    """CRPS of N(mean, deviation²): σ [z(2Φ(z) − 1) + 2φ(z) − 1/√π], z = (y − μ)/σ (§4.2 there)."""
    mu, sigma, y = (np.asarray(v, dtype=np.float64) for v in (mean, deviation, truth))
    z = (y - mu) / sigma
    density = np.exp(-0.5 * np.square(z)) / np.sqrt(2.0 * np.pi)
    return np.asarray(sigma * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi)))


def ensemble_crps(members: Float[np.ndarray, "member *shape"], truth: Values, fair: bool = False) -> Values:
    """(1/M) Σ|xᵢ − y| − Σᵢⱼ|xᵢ − xⱼ|/(2M²), or /(2M(M−1)) when `fair`."""
    x = np.sort(np.asarray(members, dtype=np.float64), axis=0)
    count = len(x)
    # Σᵢⱼ|xᵢ − xⱼ| = 2 Σₖ (2k − M + 1) x₍ₖ₎ for sorted members
    weights = (2.0 * np.arange(count) - count + 1.0).reshape(-1, *(1,) * (x.ndim - 1))
    pairs = 2.0 * (weights * x).sum(axis=0)
    scale = 2.0 * count * (count - 1 if fair else count)
    return np.asarray(np.abs(x - truth).mean(axis=0) - pairs / scale)
