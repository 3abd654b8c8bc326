"""The scale of the bands: coverage level over small and large spread, exact at any response, spread of the error's size."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from models import catalog
from models.fields import LEAD_TIME, Axis, Field
from models.uncertainty import Response, Scale, band_scale, rank
from training.calibrate import Errors, Peaks, fit_response, standard_error, tune_scale

LEVEL = 0.9
NODES = 24
FIELD = Field("u", "u", "1", "A field.", (Axis("x", "1", NODES, 0.0, 1.0),))
TIMED = Field("u", "u", "1", "A field.", (Axis(LEAD_TIME, "h", 2, 1.0, 2.0), Axis("x", "1", NODES, 0.0, 1.0)))


def errors(seed: int, count: int, power: float = 1.6, leads: bool = False) -> Errors:
    """Spread log-normal over cases; the error grows faster than the spread when `power` exceeds 1."""
    generator = np.random.default_rng(seed)
    shape = (count, 2, NODES) if leads else (count, NODES)
    level = np.exp(0.8 * generator.standard_normal((count, *(1,) * (len(shape) - 1))))
    spread = level * generator.uniform(0.7, 1.3, shape)
    return Errors(3.0 * level ** (power - 1) * spread * generator.standard_normal(shape), spread, leads)


def coverage(scale: Scale, calibration: Errors, fresh: Errors) -> tuple[np.ndarray, np.ndarray]:
    """Whether each fresh case is covered, and that of the fifth with the widest bands; first lead time."""
    scores = np.sort(calibration.scores(band_scale(calibration.spread, scale)), axis=0)
    size = band_scale(fresh.spread, scale)
    covered = (fresh.scores(size) <= scores[rank(len(scores), LEVEL) - 1])[:, 0]
    order = size.reshape(len(size), -1).mean(axis=1).argsort()
    return covered, covered[order[-len(order) // 5 :]]


@pytest.fixture(scope="module")
def tuned() -> Scale:
    return tune_scale(catalog.load("burgers"), FIELD, errors(1, 1500))


def test_the_response_covers_uncertain_inputs_like_the_rest(tuned):
    calibration, fresh = errors(2, 800), errors(3, 2000)
    without, with_response = (coverage(s, calibration, fresh) for s in (replace(tuned, response=None), tuned))
    assert without[1].mean() < 0.8
    assert with_response[1].mean() >= 0.86  # three standard errors below 0.9 for 400 cases, and the calibration draw
    assert tuned.response.exponent[0] == pytest.approx(0.6, abs=0.2)


def test_coverage_stays_inside_its_law_whatever_the_response():
    """The response is a function of the answer alone: exchangeable cases stay exchangeable, at exponents far off too."""
    calibration, fresh = errors(4, 400), errors(5, 400)
    law = betabinom(400, rank(400, LEVEL), 401 - rank(400, LEVEL))
    for exponent in (-1.0, 0.0, 0.7, 2.0):
        response = Response((exponent,), (1.0,), (0.2,), (5.0,))
        covered, _ = coverage(Scale(0.0, 0.01, 0, smoothed=1, grid=1, response=response), calibration, fresh)
        assert law.ppf(0.0005) <= covered.sum() <= law.ppf(0.9995)


def test_the_standard_deviation_has_the_size_of_the_error(tuned):
    """κ² is the mean of ‖r‖²/‖t‖², so the same mean over fresh cases is near one."""
    fresh = errors(6, 1000)
    sizes = (np.square(values).mean(axis=1) for values in (fresh.residual, tuned.deviation(fresh.spread)))
    error, deviation = sizes
    assert (error / deviation).mean() == pytest.approx(
        1.0, abs=0.3
    )  # four standard errors of both draws: the ratio is log-normal


def test_the_standard_deviation_has_the_size_of_the_error_where_spread_is_small_and_where_it_is_large(tuned):
    """The error grows as the 1.6th power of the spread: one factor for all cases is wrong at both ends."""
    fresh = errors(8, 3000)
    order = fresh.spread.mean(axis=1).argsort()

    def ends(scale: Scale) -> list[float]:
        deviation = scale.deviation(fresh.spread)
        parts = (order[75:600], order[-600:-75])  # fifths but for the extreme fortieths, which are not extrapolated
        return [float(np.sqrt(np.square(deviation[p]).mean() / np.square(fresh.residual[p]).mean())) for p in parts]

    assert tuned.dispersion.exponent[0] == pytest.approx(0.6, abs=0.1)
    assert ends(tuned) == pytest.approx([1.0, 1.0], abs=0.15)
    small, large = ends(replace(tuned, dispersion=None))
    assert small > 1.5 > 0.9 > large


def test_each_lead_time_has_a_response_of_its_own():
    both = errors(7, 400, leads=True)
    both.residual[:, 1] /= both.spread.mean(axis=2)[:, 1:] ** 0.6  # level at the second lead time
    found = tune_scale(catalog.load("burgers"), TIMED, both)
    assert found.response.exponent == pytest.approx((0.6, 0.0), abs=0.25)
    assert found.dispersion.exponent == pytest.approx((0.6, 0.0), abs=0.25)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), count=st.integers(12, 30))
def test_a_dozen_cases_cannot_bend_the_response_far(seed: int, count: int):
    """On level errors the fitted exponent is noise: the penalty keeps it small."""
    level = errors(seed, count, power=1.0)
    scale = Scale(0.0, 0.01, 0, smoothed=1, grid=1)
    response, factor = fit_response(Peaks.of(level, level.spread + 0.01, scale), np.arange(count))
    assert abs(response.exponent[0]) <= 0.9
    assert np.all(factor > 0)


def test_copies_of_a_case_add_no_certainty_and_independent_cases_of_a_block_do(generator):
    values = generator.standard_normal((3, 200))
    alone = values.std(axis=1) / np.sqrt(200)
    assert standard_error(values, np.arange(200)) == pytest.approx(alone)
    assert standard_error(np.repeat(values, 5, axis=1), np.repeat(np.arange(200), 5)) == pytest.approx(alone)
    fresh = generator.standard_normal((200, 1000))
    assert standard_error(fresh, np.arange(1000) // 20).mean() == pytest.approx(1 / np.sqrt(1000), rel=0.1)


def test_a_scale_is_read_back_from_the_manifest(tuned):
    assert Scale.of(FIELD, json.loads(json.dumps(tuned.facts()))) == tuned


def test_spread_beyond_all_that_was_seen_is_cut(tuned):
    spread = np.full((1, NODES), 1.0)
    spread[0, 3] = 1e9
    bent = (tuned.dispersion.highest[0] / tuned.dispersion.reference[0]) ** tuned.dispersion.exponent[0]
    assert tuned.deviation(spread).max() <= tuned.ceiling[0] * tuned.inflation[0] * bent * 1.001
    assert band_scale(spread, tuned).max() < 1e3
