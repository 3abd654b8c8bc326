"""Conformal ranks, bands, linear functionals; coverage on exchangeable synthetic data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from models.errors import UnsupportedLevel
from models.uncertainty import Calibration, Scale, band_scale, coverage_interval, ensemble_spread, interior, rank


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


def _calibration(generator: np.random.Generator, count: int, shape=(7, 7)) -> tuple[Calibration, np.ndarray]:
    scale = np.ones((count, *shape)) * generator.uniform(0.5, 2.0, (count, 1, 1))
    residual = scale * generator.standard_normal((count, *shape))
    unit = np.float32(1e-3)
    arrays = {
        "scores": np.sort(np.abs(residual / scale).reshape(count, -1).max(axis=1)),
        "residuals": (residual / unit).astype(np.float16), "residual_unit": unit,
        "scales": (scale / unit).astype(np.float16), "scale_unit": unit,
    }  # fmt: skip
    return Calibration(arrays), residual


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
        sum(abs((weights * r).sum()) <= calibration.linear(weights, s, level) for r, s in zip(residual, scale, strict=True)),
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
    assert calibration.linear(weights, scale, 0.9) == 0.0


def test_spread_adds_the_members_disagreement_to_their_own_scales(generator):
    members = generator.standard_normal((2, 4, 5, 5))
    scales = np.full((2, 4, 5, 5), 0.5)
    expected = np.sqrt(members.var(axis=1, ddof=1) + 2 * 0.25)
    np.testing.assert_allclose(ensemble_spread(members, scales), expected)
    np.testing.assert_allclose(ensemble_spread(members[:, :1], None), 0.0)


def test_band_scale_vanishes_exactly_where_the_answer_is_exact(generator):
    scale = band_scale(generator.uniform(0.1, 1.0, (3, 9, 9)), Scale(1.0, 0.05, 1))
    assert np.all(scale[:, [0, -1]] == 0) and np.all(scale[:, :, [0, -1]] == 0)
    assert np.all(scale[:, 1:-1, 1:-1] >= 0.05)
