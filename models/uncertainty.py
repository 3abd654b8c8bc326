"""Ensemble spread, split-conformal bands, and the calibrated law of the error.

    t²(x) = mean_m 2 b_m(x)² + var_m(v_m(x)),     ŝ = G_w[min(t, c)] + ε,     s = ŝ h(⟨|ŝ|⟩),     u ∈ g⁻¹(g(m) ± q s)
    |ŝ| = ½ (g⁻¹(g(m) + ŝ) − g⁻¹(g(m) − ŝ)), the half-width in the field's own units

m is the ensemble mean, b_m each member's own Laplace scale where the graph gives one (deep ensembles,
Lakshminarayanan et al. 2017), G_w a Gaussian filter of w cells over the grid (never over lead times), g the identity
or, for depths, the shifted square root, in which v, b and t are then taken; ⟨·⟩ is the mean over the grid. The tune split
gives w, ε, the ceiling c of t and the response h(y) = (y/y₀)^β, with which inputs of narrow and of wide
bands are covered alike; it also gives κ and another response, with which the standard deviation κ t h(⟨t⟩) has the size of the
error at small and at large spread. κ, c and both responses are those of each lead time where the field has that axis. q is the k-th smallest calibration score, k = ⌈(n+1)·level⌉ (Vovk et
al. 2005; Angelopoulos & Bates 2107.07511); where cases come in b blocks that depend on each other within (hours of one
week), k = ⌈n·level·(b+1)/b⌉, as if each block were one case (Oliveira et al. 2203.15885 for what dependence costs); where
the field has an axis of lead times, each lead time has its own scores. The law of (g(u) − g(m))/s, pooled over the grid,
gives quantiles and exceedance probabilities.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from scipy.special import betaincinv

from models.errors import NotOffered, UnsupportedLevel
from models.fields import LEAD_TIME, Field

HALF_ROUNDING = 2.0**-11  # relative rounding of float16, in which residuals and scales are stored
LAW_POINTS = 999
ROOT_SHIFT = 0.01  # in √m: depths far below its square are all alike


@dataclass(frozen=True)
class Transform:
    """A monotone map of a field to where its errors are symmetric."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


TRANSFORMS = {
    "identity": Transform(lambda u: u, lambda g: g),
    "square_root": Transform(
        lambda u: np.sqrt(np.maximum(u, 0.0) + ROOT_SHIFT**2) - ROOT_SHIFT,
        lambda g: np.square(np.maximum(g, 0.0) + ROOT_SHIFT) - ROOT_SHIFT**2,
    ),
}


@dataclass(frozen=True)
class Response:
    """h(y) = (y/y₀)^β of the mean scale y of an answer, y kept within what the tune split saw.

    One entry per lead time where the field has that axis, else one.
    """

    exponent: tuple[float, ...]
    reference: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> "Response | None":
        """From the manifest, where it has one."""
        return None if facts is None else cls(**{name: tuple(map(float, values)) for name, values in facts.items()})


