"""Forecasts: lead times are checked, frames equal the whole, each lead time has its own band, work is lazy."""

import numpy as np
import pytest

from models.errors import NotOffered, OutOfRange, TooLarge, UnknownOption
from models.fields import LeadTimes
from models.forecast import DEFAULT_FRAMES, TOGETHER, Forecast, choose_lead_times
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Question, Surrogate
from tests.small_surrogates import (
    FunctionGraph,
    forecast_of,
    station_inputs,
    stations,
    terrain,
    terrain_inputs,
    trajectory,
    trajectory_inputs,
)

ANY_TIME = LeadTimes("1", 0.0, 1.0, 101, input="time")
HOURS = LeadTimes("h", 1.0, 24.0, 24)
LARGEST = 200


def test_default_lead_times():
    assert len(choose_lead_times(ANY_TIME, None, None, LARGEST)) == DEFAULT_FRAMES
    np.testing.assert_array_equal(choose_lead_times(HOURS, None, None, LARGEST), np.arange(1, 25))
    np.testing.assert_array_equal(choose_lead_times(HOURS, None, 3, LARGEST), [1, 2, 3])
    np.testing.assert_allclose(choose_lead_times(ANY_TIME, None, 4, LARGEST), [0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("known", "requested", "steps", "error", "words"),
    [
        (HOURS, [3, 1], None, UnknownOption, "increasing"),
        (HOURS, [1, 1], None, UnknownOption, "increasing"),
        (HOURS, [], None, UnknownOption, "one or more"),
        (HOURS, [float("nan")], None, UnknownOption, "increasing"),
        (HOURS, [2.5], None, UnknownOption, "among 1, 2, 3"),
        (HOURS, [1, 25], None, OutOfRange, r"\[1, 24\] h"),
        (ANY_TIME, [-0.1, 0.5], None, OutOfRange, r"\[0, 1\]"),
        (ANY_TIME, list(np.linspace(0, 1, 201)), None, TooLarge, "200 lead times"),
        (HOURS, None, 25, TooLarge, "24 steps"),
        (ANY_TIME, None, 201, TooLarge, "200 steps"),
        (HOURS, None, 0, UnknownOption, "at least 1"),
        (HOURS, [1], 1, UnknownOption, "either"),
    ],
)
def test_impossible_lead_times_are_refused_with_the_reason(known, requested, steps, error, words):
    with pytest.raises(error, match=words):
        choose_lead_times(known, requested, steps, LARGEST)


def test_frames_of_a_trajectory_equal_single_answers():
    surrogate, inputs = trajectory(), trajectory_inputs(2)
    clock = surrogate.lead_times.input
    fixed = {name: values for name, values in inputs.items() if name != clock}
    times = np.array([0.1, 0.33, 0.9])
    frames = list(Forecast(surrogate, fixed, times, Question(quantiles=(0.9,))).frames())
    assert [frame.lead_time for frame in frames] == pytest.approx(times.tolist())
    for frame in frames:
        answer = surrogate.predict({**fixed, clock: np.full(2, frame.lead_time)}, Question(quantiles=(0.9,)))
        for name, prediction in frame.predictions.items():
            np.testing.assert_allclose(prediction.mean, answer.predictions[name].mean, rtol=1e-6)
            np.testing.assert_allclose(frame.bands[name].upper, answer.bands[name].upper, rtol=1e-6)
            quantiles = frame.distributions[name].quantiles[0.9]
            np.testing.assert_allclose(quantiles, answer.distributions[name].quantiles[0.9], rtol=1e-6)
        assert {s.lead_time for s in frame.statements[0]} == {frame.lead_time}


@pytest.mark.parametrize(("make", "inputs"), [(stations, station_inputs), (terrain, terrain_inputs)])
def test_frames_of_discrete_lead_times_are_slices_with_their_own_quantiles(make, inputs):
    surrogate = make()
    given = inputs(2)
    question = Question(quantiles=(0.2,))
    answer = surrogate.predict(given, question)
    forecast, frames, summary = forecast_of(surrogate, given, question)
    timed = {item.name for item in forecast.timed_fields}
    assert timed
    for index, frame in enumerate(frames):
        for name, prediction in frame.predictions.items():
            np.testing.assert_array_equal(prediction.mean, answer.predictions[name].mean[:, index])
            np.testing.assert_allclose(frame.bands[name].lower, answer.bands[name].lower[:, index])
            np.testing.assert_allclose(
                frame.distributions[name].quantiles[0.2], answer.distributions[name].quantiles[0.2][:, index]
            )
    assert set(summary.predictions) == set(answer.predictions) - timed


def test_frames_are_computed_as_they_are_drawn():
    surrogate, runs = trajectory(), []
    fixed = {k: v for k, v in trajectory_inputs().items() if k != surrogate.lead_times.input}
    function = surrogate.function
    counting = FunctionGraph(lambda inputs: runs.append(1) or function(inputs))
    object.__setattr__(surrogate, "graphs", {"model": counting})
    frames = Forecast(surrogate, fixed, np.linspace(0, 1, 4 * TOGETHER), Question()).frames()
    assert not runs
    next(frames)
    assert len(runs) == 1
    frames.close()
    assert len(runs) == 1


def test_out_of_domain_forecasts_claim_no_band_at_any_lead_time():
    surrogate = stations()
    inputs = station_inputs()
    first = next(iter(inputs))
    inputs[first] = np.full_like(inputs[first], 60.0)
    _, frames, _ = forecast_of(surrogate, inputs, Question())
    assert {s.kind for frame in frames for s in frame.statements[0] if s.norm == "band"} == {"none"}


def test_a_steady_model_offers_no_forecast(darcy):
    with pytest.raises(NotOffered, match="steady"):
        Forecast(darcy, {"permeability": np.ones((1, 85, 85))}, np.array([1.0]), Question())


def test_the_bound_of_a_trajectory_uses_the_frames_already_computed(monkeypatch, generator):
    surrogate = load_surrogate(max(SHIPPED.glob("burgers/*")), RuntimeOptions())
    drawn = surrogate.physics.draw(77, 0, int(surrogate.manifest.document["points"]), surrogate.physics.training_family)
    inputs = {name: np.asarray(values)[None] for name, values in drawn.items()}
    times = np.sort(generator.uniform(0.05, 1.0, 5))
    fresh = surrogate.trajectory_statements({n: v[0] for n, v in inputs.items()}, times)
    monkeypatch.setattr(Surrogate, "means", lambda *_: pytest.fail("frames were computed a second time"))
    forecast = Forecast(surrogate, inputs, times, Question())
    frames = list(forecast.frames())
    found = [s for s in forecast.summary().statements[0] if s.kind == "guaranteed"]
    assert len(frames) == 5 and len(found) == len([s for s in fresh if s.kind == "guaranteed"]) > 0
    for ours, theirs in zip(found, fresh, strict=False):
        assert (ours.norm, ours.lead_time) == (theirs.norm, theirs.lead_time)
        assert ours.value == pytest.approx(theirs.value, rel=1e-4)  # float32 answers of batches of other sizes
