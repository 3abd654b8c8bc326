"""Conformal ranks, bands, linear functionals; coverage on exchangeable synthetic data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from models.errors import UnsupportedLevel
from models.fields import LEAD_TIME, Axis, Field
from models.residuals import Residuals
from models.uncertainty import (
    TRANSFORMS,
    Calibration,
    Scale,
    band_scale,
    coverage_interval,
    ensemble_spread,
    error_law,
    interior,
    rank,
)


@given(n=st.integers(1, 2000), level=st.floats(0.01, 0.99))
def test_rank_is_the_smallest_that_covers(n: int, level: float):
    """k/(n+1) ≥ level and (k−1)/(n+1) < level, unless the set is too small."""
    try:
        k = rank(n, level)
    except UnsupportedLevel:
        assert n / (n + 1) < level
    else:
        assert k / (n + 1) >= level - 1e-8
        assert (k - 1) / (n + 1) < level


@given(blocks=st.integers(10, 500), size=st.integers(1, 30))
def test_equal_blocks_of_equal_scores_count_as_one_case_each(blocks: int, size: int):
    """Every block repeats one score: the chosen score is that of the blocks alone."""
    scores = np.repeat(np.arange(blocks), size)
    assert scores[rank(len(scores), 0.9, blocks) - 1] == rank(blocks, 0.9) - 1


def test_few_blocks_support_no_high_level():
    with pytest.raises(UnsupportedLevel, match=r"0\.98113, which 52 independent"):
        rank(4000, 0.99, 52)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_levels_outside_the_open_interval_are_refused(level):
    with pytest.raises(UnsupportedLevel):
        rank(1000, level)


def test_a_level_beyond_the_calibration_size_says_how_many_cases_it_needs():
    with pytest.raises(UnsupportedLevel, match="99 cases"):
        rank(50, 0.99)


@pytest.mark.parametrize(("n", "level", "low", "high"), [(499, 0.9, 0.877, 0.921), (99, 0.95, 0.910, 0.980)])
def test_coverage_interval_matches_published_values(n, level, low, high):
    """Table of Beta(k, n+1−k) quantiles, arXiv 2303.02770."""
    assert coverage_interval(n, level) == pytest.approx((low, high), abs=6e-4)


def _field(*shape: int, lead: bool = False) -> Field:
    names = [LEAD_TIME, "y", "x"] if lead else ["y", "x"]
    axes = tuple(Axis(name, "1", points, 0.0, 1.0) for name, points in zip(names, shape, strict=True))
    return Field("u", "u", "1", "A field.", axes)


def _calibration(generator: np.random.Generator, count: int, shape=(7, 7)) -> tuple[Calibration, np.ndarray]:
    scale = np.ones((count, *shape)) * generator.uniform(0.5, 2.0, (count, 1, 1))
    residual = scale * generator.standard_normal((count, *shape))
    unit = np.float32(1e-3)
    arrays = {
        "scores": np.sort(np.abs(residual / scale).reshape(count, -1).max(axis=1)),
        "residuals": (residual / unit).astype(np.float16), "residual_unit": unit,
        "scales": (scale / unit).astype(np.float16), "scale_unit": unit,
    }  # fmt: skip
    return Calibration(_field(*shape), arrays), residual


def half_widths(calibration: Calibration, weights: np.ndarray, scales: np.ndarray, level: float) -> np.ndarray:
    return Residuals((calibration.stored,)).half_widths(calibration.stored, weights, scales, level)


def test_bands_and_linear_intervals_cover_at_their_level(generator):
    """All three statements on fresh exchangeable data; counts inside the BetaBinomial range at 1e-3."""
    n, fresh, level = 400, 400, 0.8
    calibration, _ = _calibration(generator, n)
    scale = generator.uniform(0.5, 2.0, (fresh, 1, 1)) * np.ones((fresh, 7, 7))
    residual = scale * generator.standard_normal((fresh, 7, 7))
    weights = generator.standard_normal((7, 7))
    counts = [
        sum((np.abs(r) <= calibration.simultaneous(level) * s).all() for r, s in zip(residual, scale, strict=True)),
        sum(np.abs(r[3, 3]) <= (calibration.pointwise(level) * s)[3, 3] for r, s in zip(residual, scale, strict=True)),
        int((np.abs((weights * residual).sum(axis=(1, 2))) <= half_widths(calibration, weights, scale, level)).sum()),
    ]  # fmt: skip
    k = rank(n, level)
    law = betabinom(fresh, k, n + 1 - k)
    for count in counts:
        assert law.ppf(0.0005) <= count <= law.ppf(0.9995)


def test_a_functional_of_exact_points_only_has_no_uncertainty(generator):
    calibration, _ = _calibration(generator, 50)
    weights = np.zeros((7, 7))
    weights[0, 0] = 1.0
    scale = np.ones((7, 7)) * interior((7, 7), 1)
    np.testing.assert_array_equal(half_widths(calibration, weights, scale[None], 0.9), [0.0])


def test_spread_adds_the_members_disagreement_to_their_own_scales(generator):
    members = generator.standard_normal((2, 4, 5, 5))
    scales = np.full((2, 4, 5, 5), 0.5)
    expected = np.sqrt(members.var(axis=1, ddof=1) + 2 * 0.25)
    np.testing.assert_allclose(ensemble_spread(members, scales), expected)
    np.testing.assert_allclose(ensemble_spread(members[:, :1], None), 0.0)


def test_band_scale_vanishes_exactly_where_the_answer_is_exact(generator):
    scale = band_scale(generator.uniform(0.1, 1.0, (3, 9, 9)), np.zeros((3, 9, 9)), Scale(1.0, 0.05, 1))
    assert np.all(scale[:, [0, -1]] == 0) and np.all(scale[:, :, [0, -1]] == 0)
    assert np.all(scale[:, 1:-1, 1:-1] >= 0.05)


def test_lead_times_have_scores_of_their_own(generator):
    """Errors ten times larger at the second lead time: pooled scores would over-cover the first, these do not."""
    n, level = 400, 0.8
    size = np.array([1.0, 10.0])[None, :, None, None]
    residual = size * generator.standard_normal((n, 2, 4, 4))
    scores = np.abs(residual).reshape(n, 2, -1).max(axis=2)
    law = error_law(np.moveaxis(residual, 1, 0).reshape(2, -1))
    calibration = Calibration(_field(2, 4, 4, lead=True), {"scores": scores, "law": law})
    quantile = calibration.simultaneous(level)
    assert quantile.shape == (2, 1, 1)
    fresh = size * generator.standard_normal((n, 2, 4, 4))
    covered = (np.abs(fresh) <= quantile).all(axis=(2, 3)).sum(axis=0)
    k = rank(n, level)
    law_of_count = betabinom(n, k, n + 1 - k)
    assert np.all((law_of_count.ppf(0.0005) <= covered) & (covered <= law_of_count.ppf(0.9995)))
    pooled = np.sort(scores.ravel())[rank(2 * n, level) - 1]
    assert (np.abs(fresh[:, 0]) <= pooled).all(axis=(1, 2)).mean() > 0.99


def test_the_law_of_the_error_gives_quantiles_and_exceedance(generator):
    law = error_law(generator.standard_normal((1, 100_000)))
    calibration = Calibration(_field(3, 3), {"scores": np.arange(1.0, 2000.0), "law": law})
    assert float(calibration.error_quantile(0.9).ravel()[0]) == pytest.approx(1.2816, abs=0.02)
    ratio = np.full((2, 3, 3), 1.2816)
    np.testing.assert_allclose(calibration.exceedance(ratio), 0.1, atol=0.01)
    assert float(calibration.pointwise(0.9).ravel()[0]) == pytest.approx(1.645, abs=0.03)
    assert not calibration.stores_residuals


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_inverted(name, generator):
    transform = TRANSFORMS[name]
    depth = generator.uniform(0.0, 5.0, 100)
    np.testing.assert_allclose(transform.inverse(transform.forward(depth)), depth, atol=1e-12)
    assert np.all(np.diff(transform.forward(np.sort(depth))) > 0)


def test_a_band_of_depths_never_goes_below_zero():
    transform = TRANSFORMS["square_root"]
    assert transform.inverse(transform.forward(np.array([0.02])) - 3.0) == 0.0


def test_smoothing_does_not_mix_lead_times(generator):
    field = _field(3, 9, 9, lead=True)
    scale = Scale.of(field, {"smoothing": 1.0, "floor": 0.0, "exact_boundary": 0})
    assert scale.smoothed == 2
    spread = np.zeros((1, 3, 9, 9))
    spread[:, 1] = generator.uniform(1.0, 2.0, (9, 9))
    smooth = band_scale(spread, np.zeros_like(spread), scale)
    assert np.all(smooth[:, [0, 2]] == 0) and np.all(smooth[:, 1] > 0)