@dataclass(frozen=True)
class Scale:
    """How spread becomes the scale of a band (`response`) and a standard deviation (`dispersion`); `exact_boundary` rings of nodes carry no error by construction.

    `smoothed` counts the trailing axes that are smoothed, `grid` those that are not lead times. `ceiling` and `inflation`
    have one entry per lead time where the field has that axis, else one.
    """

    smoothing: float
    floor: float
    exact_boundary: int
    transform: str = "identity"
    smoothed: int = 2
    grid: int = 2
    ceiling: tuple[float, ...] = (math.inf,)
    inflation: tuple[float, ...] = (1.0,)
    response: Response | None = None
    dispersion: Response | None = None

    @classmethod
    def of(cls, field: Field, facts: Mapping[str, Any]) -> "Scale":
        """From the manifest's calibration of one field."""
        lists = {name: tuple(map(float, facts[name])) for name in ("ceiling", "inflation") if name in facts}
        return cls(
            facts["smoothing"], facts["floor"], facts["exact_boundary"], str(facts.get("transform", "identity")),
            sum(axis.name != LEAD_TIME and not axis.labels for axis in field.axes),
            len(field.axes) - has_lead_times(field), **lists,
            response=Response.of(facts.get("response")), dispersion=Response.of(facts.get("dispersion")),
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """For the manifest: what `of` reads, and the field itself does not say."""
        return {name: value for name, value in asdict(self).items() if name not in ("smoothed", "grid")}

    def by_lead_time(self, values: tuple[float, ...]) -> np.ndarray:
        """One value per lead time, or one for all, to broadcast against (batch, *grid)."""
        return _by_lead_time(values, self.grid)

    def means(self, values: np.ndarray) -> np.ndarray:
        """⟨·⟩, the mean over the grid, to broadcast against (batch, *grid)."""
        return np.asarray(values.mean(axis=tuple(range(values.ndim - self.grid, values.ndim)), keepdims=True))

    def responding(self, sizes: np.ndarray, measured: np.ndarray, response: Response | None) -> np.ndarray:
        """sizes·h(⟨measured⟩)."""
        if response is None:
            return sizes
        lowest, highest, reference, exponent = (
            self.by_lead_time(values)
            for values in (response.lowest, response.highest, response.reference, response.exponent)
        )
        return np.asarray(sizes * (np.clip(self.means(measured), lowest, highest) / reference) ** exponent)

    def deviation(self, spread: Float[np.ndarray, "batch *grid"]) -> Float[np.ndarray, "batch *grid"]:
        """κ t h(⟨t⟩), the standard deviation of the error, t cut at c."""
        cut = np.minimum(spread, self.by_lead_time(self.ceiling))
        return np.asarray(self.responding(cut, cut, self.dispersion) * self.by_lead_time(self.inflation))


@lru_cache(maxsize=256)
def _by_lead_time(values: tuple[float, ...], grid: int) -> np.ndarray:
    found = np.array(values, dtype=np.float32).reshape(-1, *(1,) * grid)
    found.flags.writeable = False
    return found


def has_lead_times(field: Field) -> bool:
    """Whether the first axis of a field is one of lead times."""
    return bool(field.axes) and field.axes[0].name == LEAD_TIME


def ensemble_spread(
    members: Float[np.ndarray, "batch member *grid"], scales: Float[np.ndarray, "batch member *grid"] | None
) -> Float[np.ndarray, "batch *grid"]:
    """t(x), the standard deviation the ensemble assigns to its own error; members already transformed."""
    variance = members.var(axis=1, ddof=1) if members.shape[1] > 1 else np.zeros_like(members[:, 0])
    if scales is not None:
        variance = variance + 2.0 * np.square(scales).mean(axis=1)
    return np.asarray(np.sqrt(variance))


@lru_cache(maxsize=32)
def interior(shape: tuple[int, ...], rings: int) -> np.ndarray:
    """Mask of the points where the answer is not exact by construction."""
    mask = np.ones(shape, dtype=bool)
    for axis in range(len(shape) if rings else 0):
        edge = np.moveaxis(mask, axis, 0)
        edge[:rings] = edge[-rings:] = False
    mask.flags.writeable = False
    return mask


def plain_scale(spread: Float[np.ndarray, "batch *grid"], scale: Scale) -> Float[np.ndarray, "batch *grid"]:
    """ŝ(x) = G_w[min(t, c)](x) + ε, zero where the answer is exact."""
    smooth = np.minimum(spread, scale.by_lead_time(scale.ceiling))
    if scale.smoothing > 0 and scale.smoothed:
        widths = (0.0,) * (spread.ndim - scale.smoothed) + (scale.smoothing,) * scale.smoothed
        smooth = gaussian_filter(np.asarray(smooth, dtype=np.float64), widths, mode="nearest")
    raised = smooth + scale.floor
    return np.asarray(raised * interior(spread.shape[1:], scale.exact_boundary) if scale.exact_boundary else raised)


def in_own_units(
    mean: Float[np.ndarray, "batch *grid"], sizes: Float[np.ndarray, "batch *grid"], transform: str
) -> Float[np.ndarray, "batch *grid"]:
    """½ (g⁻¹(g(m) + size) − g⁻¹(g(m) − size)), the half-width of an interval in the field's own units."""
    if transform == "identity":
        return sizes
    g = TRANSFORMS[transform]
    middle = g.forward(mean)
    return np.asarray((g.inverse(middle + sizes) - g.inverse(middle - sizes)) / 2.0)


def band_scale(
    spread: Float[np.ndarray, "batch *grid"], mean: Float[np.ndarray, "batch *grid"], scale: Scale
) -> Float[np.ndarray, "batch *grid"]:
    """s(x) = ŝ·h(⟨|ŝ|⟩) of answers with this spread and mean."""
    plain = plain_scale(spread, scale)
    return scale.responding(plain, in_own_units(mean, plain, scale.transform), scale.response)


def rank(count: int, level: float, blocks: int | None = None) -> int:
    """k = ⌈n·level·(b+1)/b⌉ of `count` calibration scores in `blocks` independent blocks, by default one each.

    Raises UnsupportedLevel when the level is not in (0, 1) or needs more scores.
    """
    independent = blocks or count
    if not 0.0 < level < 1.0:
        raise UnsupportedLevel("a level in (0, 1)", f"{level:g}", "0.9 is usual.")
    k = max(1, math.ceil(count * level * (independent + 1) / independent - 1e-9))
    if k > count:
        largest = independent / (independent + 1)
        raise UnsupportedLevel(
            f"a level up to {largest:.5f}, which {independent} independent calibration cases support",
            f"{level:g}",
            f"A finite band at this level needs {math.ceil(level / (1 - level) - 1e-9)} cases; choose a lower level.",
        )
    return k


def coverage_interval(count: int, level: float, mass: float = 0.9) -> tuple[float, float]:
    """Interval of the realised coverage, Beta(k, n+1−k), holding `mass` of its law."""
    k = rank(count, level)
    low, high = (float(betaincinv(k, count + 1 - k, share)) for share in ((1 - mass) / 2, (1 + mass) / 2))
    return low, high


@dataclass(frozen=True)
class Stored:
    """Residuals and scales of the calibration cases, kept in half precision."""

    residuals: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "Stored":
        """From a bundle's arrays."""
        residuals = arrays["residuals"].astype(np.float32) * arrays["residual_unit"]
        return cls(residuals, arrays["scales"].astype(np.float32) * arrays["scale_unit"])

    @cached_property
    def pointwise(self) -> np.ndarray:
        """|r|/s in order at every point."""
        # both were rounded to half precision: enlarge so that rounding can only widen the band
        rounding = (1 + HALF_ROUNDING) / (1 - HALF_ROUNDING)
        ratio = np.abs(self.residuals) / np.where(self.scales > 0, self.scales, 1.0) * rounding
        return np.sort(ratio, axis=0)

    def law(self) -> np.ndarray:
        """The law of the error pooled over cases and points."""
        inner = self.scales > 0
        return error_law((self.residuals[inner] / self.scales[inner])[None])

    def largest(self) -> np.ndarray:
        """max_x |r_i(x)| of every case: the scores of a band of constant width."""
        return np.asarray(np.abs(self.residuals).reshape(len(self.residuals), -1).max(axis=1))

    def ratios(self, weights: np.ndarray) -> np.ndarray:
        """|Σ w r_i| / Σ |w| s_i in order, enlarged by the rounding of half precision."""
        axes = tuple(range(1, self.residuals.ndim))
        size = np.abs(weights)
        rounding = HALF_ROUNDING * (size * np.abs(self.residuals)).sum(axis=axes)
        numerators = np.abs((weights * self.residuals).sum(axis=axes)) + rounding
        return np.asarray(np.sort(numerators / ((1 - HALF_ROUNDING) * (size * self.scales).sum(axis=axes))))


class Calibration:
    """Scores of the calibration set of one field, per lead time where it has that axis; any level by look-up.

    Where residuals and scales are stored too, pointwise bands follow exactly; elsewhere they come from the law of the error
    pooled over the grid.
    """

    def __init__(self, field: Field, arrays: Mapping[str, np.ndarray], blocks: int | None = None) -> None:
        scores = np.asarray(arrays["scores"])
        self.scores: np.ndarray = np.sort(scores.reshape(len(scores), -1), axis=0)
        self._blocks = blocks
        self._extend = (-1, *(1,) * (len(field.shape) - 1)) if has_lead_times(field) else (1,) * len(field.shape)
        self.profile: np.ndarray | None = arrays.get("profile")
        self._stored = Stored.of(arrays) if "residuals" in arrays else None
        self._stored_law = arrays.get("law")

    @cached_property
    def _law(self) -> np.ndarray:
        return self.stored.law() if self._stored_law is None else self._stored_law

    @property
    def count(self) -> int:
        """Number of calibration cases."""
        return len(self.scores)

    @property
    def independent(self) -> int:
        """Number of calibration cases, or of blocks of them, that are independent of each other."""
        return self._blocks or self.count

    def _rank(self, level: float) -> int:
        return rank(self.count, level, self._blocks)

    @property
    def stores_residuals(self) -> bool:
        """Whether residuals and scales are stored beside the scores."""
        return self._stored is not None

    @property
    def stored(self) -> "Stored":
        """Residuals and scales of the calibration cases.

        Raises NotOffered where they do not ship.
        """
        if self._stored is None:
            raise NotOffered("calibration residuals", "the bundle stores scores only")
        return self._stored

    def simultaneous(self, level: float) -> np.ndarray:
        """q such that all points (of each lead time) lie in m ± q s at once; broadcasts against the field.

        Raises UnsupportedLevel.
        """
        return np.asarray(self.scores[self._rank(level) - 1]).reshape(self._extend)

    def pointwise(self, level: float) -> np.ndarray:
        """q(x) such that each fixed point lies in m ± q s; q of a random point where residuals are not stored.

        Raises UnsupportedLevel.
        """
        k = self._rank(level)
        if self._stored is not None:
            return np.asarray(self._stored.pointwise[k - 1])
        size = np.sort(np.abs(self._law), axis=1)
        place = min(size.shape[1] - 1, math.ceil(k / self.count * size.shape[1]))
        return np.asarray(size[:, place]).reshape(self._extend)

    def error_quantile(self, probability: float) -> np.ndarray:
        """z with P((g(u) − g(m))/s ≤ z) = probability; broadcasts against the field."""
        return np.asarray(np.quantile(self._law, probability, axis=1)).reshape(self._extend)

    def exceedance(self, ratio: np.ndarray, lead: int | None = None) -> np.ndarray:
        """P((g(u) − g(m))/s > ratio) for ratios (batch, *shape), or those of one `lead` time (batch, *grid)."""
        if len(self._law) == 1 or lead is not None:
            return _tail(self._law[0 if len(self._law) == 1 else lead], ratio)
        return np.stack([_tail(law, ratio[:, index]) for index, law in enumerate(self._law)], axis=1)


def _tail(law: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 - np.searchsorted(law, ratio) / len(law))


def error_law(standardised: np.ndarray) -> np.ndarray:
    """Equally likely values of (g(u) − g(m))/s, one row per group, from samples (group, …)."""
    shares = (np.arange(LAW_POINTS) + 0.5) / LAW_POINTS
    return np.asarray(np.quantile(standardised.reshape(len(standardised), -1), shares, axis=1).T)
