"""The scale of the bands: coverage level over small and large spread, exact at any response, spread of the error's size."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom

from models import catalog
from models.fields import LEAD_TIME, Axis, Field
from models.uncertainty import Response, Scale, band_scale, in_own_units, rank
from training.calibrate import Errors, Peaks, fit_response, tune_scale

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
    residual = 3.0 * level ** (power - 1) * spread * generator.standard_normal(shape)
    return Errors(residual, spread, np.zeros(shape), leads)


def coverage(scale: Scale, calibration: Errors, fresh: Errors) -> tuple[np.ndarray, np.ndarray]:
    """Whether each fresh case is covered, and that of the fifth with the widest bands; first lead time."""
    scores = np.sort(calibration.scores(band_scale(calibration.spread, calibration.mean, scale)), axis=0)
    size = band_scale(fresh.spread, fresh.mean, scale)
    covered = (fresh.scores(size) <= scores[rank(len(scores), LEVEL) - 1])[:, 0]
    order = in_own_units(fresh.mean, size, scale.transform).mean(axis=1).argsort()
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


def deep_and_shallow(seed: int, count: int) -> Errors:
    """Depths of 1 to 30 whose roots are as wrong as their spread says where they are shallow, and more where deep."""
    generator = np.random.default_rng(seed)
    depth = np.exp(generator.uniform(0.0, np.log(30.0), (count, 1))) * np.ones(NODES)
    spread = generator.uniform(0.02, 0.04, (count, NODES))
    return Errors(depth**0.3 * spread * generator.standard_normal((count, NODES)), spread, depth, False)


def test_the_response_is_to_the_width_in_the_fields_own_units():
    """In roots all scales are alike; only back in depths are those wide whose errors are larger than they say."""
    deep = Scale(0.0, 0.0, 0, "square_root", smoothed=1, grid=1)
    found = fit_response(Peaks.of(tune := deep_and_shallow(9, 1500), tune.spread, deep))[0]
    calibration, fresh = deep_and_shallow(10, 1500), deep_and_shallow(11, 4000)
    (_, without), (_, bent) = (coverage(s, calibration, fresh) for s in (deep, replace(deep, response=found)))
    assert without.mean() < 0.8
    assert bent.mean() >= 0.86  # as above
    assert found.exponent[0] == pytest.approx(0.6, abs=0.1)  # a half-width in depths is 2√depth times the scale


def test_a_half_width_in_own_units_is_the_slope_of_the_transform_times_the_scale():
    depth, size = np.array([[1.0, 4.0]]), np.array([[1e-6, 1e-6]])
    assert in_own_units(depth, size, "square_root") == pytest.approx(2e-6 * np.sqrt(depth), rel=1e-3)
    assert in_own_units(depth, size, "identity") is size


def test_a_scale_is_read_back_from_the_manifest(tuned):
    assert Scale.of(FIELD, json.loads(json.dumps(tuned.facts()))) == tuned


def test_spread_beyond_all_that_was_seen_is_cut(tuned):
    spread = np.full((1, NODES), 1.0)
    spread[0, 3] = 1e9
    bent = (tuned.dispersion.highest[0] / tuned.dispersion.reference[0]) ** tuned.dispersion.exponent[0]
    assert tuned.deviation(spread).max() <= tuned.ceiling[0] * tuned.inflation[0] * bent * 1.001
    assert band_scale(spread, np.zeros_like(spread), tuned).max() < 1e3
