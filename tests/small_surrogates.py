"""Surrogates small enough to reason about, one per kind of field: trajectories, stations, terrain.

Their graphs are Python functions and their calibrations made up; what is tested on them is what becomes of an answer.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from models.bundle import Bundle
from models.fields import LEAD_TIME, Axis, Field, LeadTimes
from models.forecast import Forecast, Frame, Summary
from models.manifest import Manifest
from models.physical_model import Arrays
from models.runtime import RuntimeOptions
from models.surrogate import Question, Surrogate
from models.uncertainty import Calibration
from models.validity import Validity

MEMBERS = 3
CASES = 39
STATIONS = ("north", "east", "south", "west")
OUTSIDE = 50.0


class Below:
    """A domain of inputs whose first field stays below 50."""

    def assess(self, inputs, _task):
        inside = float(np.max(next(iter(inputs.values())))) < OUTSIDE
        return Validity(inside, 0.5 if inside else 0.0, () if inside else ("too large",))


@dataclass(frozen=True)
class FunctionGraph:
    """What a session would be: members around the mean."""

    function: Callable[[Arrays], Arrays]

    def run(self, feeds):
        around = np.linspace(-0.05, 0.05, MEMBERS)
        return [
            np.stack([v * (1 + e) for e in around], axis=1).astype(np.float32) for v in self.function(feeds).values()
        ]


@dataclass(frozen=True)
class Small(Surrogate):
    """A surrogate whose graph is a function from inputs to means; members lie around them."""

    function: Callable[[Arrays], Arrays]

    def __post_init__(self):
        generator = np.random.default_rng(4)
        calibrations = {}
        for item in self.manifest.outputs:
            leads = item.axes[0].points if item.axes and item.axes[0].name == LEAD_TIME else 1
            scores = np.sort(generator.exponential(1.5, (CASES, leads)) + 1.0, axis=0)
            law = np.sort(generator.standard_normal((leads, 999)), axis=1)
            calibrations[item.name] = Calibration(item, {"scores": scores, "law": law})
        object.__setattr__(self, "graphs", {"model": FunctionGraph(self.function)})
        object.__setattr__(self, "calibrations", calibrations)
        object.__setattr__(self, "domain", Below())


def small(name, inputs, outputs, function, lead_times=None, transform="identity", physics=None) -> Small:
    facts = {"smoothing": 0.0, "floor": 0.02, "exact_boundary": 0, "transform": transform}
    document = {
        "name": name, "version": "2", "title": f"A small model: {name}", "domain": "environment", "time": "forecast",
        "inputs": [asdict(item) for item in inputs], "outputs": [asdict(item) for item in outputs],
        "graph": {"inputs": {item.name: item.name for item in inputs}, "members": MEMBERS, "member_axis": True,
                  "outputs": [f"{item.name}_members" for item in outputs]},
        "calibration": {item.name: facts for item in outputs}, "truth": "the exact solution",
        "lead_times": None if lead_times is None else asdict(lead_times),
    }  # fmt: skip
    return Small(Bundle(Manifest(document, "sha256:" + 64 * "0"), {}), physics, RuntimeOptions(), function)


def trajectory() -> Small:
    """u(x, t) = e^(−kt) u₀(x) at any t in [0, 1]."""
    x = Axis("x", "1", 16, 0.0, 1.0)
    state = Field("state", "u0", "m s-1", "State at the start.", (x,), role="initial_state")
    rate = Field("rate", "k", "1", "Rate of decay.", (), 0.0, 5.0, role="parameter")
    time = Field("time", "t", "1", "Lead time.", (), 0.0, 1.0, role="lead_time")
    output = Field("velocity", "u", "m s-1", "Velocity.", (x,))

    def decay(inputs: Arrays) -> Arrays:
        return {"velocity": inputs["state"] * np.exp(-inputs["rate"] * inputs["time"])[:, None]}

    lead_times = LeadTimes("1", 0.0, 1.0, 11, "time")
    return small("decay", (state, rate, time), (output,), decay, lead_times)


def trajectory_inputs(count: int = 1) -> Arrays:
    state = np.sin(2 * np.pi * np.linspace(0, 1, 16))[None] * np.arange(1, count + 1)[:, None]
    return {"state": state, "rate": np.full(count, 2.0), "time": np.full(count, 0.25)}


def stations() -> Small:
    """The last hour of the history goes on for three hours."""
    history = Axis("history", "h", 5, -4.0, 0.0)
    station = Axis("station", "1", len(STATIONS), 0.0, len(STATIONS) - 1.0, labels=STATIONS)
    lead = Axis(LEAD_TIME, "h", 3, 1.0, 3.0)
    past = Field("past_temperature", "T", "degC", "Temperature so far.", (history, station), role="history",
                 standard_name="air_temperature")  # fmt: skip
    start = Field("reference_time", "t0", "h", "Start of the forecast.", (), role="reference_time")
    output = Field("temperature", "T", "degC", "Air temperature.", (lead, station), standard_name="air_temperature")

    def persist(inputs: Arrays) -> Arrays:
        return {"temperature": np.stack([inputs["past_temperature"][:, -1] + lead for lead in (1, 2, 3)], axis=1)}

    return small("sites", (past, start), (output,), persist, LeadTimes("h", 1.0, 3.0, 3))


def station_inputs(count: int = 1) -> Arrays:
    hours = 490000.0  # 2025-11-24T16:00Z
    return {
        "past_temperature": np.arange(20.0).reshape(1, 5, 4) + np.arange(count)[:, None, None],
        "reference_time": hours + np.arange(count, dtype=np.float64),
    }


def terrain() -> Small:
    """Depth (lead_time, y, x) and its maximum (y, x) over a slope: water stands where the ground is low."""
    y = Axis("y", "m", 12, 10.0, 230.0, standard_name="projection_y_coordinate")
    x = Axis("x", "m", 18, 10.0, 350.0, standard_name="projection_x_coordinate")
    lead = Axis(LEAD_TIME, "s", 3, 3600.0, 7200.0)
    elevation = Field("elevation", "z", "m", "Bed elevation.", (y, x), role="static", standard_name="surface_altitude")
    rain = Field("rain", "r", "mm h-1", "Rain.", (Axis("rain_time", "s", 6, 0.0, 4500.0),), 0.0, role="forcing")
    greatest = Field("maximum_depth", "h_max", "m", "Greatest water depth.", (y, x), 0.0)
    depth = Field("depth", "h", "m", "Water depth.", (lead, y, x), 0.0)

    def pour(inputs: Arrays) -> Arrays:
        level = inputs["rain"].mean(axis=1)[:, None, None] / 20
        greatest = np.maximum(level - inputs["elevation"], 0.0)
        return {"maximum_depth": greatest, "depth": np.stack([greatest * f for f in (0.5, 0.8, 1.0)], axis=1)}

    lead_times = LeadTimes("s", 3600.0, 7200.0, 3)
    return small("pond", (elevation, rain), (greatest, depth), pour, lead_times, "square_root")


def terrain_inputs(count: int = 1) -> Arrays:
    rows, columns = np.mgrid[0:12, 0:18]
    ground = 0.4 * rows + 3.0 * np.sin(columns / 3.0) ** 2
    return {"elevation": np.stack([ground] * count), "rain": np.full((count, 6), 60.0)}


def forecast_of(surrogate: Surrogate, inputs: Arrays, question: Question) -> tuple[Forecast, list[Frame], Summary]:
    """A whole forecast at the usual lead times."""
    forecast = Forecast(surrogate, inputs, surrogate.lead_times.values, question)
    frames = list(forecast.frames())
    return forecast, frames, forecast.summary()
