"""Intervals of quantities: from stored residuals or the band, rounding only widens them, fresh truths lie in them."""

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


def quantities(item: Field, generator: np.random.Generator, time: float | None) -> list[dict]:
    """A point, the mean over a box, and weights without a sense."""
    axes = [axis for axis in item.axes if not axis.labels and axis.name != LEAD_TIME]
    middle = {axis.name: float(axis.coordinates[axis.points // 3]) for axis in axes}
    box = {
        axis.name: [float(axis.coordinates[axis.points // 4]), float(axis.coordinates[axis.points // 2])]
        for axis in axes
    }
    names = {axis.name: axis.labels[0] for axis in item.axes if axis.labels}
    shape = tuple(axis.points for axis in item.axes if time is None or axis.name != LEAD_TIME)
    asked = [
        {"type": "point", **middle, **names},
        {"type": "region_mean", **box},
        {"type": "linear", "weights": generator.standard_normal(shape).tolist()},
    ]
    return [{"field": item.name, **one} | ({} if time is None else {LEAD_TIME: time}) for one in asked]


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
            sample[lead.input] = np.float32(asked[0].lead_time)
            place = int(np.abs(lead.values - asked[0].lead_time).argmin())
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


def test_fresh_truths_lie_in_the_intervals_of_every_bundle(bundle_folder, monkeypatch, generator):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    keep_in_memory(monkeypatch, surrogate)
    for item in surrogate.manifest.outputs:
        kept = surrogate.residuals(item.name)
        count = surrogate.calibrations[item.name].independent if kept is None else kept.blocks or kept.count
        time = kept.lead_times[1] if kept is not None and kept.lead_times is not None else None
        asked = [make_quantity((item,), surrogate.lead_times, one) for one in quantities(item, generator, time)]
        assert (covered(surrogate, asked) >= least(count)).all()


def test_an_interval_is_offered_where_a_band_is(bundle_folder):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    kinds = {one["norm"]: one["kind"] for one in surrogate.manifest.document["statements"]}
    assert kinds["interval"] == kinds["band"] == "statistical"


def test_too_narrow_intervals_would_be_seen(monkeypatch, generator):
    surrogate = load_surrogate(SHIPPED / "flood" / "1", RuntimeOptions())
    whole = Stored.of
    monkeypatch.setattr(
        Stored, "of", classmethod(lambda _, arrays: replace(found := whole(arrays), residuals=found.residuals / 3))
    )
    keep_in_memory(monkeypatch, surrogate)
    item = surrogate.manifest.outputs[0]
    asked = [make_quantity((item,), surrogate.lead_times, one) for one in quantities(item, generator, None)]
    assert (covered(surrogate, asked) < least(surrogate.residuals(item.name).count)).any()


THROUGH_BAND = {
    "between": ("burgers", {"type": "point", "x": 0.5, "lead_time": 0.3}, "between the 101 lead times"),
    "window": ("burgers", {"type": "point", "x": 0.5, "lead_time": [0.25, 0.5]}, "between the 101 lead times"),
    "square": ("burgers", {"type": "norm", "lead_time": 0.5}, "band of the whole field"),
    "greatest": ("darcy", {"type": "max"}, "band of the whole field"),
    "share": ("flood", {"type": "exceedance", "field": "depth", "threshold": 0.1, "lead_time": 3600}, "whole field"),
    "other output": ("flood", {"type": "region_mean", "field": "depth"}, "3 lead times hold at once"),
    "not kept": ("heat", {"type": "region_mean", "lead_time": 0.052}, "band of the whole field"),
    "many lead times": ("heat", {"type": "region_mean"}, "25 lead times hold at once, each taken at the level 0.996"),
    "high level": ("flood_128", {"type": "region_mean"}, "band of the whole field"),
}


def answered(name: str, quantity: dict, level: float = LEVEL):
    """The interval of the first stored case, and the value that it is about."""
    surrogate = load_surrogate(SHIPPED / name / "1", RuntimeOptions())
    golden = surrogate.bundle.arrays("golden.npz")
    inputs = {item.name: golden[f"input.{item.name}"][:1] for item in surrogate.manifest.inputs}
    found = explain(surrogate, inputs, Request(quantity, "occlusion", regions=1, level=level))
    return found.interval, found.exact_value


@pytest.mark.parametrize("case", THROUGH_BAND)
def test_without_residuals_the_band_gives_an_interval_and_says_so(case):
    name, quantity, reason = THROUGH_BAND[case]
    found, value = answered(name, quantity, 0.998 if case == "high level" else LEVEL)
    low, high = found.ends
    assert low <= value <= high and low < high
    assert found.statement.kind == "statistical" and found.statement.value == max(value - low, high - value)
    assert any("follows from the band" in text for text in found.statement.assumptions)
    assert any(reason in text for text in found.statement.assumptions)
    is_smoothed = quantity["type"] in ("max", "exceedance")
    assert ("differs from the exact value given" in found.statement.reading) == is_smoothed


@pytest.mark.parametrize("quantity", [{"type": "region_mean"}, {"type": "linear", "weights": np.eye(33).tolist()}])
def test_residuals_kept_at_one_lead_time_give_narrower_intervals_there(quantity):
    (kept, _), (beside, _) = (answered("heat", {**quantity, "lead_time": time}) for time in (0.04, 0.044))
    assert 2.0 * kept.statement.value < beside.statement.value
    assert any("250 calibration inputs" in text for text in kept.statement.assumptions)


def test_weights_of_nothing_have_an_interval_of_no_width():
    found, value = answered("heat", {"type": "linear", "weights": np.zeros((25, 33, 33)).tolist()})
    assert found.ends == (0.0, 0.0) and value == 0.0


def test_lead_times_that_need_more_calibration_cases_have_no_interval_together():
    found, _ = answered("heat", {"type": "region_mean"}, 0.99)  # of 25 lead times: 0.9996 each
    assert found.ends is None and found.statement.kind == "none"
    assert any("too few calibration cases" in text for text in found.statement.assumptions)


KINDS = ({"type": "linear"}, {"type": "norm"}, {"type": "max"}, {"type": "exceedance", "threshold": 0.2})


@pytest.mark.parametrize("request_", KINDS, ids=lambda one: one["type"])
def test_every_field_of_a_band_has_its_quantity_between_the_ends_which_are_reached(request_, generator):
    item = load_surrogate(SHIPPED / "heat" / "1", RuntimeOptions()).manifest.outputs[0]
    known = load_surrogate(SHIPPED / "heat" / "1", RuntimeOptions()).lead_times
    weights = {"weights": generator.standard_normal(item.shape).tolist()} if request_["type"] == "linear" else {}
    quantity = make_quantity((item,), known, {**request_, **weights})
    lower = generator.standard_normal((1, *item.shape))
    upper = lower + generator.exponential(0.3, lower.shape)
    low, high = quantity.ends(lower, upper)
    inside = lower + generator.uniform(size=(40, *item.shape)) * (upper - lower)
    values = quantity.of(inside)
    assert np.all(low <= values) and np.all(values <= high)
    corners = corners_of(request_["type"], quantity, lower, upper)
    assert np.allclose(quantity.of(corners), [low[0], high[0]], rtol=1e-12)


def corners_of(kind: str, quantity: Quantity, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The two fields of the band at which a quantity is least and greatest."""
    if kind == "linear":
        rising = quantity.weights > 0
        return np.concatenate([np.where(rising, lower, upper), np.where(rising, upper, lower)])
    if kind == "norm":
        least = np.where(lower * upper <= 0, 0.0, np.where(lower > 0, lower, upper))
        return np.concatenate([least, np.where(np.abs(lower) > np.abs(upper), lower, upper)])
    return np.concatenate([lower, upper])


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
