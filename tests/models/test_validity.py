"""Validity: size in domain, power on shifts, both sides, and hard checks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import binom

from models.errors import BrokenBundle
from models.numerics.gaussian_random_field import neumann_field
from models.physical_model import Summary
from models.validity import (
    SUMMARY_WEIGHT,
    THRESHOLD,
    Domain,
    FieldDomain,
    contradictions,
    detector_scores,
    fit_detectors,
    fit_summary,
    hard_checks,
    interfaces,
    specks,
)

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
    return Domain(arrays, {"a": {"range": [2 * low, 2 * high], "arrays": ""}})


def rejected(domain: Domain, samples: np.ndarray) -> int:
    return sum(not domain.assess({"a": sample}, None).in_domain for sample in samples)


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
        Domain(arrays, {"a": {"range": [0, 1], "arrays": ""}})


def test_hard_checks_name_foreign_values_and_shares():
    parameters = fit_detectors(np.sign(fields(1, 100)), 10)
    fresh = np.sign(fields(2, 1200))
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": v for k, v in detector_scores(parameters, fresh).items()}
    domain = Domain(arrays, {"a": hard_checks(fresh) | {"arrays": ""}})
    foreign = fresh[0].copy()
    foreign[0, 0] = 0.5
    assert any("values" in reason for reason in domain.assess({"a": foreign}, None).reasons)
    verdict = domain.assess({"a": np.ones_like(foreign)}, None)
    assert not verdict.in_domain
    assert any("share" in reason for reason in verdict.reasons)


def test_media_of_few_values_are_checked_for_the_size_of_their_regions():
    medium = np.sign(fields(31, 1)[0])
    facts = hard_checks(np.sign(fields(2, 1200))) | {"arrays": ""}
    domain = FieldDomain("a", {}, {}, facts)
    assert domain.hard_reasons(medium) == ()
    specked = medium.copy()
    specked[1::3, 1::3] *= -1
    reasons = " ".join(domain.hard_reasons(specked))
    assert "smaller than in training" in reasons
    assert "isolated nodes" in reasons
    stripes = np.sign(np.linspace(-1.0, 1.0, POINTS))[:, None] * np.ones(POINTS)
    assert interfaces(stripes[None])[0] == pytest.approx(POINTS / (2 * POINTS * (POINTS - 1)))
    assert specks(stripes[None])[0] == 0


def test_a_spike_and_missing_detail_are_named_in_words():
    """On terrain with a slope from edge to edge, which fills every shell of a Fourier series."""
    slope = np.linspace(0.0, 40.0, POINTS)[:, None]
    train, fresh = (slope + fields(seed, count) for seed, count in ((41, 400), (42, 1500)))
    parameters = fit_detectors(train, 20, periodic=False)
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": v for k, v in detector_scores(parameters, fresh).items()}
    domain = Domain(arrays, {"a": {"range": [-1e3, 1e3], "arrays": ""}})
    usual = slope + fields(43, 60)
    assert rejected(domain, usual) <= binom(60, THRESHOLD).ppf(0.9995)
    spiked = usual.copy()
    spiked[:, 7, 9] += 4.0 * np.diff(usual, axis=1).std()
    assert rejected(domain, spiked) >= 57
    assert "a, sharpest: one bend far sharper" in " ".join(domain.assess({"a": spiked[0]}, None).reasons)
    smooth = gaussian_filter(usual, (0, 1, 1))
    assert rejected(domain, smooth) == 60
    assert "standard deviations too low" in " ".join(domain.assess({"a": smooth[0]}, None).reasons)


def several(count: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    line = np.cumsum(generator.standard_normal((count, 64)), axis=1) / 8.0
    return {"field": fields(seed, count), "line": line, "number": generator.uniform(0.0, 1.0, count)}


def test_fields_of_any_rank_and_scalars_are_watched_together():
    """Seven detectors on three inputs keep the size; a scalar or a line out of its law is named."""
    train, fresh = several(300, 10), several(2500, 11)
    arrays, checks = {}, {}
    for name, values in fresh.items():
        parameters = fit_detectors(train[name], 10)
        arrays |= {f"{name}.validity.{k}": v for k, v in parameters.items()}
        arrays |= {f"{name}.reference.{k}": v for k, v in detector_scores(parameters, values).items()}
        checks[name] = {"range": [-100.0, 100.0], "arrays": f"{name}."}
    domain = Domain(arrays, checks)
    samples = several(300, 12)
    verdicts = [domain.assess({k: v[i] for k, v in samples.items()}, None) for i in range(300)]
    assert sum(not v.in_domain for v in verdicts) <= binom(300, THRESHOLD).ppf(0.9995)
    one = {k: v[0] for k, v in samples.items()}
    assert domain.assess(one | {"number": np.float64(1.5)}, None).reasons == (
        "number, value: 1.5 is too high (p = 0.0008)",
    )
    rough = domain.assess(one | {"line": np.random.default_rng(1).standard_normal(64)}, None)
    assert any(reason.startswith("line, spectrum") for reason in rough.reasons)


def test_a_field_on_whose_mean_nothing_depends_may_be_shifted():
    train, fresh = fields(20, 300), fields(21, 1500)
    parameters = fit_detectors(train, 20, mean_free=True)
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": v for k, v in detector_scores(parameters, fresh, mean_free=True).items()}
    domain = Domain(arrays, {"a": hard_checks(fresh, mean_free=True) | {"arrays": ""}})
    sample = fields(22, 1)[0].astype(np.float64)
    assert domain.assess({"a": sample + 1000.0}, None).p_value == pytest.approx(
        domain.assess({"a": sample}, None).p_value, rel=0.05
    )


SUMMARY = Summary(
    ("the sum", "one", "another", "one again", "another again"), lambda inputs: np.asarray(inputs["numbers"])
)


def related(seed: int, count: int) -> np.ndarray:
    """Two numbers, each measured twice, and before them their sum, all to 5 %."""
    two = np.random.default_rng(seed).standard_normal((count, 2))
    exact = np.column_stack([two.sum(axis=1), two, two])
    return exact + 0.05 * np.random.default_rng([seed, 1]).standard_normal(exact.shape)


def summarised(summary: Summary | None) -> Domain:
    parameters = fit_summary(related(51, 3000))
    arrays = {f"summary.{key}": values for key, values in parameters.items()}
    arrays["reference.summary"] = np.abs(contradictions(parameters, related(52, 4000))).max(axis=1)
    fresh = related(52, 4000)
    detectors = fit_detectors(fresh[:1000], 5)
    arrays |= {f"numbers.validity.{key}": values for key, values in detectors.items()}
    arrays |= {f"numbers.reference.{key}": values for key, values in detector_scores(detectors, fresh).items()}
    return Domain(arrays, {"numbers": hard_checks(10 * fresh) | {"arrays": "numbers."}}, summary)


def test_what_contradicts_the_rest_is_the_residual_of_a_regression():
    numbers = related(53, 500)
    train = related(51, 3000)
    parameters = fit_summary(train) | {"unit": np.ones(5)}
    off = contradictions(parameters, numbers)[:, 0] * parameters["deviation"][0]
    design = np.column_stack([np.ones(3000), train[:, 1:]])
    weights = np.linalg.lstsq(design, train[:, 0])[0]
    assert off == pytest.approx(numbers[:, 0] - np.column_stack([np.ones(500), numbers[:, 1:]]) @ weights, abs=1e-4)


def test_a_number_that_contradicts_the_rest_is_named_though_usual_by_itself():
    domain = summarised(SUMMARY)
    usual = related(54, 600)
    found = [domain.assess({"numbers": one}, None) for one in usual]
    assert sum(not verdict.in_domain for verdict in found) <= binom(600, THRESHOLD).ppf(0.9995)
    shifted = usual + np.array([0.5, 0.0, 0.0, 0.0, 0.0])  # a third of a standard deviation
    verdicts = [domain.assess({"numbers": one}, None) for one in shifted]
    assert sum(not verdict.in_domain for verdict in verdicts) >= 590
    assert any("summary: the sum is higher than all else suggests" in reason for reason in verdicts[0].reasons)


def test_the_summary_has_half_of_the_weight_and_all_weights_are_one():
    domain, numbers = summarised(SUMMARY), np.array([3.0, 0.0, 0.0, 0.0, 0.0])
    weights = [SUMMARY_WEIGHT] + [domain._weight] * (domain._count - 1)
    assert sum(weights) == pytest.approx(1.0)
    assert domain.assess({"numbers": numbers}, None).p_value <= 2 / 4001 / SUMMARY_WEIGHT * 1.001


def test_a_summary_that_nobody_can_draw_takes_no_weight():
    domain = summarised(None)
    assert domain._weight * domain._count == pytest.approx(1.0)
    assert domain.assess({"numbers": related(54, 1)[0]}, None).in_domain
