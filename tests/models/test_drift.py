"""The watch stays quiet on the training law and speaks when small p-values pile up."""

import math

import numpy as np
import pytest

from models.drift import FEWEST, WINDOW, DriftWatch, excess_of_small

ALARM = 1e-6  # as in the alert rules


def test_the_distance_of_four_values_by_hand():
    """F₄ steps to 1/4, 1/2, 3/4, 1 at .1, .2, .9, .95: the largest excess is 1/2 − .2."""
    assert excess_of_small(np.array([0.9, 0.1, 0.95, 0.2])) == pytest.approx(math.exp(-2 * 4 * 0.3**2))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.2])
def test_uniform_and_larger_p_values_are_quiet_at_the_level_stated(generator, power):
    """P(p_drift ≤ a) ≤ a: of 2000 windows at most 5 % + four standard errors fall below 0.05, none below the alarm."""
    found = np.array([excess_of_small(generator.random(WINDOW) ** power) for _ in range(2000)])
    assert np.mean(found <= 0.05) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)
    assert found.min() > ALARM


def test_a_fifth_of_foreign_inputs_is_noticed_within_one_window_and_forgotten_after_the_next(generator):
    watch = DriftWatch()
    for _ in range(WINDOW):
        watch.see(0.001 if generator.random() < 0.2 else generator.random())
    assert watch.p_value < ALARM
    for _ in range(WINDOW):
        watch.see(generator.random())
    assert watch.p_value > ALARM


def test_little_says_nothing():
    watch = DriftWatch()
    for _ in range(FEWEST - 1):
        watch.see(0.0)
        watch.see_width(1.0)
    assert (watch.p_value, watch.width_ratio) == (1.0, 1.0)


def test_bands_twice_as_wide_show_as_a_ratio_near_two():
    watch = DriftWatch()
    for _ in range(2000):
        watch.see_width(1.0)
    for _ in range(200):
        watch.see_width(2.0)
    assert 1.7 < watch.width_ratio < 2.0
