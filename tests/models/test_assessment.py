"""Assessment of a bundle by fresh cases: it agrees with its own truth, calls out what is wrong, and refuses what is not fresh."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import assessment, bundle, catalog, coverage
from models.__main__ import main
from models.errors import NotOffered, SeedTaken
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Prediction, Surrogate
from models.uncertainty import Calibration

SEED, CASES = 4321, 60
SMALL = 2e-2  # of a figure that 60 cases give twice: the order of sums differs between batches


@pytest.fixture(scope="module")
def tiny(tiny_runs: Path) -> Surrogate:
    return load_surrogate(tiny_runs / "zoo" / "darcy" / "1", RuntimeOptions())


@pytest.fixture(scope="module")
def found(tiny: Surrogate) -> dict:
    return assessment.assess(tiny, SEED, CASES, map)


def test_every_claim_of_a_bundle_is_assessed(found, tiny):
    figures = found["coverage"]["pressure"]
    assert figures["cases"] == CASES
    assert figures["inside"]
    assert all(quantity["inside"] for quantity in found["intervals"]["pressure"].values())
    assert all(family["violations"] == 0 for family in found["efficiency"].values())
    assert set(found["validity"]["shifts"]) == set(catalog.load("darcy").shifts)
    table = assessment.text(found, lambda name: assessment.lead_labels(tiny, name))
    assert "pressure, 90 % band" in table
    assert "shift: contrast_300" in table
    json.dumps(found)


def test_coverage_is_that_of_the_truth_drawn_again(found, tiny):
    """An independent count: one case at a time through the public answer."""
    model, hits = catalog.load("darcy"), 0
    for index in range(CASES):
        inputs, truths = model.pair(SEED, index, 17, "two_phase")
        band = tiny.predict({name: values[None] for name, values in inputs.items()}).bands["pressure"]
        inner = (slice(1, -1), slice(1, -1))
        hits += bool(((band.lower[0] <= truths["pressure"]) & (truths["pressure"] <= band.upper[0]))[inner].all())
    assert hits == found["coverage"]["pressure"]["covered"][0]


def test_a_shrunken_band_is_called_out(tiny):
    """The guard seen red: scores, residuals and all, a third of what they should be."""
    weak = replace(tiny)
    item = tiny.manifest.output("pressure")
    arrays = {
        key.removeprefix("pressure."): values
        for key, values in tiny.bundle.arrays(bundle.CALIBRATION_FILE).items()
        if key.startswith("pressure.")
    }
    arrays |= {"scores": arrays["scores"] / 3, "residual_unit": arrays["residual_unit"] / 3}
    object.__setattr__(weak, "calibrations", {"pressure": Calibration(item, arrays)})
    inputs, truths = assessment.fresh_cases(weak, SEED, CASES, map)
    predicted = coverage.predictions(weak, inputs)
    figures = coverage.measure(weak, inputs, truths, predicted)["pressure"]
    assert not figures["inside"]
    assert not all(
        quantity["inside"] for quantity in assessment.intervals(weak, truths, predicted)["pressure"].values()
    )
    rows = assessment._coverage_rows("pressure", figures, ("",))
    assert rows[0][-1] == "FALLS SHORT"


def test_seeds_the_bundle_was_made_with_are_refused(tiny, tiny_runs, capsys):
    seeds = tiny.manifest.document["provenance"]["seeds"]
    for name, seed in seeds.items():
        if name != "weights":
            with pytest.raises(SeedTaken, match=f"{name} {seed}"):
                assessment.assess(tiny, seed, CASES, map)
    zoo = str(tiny_runs / "zoo")
    assert main(["--zoo", zoo, "assess", "darcy", "--seed", str(seeds["calibration"])]) == 1
    assert "Choose another seed" in capsys.readouterr().err


def test_a_bundle_without_physics_says_what_cannot_be_assessed(tiny):
    foreign = replace(tiny, physics=None)
    with pytest.raises(NotOffered, match="neither a sampler nor a reference"):
        assessment.assess(foreign, SEED, CASES, map)


def test_data_without_a_solver_are_named_as_held_out_periods():
    model = catalog.load("site_weather")
    document = {"provenance": {"recipe": {"splits": {"held_out": {"family": "2015-2017"}}}}, "points": 4}

    class Described:
        manifest = type("Facts", (), {"document": document})

    assert "held-out data (2015-2017)" in assessment.source(Described, model)


def test_inputs_called_out_in_one_block_count_as_one_event_and_many_as_too_many():
    """Five per cent in one week of a hundred may be chance; spread over all weeks it is not, nor without weeks."""
    weeks = np.repeat(np.arange(100), 40)
    one_storm = np.zeros(4000, dtype=bool)
    one_storm[:200] = True  # five whole weeks in a row, one of them long
    storm_weeks = np.where(np.arange(4000) < 200, 0, weeks)
    assert assessment.size_of(one_storm, storm_weeks)["inside"]
    assert not assessment.size_of(one_storm, None)["inside"]
    everywhere = np.zeros(4000, dtype=bool)
    everywhere[::20] = True
    found = assessment.size_of(everywhere, weeks)
    assert not found["inside"]
    assert found["block_interval_90"][0] > assessment.THRESHOLD
    few = np.zeros(4000, dtype=bool)
    few[::100] = True
    assert assessment.size_of(few, None)["inside"]


@given(st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0]), min_size=1, max_size=20), st.integers(0, 99))
def test_auroc_is_the_share_of_pairs_in_order(values: list[float], seed: int):
    foreign = np.random.default_rng(seed).choice([0.0, 0.01, 0.2, 1.0], 7)
    usual = np.array(values)
    pairs = [1.0 if f < u else 0.5 if f == u else 0.0 for f in foreign for u in usual]
    assert assessment.auroc(usual, foreign) == pytest.approx(np.mean(pairs))


def test_spread_twice_the_error_is_reported_as_two(generator):
    field = catalog.load("burgers").outputs(64)[0]
    truth = generator.standard_normal((400, 64))
    spread = np.full_like(truth, 2.0)
    prediction = Prediction.of(np.zeros((400, 1, 64)), np.zeros_like(truth), spread, spread, "identity")
    figures = coverage._spread_over_error(field, prediction, truth)
    assert figures["pooled"][0] == pytest.approx(2.0, rel=SMALL)
    assert figures["per_case"][0] == pytest.approx(2.0, rel=SMALL)
    low, high = figures["interval"][0]
    assert low <= figures["pooled"][0] <= high
