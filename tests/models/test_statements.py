"""Statements in a sentence: right for kind, norm, level and truth."""

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from models.statements import EVERYWHERE, NORMS, Kind, Statement, nothing, share

BAND = Statement(
    "pressure", "band", 0.01, "statistical", 0.9, "reference solver (five-point) at h = 1/420", ("…",), scope=EVERYWHERE
)
ENERGY = Statement("pressure", "energy", 0.0329, "guaranteed", None, "continuum", ("boundary values exact",))


def test_a_band_is_read_as_a_share_of_cases():
    assert BAND.reading == (
        "In at least 9 of 10 cases like those it was calibrated on, the whole true field of pressure lies inside this "
        "band (truth: reference solver)."
    )


def test_a_narrower_scope_is_not_read_as_the_whole_field():
    pointwise = replace(BAND, scope="each fixed grid point by itself")
    assert "whole" not in pointwise.reading and "each fixed grid point by itself" in pointwise.reading


def test_a_bound_is_read_as_a_theorem_for_any_input():
    assert ENERGY.reading.startswith("Whatever the input, the error of pressure is at most 0.0329 in the energy norm")
    assert "theorem" in ENERGY.reading
    assert "4.87 % of the truth's own" in replace(ENERGY, value=0.0487, relative=True).reading


def test_a_bound_against_the_scheme_claims_nothing_about_the_equation():
    reading = replace(ENERGY, kind="guaranteed_vs_discrete").reading
    assert "theorem" not in reading and "not said" in reading


def test_an_indicator_is_never_read_as_a_bound():
    reading = Statement("depth", "mass", 0.03, "indicator", None, "continuum", ("…",), relative=True).reading
    assert "no bound" in reading and "at most" not in reading


def test_that_nothing_is_said_of_a_relative_error_leaves_the_absolute_one_alone():
    assert (
        "No bound of the relative error of" in replace(nothing("pressure", "energy", "…", "…"), relative=True).reading
    )


def test_what_is_no_error_is_not_read_as_one():
    said = [nothing("depth", norm, "…", "out of domain").reading for norm in ("band", "interval", "mass")]
    assert all("error" not in reading and reading.endswith("out of domain.") for reading in said)
    assert len(set(said)) == 3


def test_nothing_is_read_with_its_reason():
    assert nothing("depth", "l2", "continuum", "no bound is known").reading.endswith("no bound is known.")


def test_the_reading_names_the_lead_time():
    assert "wind speed at lead time 6 " in replace(BAND, quantity="wind_speed", lead_time=6.0).reading


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0.9, "9 of 10 cases"),
        (0.95, "19 of 20 cases"),
        (0.99, "99 of 100 cases"),
        (0.8235, "82.35 % of cases"),
        (1e-9, "1e-07 % of cases"),
    ],
)
def test_levels_are_read_as_people_say_them(level, text):
    assert share(level) == text


@pytest.mark.parametrize(("kind", "norm"), tuple(product(get_args(Kind), NORMS)))
def test_every_kind_has_a_reading_in_every_norm_and_sends_it(kind, norm):
    reading = replace(ENERGY, kind=kind, norm=norm, level=0.9).document()["reading"]
    assert reading.endswith(".") and reading[0].isupper() and "  " not in reading
