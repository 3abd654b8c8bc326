"""Validity: size in domain, power on shifts, both sides, and hard checks."""

import numpy as np
import pytest
from scipy.stats import binom

from models.errors import BrokenBundle
from models.numerics.gaussian_random_field import neumann_field
from models.validity import THRESHOLD, Domain, detector_scores, fit_detectors, hard_checks

POINTS = 24


def fields(seed: int, count: int, length: float = 5.0, smoothness: float = 2.0) -> np.ndarray:
    drawn = [neumann_field(np.random.default_rng([seed, i]), POINTS, smoothness, length) for i in range(count)]
    return np.stack(drawn).astype(np.float32)


@pytest.fixture(scope="module")
def domain() -> Domain:
    parameters = fit_detectors(fields(1, 400), 20)
    fresh = fields(2, 1500)
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": v for k, v in detector_scores(parameters, fresh).items()}
    low, high = hard_checks(fresh)["range"]
    return Domain(arrays, {"range": [2 * low, 2 * high]})


def rejected(domain: Domain, samples: np.ndarray) -> int:
    return sum(not domain.assess(sample, None).in_domain for sample in samples)


def test_size_in_domain_is_within_its_binomial_range(domain):
    count = 400
    assert rejected(domain, fields(3, count)) <= binom(count, THRESHOLD).ppf(0.9995)


@pytest.mark.parametrize(
    ("length", "smoothness", "factor"), [(9.0, 2.0, 1.0), (5.0, 2.5, 1.0), (5.0, 1.6, 1.0), (5.0, 2.0, 0.6)]
)
def test_shifted_laws_are_seen_smoother_ones_included(domain, length, smoothness, factor):
    samples = factor * fields(4, 60, length, smoothness)
    assert rejected(domain, samples) >= 57  # 95 per cent


def test_a_domain_whose_floor_is_above_the_threshold_does_not_load():
    arrays = {"reference.SPE": np.arange(100.0)}
    with pytest.raises(BrokenBundle, match="floor"):
        Domain(arrays, {"range": [0, 1]})


def test_hard_checks_name_foreign_values_and_shares():
    parameters = fit_detectors(np.sign(fields(1, 100)), 10)
    fresh = np.sign(fields(2, 1200))
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": v for k, v in detector_scores(parameters, fresh).items()}
    domain = Domain(arrays, hard_checks(fresh))
    foreign = fresh[0].copy()
    foreign[0, 0] = 0.5
    assert any("values" in reason for reason in domain.assess(foreign, None).reasons)
    verdict = domain.assess(np.ones_like(foreign), None)
    assert not verdict.in_domain
    assert any("share" in reason for reason in verdict.reasons)
