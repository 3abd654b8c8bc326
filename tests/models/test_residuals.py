"""Intervals of linear quantities from stored residuals: rounding only widens them, and fresh truths lie in them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom

from models.assessment import fresh_family
from models.explanation import Request, explain
from models.explanation.quantities import Quantity, make_quantity
from models.explanation.statement import interval
from models.fields import LEAD_TIME, Field
from models.repository import SHIPPED, load_surrogate
from models.residuals import Residuals, packed
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate
from models.uncertainty import Stored, rank

LEVEL, CASES, SEED = 0.9, 24, 90_210
CHANCE = 1e-3  # of a failure without a fault
TIME = 0.5  # at which residuals of trajectories are kept


def test_half_precision_only_widens_intervals(generator):
    residuals, scales = generator.standard_normal((99, 40)) ** 3, generator.uniform(0.1, 4.0, (99, 40))
    kept = Residuals((Stored.of(packed(residuals, scales)),))
    for weights in generator.standard_normal((50, 40)):
        exact = np.sort(np.abs(residuals @ weights) / (scales @ np.abs(weights)))[rank(99, LEVEL) - 1]
        half = kept.half_widths(kept.stored[0], weights, np.ones((1, 40)), LEVEL)[0] / np.abs(weights).sum()
        assert exact <= half <= 1.02 * exact


def test_each_lead_time_has_residuals_of_its_own(generator):
    values = generator.standard_normal((20, 2, 5)) * np.array([1.0, 3.0])[:, None]
    arrays = {f"u.{key}": v for key, v in packed(values, np.ones((20, 2, 5))).items()} | {
        "u.lead_times": np.array([0.25, 1.0])
    }
    kept = Residuals.of(arrays, "u")
    widths = [kept.half_widths(kept.at(time), np.ones(5), np.ones((1, 5)), LEVEL)[0] for time in (0.25, 1.0)]
    assert widths[1] > 1.5 * widths[0]
    assert kept.at(0.3) is None and kept.at(None) is None and Residuals.of(arrays, "v") is None


def quantities(item: Field, generator: np.random.Generator, timed: bool) -> list[dict]:
    """A point, the mean over a box, and weights without a sense."""
    axes = [axis for axis in item.axes if not axis.labels and axis.name != LEAD_TIME]
    middle = {axis.name: float(axis.coordinates[axis.points // 3]) for axis in axes}
    box = {
        axis.name: [float(axis.coordinates[axis.points // 4]), float(axis.coordinates[axis.points // 2])]
        for axis in axes
    }
    names = {axis.name: axis.labels[0] for axis in item.axes if axis.labels}
    asked = [
        {"type": "point", **middle, **names},
        {"type": "region_mean", **box},
        {"type": "linear", "weights": generator.standard_normal(item.shape).tolist()},
    ]
    return [{"field": item.name, **one} | ({LEAD_TIME: TIME} if timed else {}) for one in asked]


def keep_in_memory(monkeypatch: pytest.MonkeyPatch, surrogate: Surrogate) -> None:
    """A service reads residuals when a request needs them; here many cases follow each other."""
    known = {item.name: surrogate.residuals(item.name) for item in surrogate.manifest.outputs}
    monkeypatch.setattr(Surrogate, "residuals", lambda _, name: known[name])


def covered(surrogate: Surrogate, asked: list[Quantity]) -> np.ndarray:
    """How many of the fresh truths lie in the intervals of each quantity."""
    model, lead = surrogate.physics, surrogate.lead_times
    points, hits = int(surrogate.manifest.document["points"]), np.zeros(len(asked), dtype=int)
    family = fresh_family(surrogate, model)
    for index in range(CASES):
        inputs, truth = model.pair(SEED, index, points, family)
        sample = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
        name, place = asked[0].field.name, ...
        if lead is not None and lead.input is not None:
            sample[lead.input] = np.float32(TIME)
            place = int(np.abs(lead.values - TIME).argmin())
        prediction = surrogate.run({key: values[None] for key, values in sample.items()})[name]
        for number, one in enumerate(asked):
            value = float(one.of(prediction.mean)[0])
            low, high = interval(surrogate, sample, prediction, one, value, LEVEL, True).ends
            hits[number] += low <= float(one.of(truth[name][place][None])[0]) <= high
    return hits


def least(count: int) -> int:
    """The fewest covered cases that are no accident, both draws counted."""
    k = rank(count, LEVEL)
    return int(betabinom(CASES, k, count + 1 - k).ppf(CHANCE / 2))


def test_fresh_truths_lie_in_the_intervals_of_every_bundle_that_stores_residuals(bundle_folder, monkeypatch, generator):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    keep_in_memory(monkeypatch, surrogate)
    timed = surrogate.lead_times is not None and surrogate.lead_times.input is not None
    for item in surrogate.manifest.outputs:
        kept = surrogate.residuals(item.name)
        if kept is None:
            continue
        asked = [make_quantity((item,), surrogate.lead_times, one) for one in quantities(item, generator, timed)]
        assert (covered(surrogate, asked) >= least(kept.blocks or kept.count)).all()


def test_an_interval_is_offered_where_residuals_are_stored_and_nowhere_else(bundle_folder):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    (kind,) = [one["kind"] for one in surrogate.manifest.document["statements"] if one["norm"] == "interval"]
    stored = any(surrogate.residuals(item.name) for item in surrogate.manifest.outputs)
    assert kind == ("statistical" if stored else "none")


def test_too_narrow_intervals_would_be_seen(monkeypatch, generator):
    surrogate = load_surrogate(SHIPPED / "flood" / "1", RuntimeOptions())
    whole = Stored.of
    monkeypatch.setattr(
        Stored, "of", classmethod(lambda _, arrays: replace(found := whole(arrays), residuals=found.residuals / 3))
    )
    keep_in_memory(monkeypatch, surrogate)
    item = surrogate.manifest.outputs[0]
    asked = [make_quantity((item,), surrogate.lead_times, one) for one in quantities(item, generator, False)]
    assert (covered(surrogate, asked) < least(surrogate.residuals(item.name).count)).any()


WITHOUT = {
    "between": ("burgers", {"type": "point", "x": 0.5, "lead_time": 0.3}, "0.25, 0.5, 0.75, 1"),
    "window": ("burgers", {"type": "point", "x": 0.5, "lead_time": [0.25, 0.5]}, "over windows"),
    "square": ("burgers", {"type": "norm", "lead_time": 0.5}, "linear quantities only"),
    "other output": ("flood", {"type": "region_mean", "field": "depth"}, "no calibration residuals of depth"),
    "scores only": ("heat", {"type": "region_mean"}, "no calibration residuals of temperature"),
    "level": ("flood_128", {"type": "region_mean"}, "too few calibration residuals"),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_where_there_is_no_interval_the_answer_says_why(case):
    name, quantity, reason = WITHOUT[case]
    surrogate = load_surrogate(SHIPPED / name / "1", RuntimeOptions())
    golden = surrogate.bundle.arrays("golden.npz")
    inputs = {item.name: golden[f"input.{item.name}"][:1] for item in surrogate.manifest.inputs}
    level = 0.998 if case == "level" else LEVEL
    found = explain(surrogate, inputs, Request(quantity, "occlusion", regions=1, level=level)).interval
    assert found.ends is None and found.statement.kind == "none"
    assert any(reason in text for text in found.statement.assumptions)


def test_intervals_stay_within_what_a_field_can_be(generator):
    surrogate = load_surrogate(SHIPPED / "flood" / "1", RuntimeOptions())
    item = surrogate.manifest.outputs[0]
    golden = surrogate.bundle.arrays("golden.npz")
    sample = {one.name: golden[f"input.{one.name}"][0] for one in surrogate.manifest.inputs}
    prediction = surrogate.run({name: values[None] for name, values in sample.items()})[item.name]
    depth, difference = (
        make_quantity((item,), surrogate.lead_times, {"type": "linear", "weights": weights.tolist()})
        for weights in (np.ones(item.shape), generator.standard_normal(item.shape))
    )
    low, high = interval(surrogate, sample, prediction, depth, 0.0, LEVEL, True).ends
    assert low == 0.0 < high  # no depth is below zero
    assert interval(surrogate, sample, prediction, difference, 0.0, LEVEL, True).ends[0] < 0.0
