"""Ensemble spread and split-conformal bands.

    t²(x) = mean_m 2 b_m(x)² + var_m(v_m(x)),     s = G_w[t] + ε,     u ∈ m ± q s

m is the ensemble mean, b_m each member's own Laplace scale where the graph gives one (deep ensembles,
Lakshminarayanan et al. 2017), G_w a Gaussian filter of w cells. w and ε = floor × rms t come from the tune split.
q is the k-th smallest calibration score, k = ⌈(n+1)·level⌉ (Vovk et al. 2005; Angelopoulos & Bates 2107.07511).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from scipy.stats import beta

from models.errors import UnsupportedLevel

HALF_ROUNDING = 2.0**-11  # relative rounding of float16, in which residuals and scales are stored


@dataclass(frozen=True)
class Scale:
    """How spread becomes the scale of a band; `exact_boundary` rings of nodes carry no error by construction."""

    smoothing: float
    floor: float
    exact_boundary: int


def ensemble_spread(
    members: Float[np.ndarray, "batch member *grid"], scales: Float[np.ndarray, "batch member *grid"] | None
) -> Float[np.ndarray, "batch *grid"]:
    """t(x), the standard deviation the ensemble assigns to its own error."""
    variance = members.var(axis=1, ddof=1) if members.shape[1] > 1 else np.zeros_like(members[:, 0])
    if scales is not None:
        variance = variance + 2.0 * np.square(scales).mean(axis=1)
    return np.asarray(np.sqrt(variance))


def interior(shape: tuple[int, ...], rings: int) -> np.ndarray:
    """Mask of the points where the answer is not exact by construction."""
    mask = np.ones(shape, dtype=bool)
    for axis in range(len(shape) if rings else 0):
        edge = np.moveaxis(mask, axis, 0)
        edge[:rings] = edge[-rings:] = False
    return mask


def band_scale(spread: Float[np.ndarray, "batch *grid"], scale: Scale) -> Float[np.ndarray, "batch *grid"]:
    """s(x) = G_w[t](x) + ε, zero where the answer is exact."""
    smooth = spread
    if scale.smoothing > 0:
        widths = (0.0,) + (scale.smoothing,) * (spread.ndim - 1)
        smooth = gaussian_filter(np.asarray(spread, dtype=np.float64), widths, mode="nearest")
    return np.asarray((smooth + scale.floor) * interior(spread.shape[1:], scale.exact_boundary))


def rank(count: int, level: float) -> int:
    """k = ⌈(n+1)·level⌉ of `count` calibration scores.

    Raises UnsupportedLevel when the level is not in (0, 1) or needs more than `count` scores.
    """
    if not 0.0 < level < 1.0:
        raise UnsupportedLevel("a level in (0, 1)", f"{level:g}", "0.9 is usual.")
    k = math.ceil((count + 1) * level - 1e-9)
    if k > count:
        largest = count / (count + 1)
        raise UnsupportedLevel(
            f"a level up to {largest:.5f}, which {count} calibration cases support",
            f"{level:g}",
            f"A finite band at this level needs {math.ceil(level / (1 - level) - 1e-9)} cases; choose a lower level.",
        )
    return k


def coverage_interval(count: int, level: float, mass: float = 0.9) -> tuple[float, float]:
    """Interval of the realised coverage, Beta(k, n+1−k), holding `mass` of its law."""
    k = rank(count, level)
    law = beta(k, count + 1 - k)
    return float(law.ppf((1 - mass) / 2)), float(law.ppf((1 + mass) / 2))


class Calibration:
    """Scores, residuals and scales of the calibration set; any level and any linear functional by look-up."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.scores: np.ndarray = np.sort(arrays["scores"])
        self.profile: np.ndarray | None = arrays.get("profile")
        self._residuals = arrays["residuals"].astype(np.float32) * arrays["residual_unit"]
        self._scales = arrays["scales"].astype(np.float32) * arrays["scale_unit"]
        ratio = np.abs(self._residuals) / np.where(self._scales > 0, self._scales, 1.0)
        # both were rounded to half precision: enlarge so that rounding can only widen the band
        self._pointwise = np.sort(ratio * ((1 + HALF_ROUNDING) / (1 - HALF_ROUNDING)), axis=0)

    @property
    def count(self) -> int:
        """Number of calibration cases."""
        return len(self.scores)

    def largest_residuals(self) -> np.ndarray:
        """max_x |r_i(x)| of every calibration case: the scores of a band of constant width."""
        return np.asarray(np.abs(self._residuals).reshape(self.count, -1).max(axis=1))

    def simultaneous(self, level: float) -> float:
        """q such that all points lie in m ± q s at once.

        Raises UnsupportedLevel.
        """
        return float(self.scores[rank(self.count, level) - 1])

    def pointwise(self, level: float) -> np.ndarray:
        """q(x) such that each fixed point lies in m ± q s.

        Raises UnsupportedLevel.
        """
        return np.asarray(self._pointwise[rank(self.count, level) - 1])

    def linear(self, weights: np.ndarray, scale: np.ndarray, level: float) -> float:
        """Half-width of the interval of Σ w u for one answer with the given scale.

        Raises UnsupportedLevel.
        """
        axes = tuple(range(1, self._residuals.ndim))
        size = np.abs(weights)
        rounding = HALF_ROUNDING * (size * np.abs(self._residuals)).sum(axis=axes)
        numerators = np.abs((weights * self._residuals).sum(axis=axes)) + rounding
        denominators = (1 - HALF_ROUNDING) * (size * self._scales).sum(axis=axes)
        here = float((size * scale).sum())
        if here == 0.0:  # only points that are exact by construction
            return 0.0
        ratios = np.sort(numerators / denominators)
        return float(ratios[rank(self.count, level) - 1]) * here
