"""Surrogates whose derivatives are known by hand, with counted graphs; members differ by a factor."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from models.bundle import Bundle
from models.fields import LEAD_TIME, Axis, Field, LeadTimes
from models.manifest import Manifest
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate
from models.validity import Validity

FACTORS = np.array([0.9, 1.0, 1.1])
LEVELS = ("low", "high")


class Anywhere:
    """A domain that holds everything and whose mean input is one."""

    uses_task = False

    def assess(self, _inputs, _task):
        return Validity(True, 0.5, ())

    def mean(self, _name, values):
        return np.ones(values.size)


@dataclass
class Graph:
    """A session made of a function."""

    inputs: tuple[str, ...]
    function: Callable[..., list[np.ndarray]]
    runs: int = 0

    def run(self, feeds):
        self.runs += 1
        return self.function(*feeds.values())


@dataclass(frozen=True)
class Analytic(Surrogate):
    """y_m = f_m g(x, …) with g's derivative by hand: slope(inputs) is (input, output) per sample, flat."""

    value: Callable[..., np.ndarray]
    slope: Callable[..., tuple[np.ndarray, ...]]

    def __post_init__(self):
        names = tuple(item.name for item in self.manifest.inputs)
        shape = self.manifest.outputs[0].shape

        def members(*fields):
            return self.value(*fields)[:, None] * FACTORS.reshape(-1, *(1,) * len(shape))

        def pull(*arguments):
            fields, w = arguments[: len(names)], arguments[len(names)].astype(np.float64)
            flat = np.einsum("bm...,m->b...", w, FACTORS).reshape(len(w), -1)
            parts = [np.einsum("bio,bo->bi", s, flat) for s in self.slope(*fields)]
            return [members(*fields), *(p.reshape(f.shape) for p, f in zip(parts, fields, strict=True))]

        def push(*arguments):
            fields, t = arguments[: len(names)], arguments[len(names) :]
            pairs = zip(self.slope(*fields), t, strict=True)
            moved = sum(np.einsum("bio,bi->bo", s, d.reshape(len(d), -1).astype(np.float64)) for s, d in pairs)
            return [members(*fields), moved.reshape(-1, 1, *shape) * FACTORS.reshape(-1, *(1,) * len(shape))]

        tangents = tuple(f"{name}_tangent" for name in names)
        graphs = {
            "model": Graph(names, lambda *fields: [members(*fields)]),
            "vjp": Graph((*names, "cotangent"), pull),
            "jvp": Graph((*names, *tangents), push),
        }
        object.__setattr__(self, "graphs", graphs)
        object.__setattr__(self, "calibrations", {})
        object.__setattr__(self, "domain", Anywhere())

    @property
    def runs(self) -> int:
        """How often any graph has run."""
        return sum(graph.runs for graph in self.graphs.values())


def analytic(inputs, outputs, value, slope, lead_times=None) -> Analytic:
    document = {
        "name": "analytic", "version": "1", "title": "An analytic model", "domain": "pde", "time": "steady", "truth": "itself",
        "inputs": [asdict(item) for item in inputs], "outputs": [asdict(item) for item in outputs],
        "graph": {"inputs": {item.name: item.name for item in inputs}, "members": len(FACTORS), "member_axis": True,
                  "outputs": [f"{item.name}_members" for item in outputs]},
        "lead_times": None if lead_times is None else asdict(lead_times),
    }  # fmt: skip
    return Analytic(Bundle(Manifest(document, "sha256:" + 64 * "0"), {}), None, RuntimeOptions(), value, slope)


X, Y = Axis("x", "m", 7, 0.0, 3.0), Axis("y", "m", 5, 0.0, 2.0)
SOURCE = Field("source", "f", "1", "Source.", (X, Y), -50.0, 50.0)
STATE = Field("state", "u", "K", "State.", (X, Y))


def matrix(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((35, 35)) / 6


def pointwise(function, derivative) -> Analytic:
    """u = A g(f)."""
    a = matrix()

    def value(f):
        return (function(f.reshape(len(f), -1).astype(np.float64)) @ a).reshape(f.shape)

    def slope(f):
        return (derivative(f.reshape(len(f), -1).astype(np.float64))[:, :, None] * a,)

    return analytic((SOURCE,), (STATE,), value, slope)


def linear() -> Analytic:
    return pointwise(lambda f: f, np.ones_like)


def decay() -> Analytic:
    """u(x, t) = u₀(x) e^(−t), the lead time an input."""
    start = Field("start", "u0", "K", "Start.", (X,), role="initial_state")
    time = Field("time", "t", "s", "Lead time.", (), 0.0, 2.0, role="lead_time")
    end = Field("state", "u", "K", "State.", (X,))

    def value(u, t):
        return u * np.exp(-t)[:, None]

    def slope(u, t):
        eye = np.eye(u.shape[1])[None] * np.exp(-t)[:, None, None]
        return eye, -(u * np.exp(-t)[:, None])[:, None, :]

    return analytic((start, time), (end,), value, slope, LeadTimes("s", 0.0, 2.0, 11, "time"))


def stations() -> Analytic:
    """u(τ, level) = τ x(level), lead times an axis."""
    level = Axis("level", "1", 2, 0.0, 1.0, labels=LEVELS)
    lead = Axis(LEAD_TIME, "h", 4, 1.0, 4.0)
    now = Field("now", "x", "K", "Now.", (level,), role="history")
    ahead = Field("ahead", "u", "K", "Ahead.", (lead, level))
    times = np.arange(1.0, 5.0)

    def value(x):
        return times[:, None] * x[:, None, :]

    def slope(x):
        return (np.broadcast_to(np.einsum("io,t->ito", np.eye(2), times).reshape(2, 8), (len(x), 2, 8)),)

    return analytic((now,), (ahead,), value, slope, LeadTimes("h", 1.0, 4.0, 4))
