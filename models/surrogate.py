"""One loaded bundle: inputs → Answer.

validate → validity → run (all members at once) → spread and band → bound → statements. Plain functions over frozen
values; every array has a leading batch axis.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from models.bundle import CALIBRATION_FILE, GRAPH_FILES, Bundle, Manifest
from models.errors import BrokenBundle, NotOffered
from models.fields import Field, check_names, check_values
from models.physical_model import Arrays, PhysicalModel
from models.runtime import Graph, RuntimeOptions
from models.statements import Statement, nothing
from models.uncertainty import Calibration, Scale, band_scale, ensemble_spread
from models.validity import Domain, Validity

Band = Literal["simultaneous", "pointwise"]


@dataclass(frozen=True)
class Prediction:
    """Ensemble output: members (batch, member, *grid), their mean, spread and band scale (batch, *grid)."""

    members: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Interval:
    """A prediction band around the mean."""

    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class RouteStep:
    """One step of the request path and what it took."""

    step: str
    milliseconds: float


@dataclass(frozen=True)
class Answer:
    """Everything one request gets; one tuple of statements and one verdict per sample."""

    prediction: Prediction
    band: Interval | None
    level: float
    band_kind: Band
    statements: tuple[tuple[Statement, ...], ...]
    validity: tuple[Validity, ...]
    route: tuple[RouteStep, ...]


class Clock:
    """Collects the milliseconds of each step."""

    def __init__(self) -> None:
        self._steps: list[RouteStep] = []
        self._last = time.perf_counter()

    def mark(self, step: str) -> None:
        """End a step here."""
        now = time.perf_counter()
        self._steps.append(RouteStep(step, (now - self._last) * 1e3))
        self._last = now

    @property
    def route(self) -> tuple[RouteStep, ...]:
        """The steps so far."""
        return tuple(self._steps)


@dataclass(frozen=True)
class Surrogate:
    """A bundle in memory with its graphs; `physics` is None for a packaged foreign model."""

    bundle: Bundle
    physics: PhysicalModel | None
    options: RuntimeOptions
    graphs: Mapping[str, Graph] = field(init=False)
    calibration: Calibration | None = field(init=False)
    domain: Domain | None = field(init=False)

    def __post_init__(self) -> None:
        files = self.bundle.files
        graphs = {kind: Graph(self.bundle, file, self.options) for kind, file in GRAPH_FILES.items() if file in files}
        if "model" not in graphs:
            raise BrokenBundle(GRAPH_FILES["model"], "a forward graph", "none")
        arrays = self.bundle.arrays(CALIBRATION_FILE) if CALIBRATION_FILE in files else {}
        checks = self.manifest.document.get("domain_checks")
        calibration = Calibration(arrays) if "scores" in arrays else None
        object.__setattr__(self, "graphs", graphs)
        object.__setattr__(self, "calibration", calibration)
        object.__setattr__(self, "domain", Domain(arrays, checks) if checks else None)

    @property
    def manifest(self) -> Manifest:
        """Facts of the bundle."""
        return self.bundle.manifest

    @property
    def input(self) -> Field:
        """The input field."""
        return self.manifest.inputs[0]

    @property
    def output(self) -> Field:
        """The output field."""
        return self.manifest.outputs[0]

    @property
    def derivatives_offered(self) -> tuple[str, ...]:
        """Which derivative graphs the bundle has."""
        return tuple(kind for kind in ("jvp", "vjp") if kind in self.graphs)

    def validate(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Checked float32 inputs with a batch axis.

        Raises UnknownField, MissingField, WrongShape, NotFinite, OutOfRange.
        """
        check_names(self.manifest.inputs, inputs)
        for item in self.manifest.inputs:
            check_values(item, inputs[item.name])
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in inputs.items()}

    def run(self, inputs: Arrays) -> Prediction:
        """Run the forward graph on validated inputs."""
        names = self.manifest.document["graph"]["inputs"]
        results = self.graphs["model"].run({names[key]: values for key, values in inputs.items()})
        members = results[0] if self.manifest.document["graph"]["member_axis"] else results[0][:, None]
        spread = ensemble_spread(members, results[1] if len(results) > 1 else None)
        mean = members.mean(axis=1, dtype=np.float64).astype(np.float32)
        return Prediction(members, mean, spread, self._scale(spread))

    def predict(self, inputs: Mapping[str, np.ndarray], level: float = 0.9, band: Band = "simultaneous") -> Answer:
        """Answer a batch; bands are withdrawn, bounds kept, where an input is out of domain.

        Raises InvalidInput in one of its forms, UnsupportedLevel among them.
        """
        clock = Clock()
        checked = self.validate(inputs)
        quantile = self._quantile(level, band)
        clock.mark("validate")
        prediction = self.run(checked)
        clock.mark("surrogate")
        interval = None
        if quantile is not None:
            half = quantile * prediction.scale
            interval = Interval(prediction.mean - half, prediction.mean + half)
        clock.mark("uncertainty")
        samples = [({k: v[i] for k, v in checked.items()}, prediction.mean[i]) for i in range(len(prediction.mean))]
        guaranteed = [self.guaranteed(x, y) for x, y in samples]
        clock.mark("bound")
        verdicts = tuple(self.assess(x, s) for (x, _), s in zip(samples, guaranteed, strict=True))
        clock.mark("validity")
        statements = tuple(
            (*certain, self._band_statement(interval, index, level, band, verdict))
            for index, (certain, verdict) in enumerate(zip(guaranteed, verdicts, strict=True))
        )
        return Answer(prediction, interval, level, band, statements, verdicts, clock.route)

    def guaranteed(self, inputs: Arrays, output: np.ndarray) -> tuple[Statement, ...]:
        """Statements of the physical model about one sample, or the statement that there are none."""
        truth = str(self.manifest.document["truth"])
        if self.physics is None:
            reason = "no physical model in the catalogue: no error bound and no fallback solver"
            return (nothing(self.output.name, "energy", truth, reason),)
        return self.physics.statements(inputs, {self.output.name: output})

    def assess(self, inputs: Arrays, guaranteed: tuple[Statement, ...]) -> Validity:
        """The validity verdict; the relative bound among the statements is its task detector."""
        if self.domain is None:
            return Validity(False, 0.0, ("the bundle has no description of its domain",))
        return self.domain.assess(inputs[self.input.name], task_score(guaranteed))

    def require(self, kind: str) -> Graph:
        """A derivative graph.

        Raises NotOffered.
        """
        if kind not in self.graphs:
            raise NotOffered(f"{kind} of {self.manifest.name}", f"derivatives among {self.derivatives_offered}")
        return self.graphs[kind]

    def vjp(self, inputs: Arrays, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(members, Jᵀw) for member cotangents (batch, member, *grid), input gradient (batch, *grid)."""
        graph = self.require("vjp")
        feeds = {graph.inputs[0]: inputs[self.input.name], graph.inputs[1]: cotangent.astype(np.float32)}
        members, gradient = graph.run(feeds)
        return members, gradient

    def jvp(self, inputs: Arrays, tangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(members, J t) for an input tangent (batch, *grid)."""
        graph = self.require("jvp")
        feeds = {graph.inputs[0]: inputs[self.input.name], graph.inputs[1]: tangent.astype(np.float32)}
        members, derivative = graph.run(feeds)
        return members, derivative

    def _scale(self, spread: np.ndarray) -> np.ndarray:
        """s(x) of the band: from the spread, or the stored error profile of a packaged model without a scale."""
        if self.calibration is not None and self.calibration.profile is not None:
            return np.broadcast_to(self.calibration.profile, spread.shape)
        facts = self.manifest.document["calibration"]
        return band_scale(spread, Scale(facts["smoothing"], facts["floor"], facts["exact_boundary"]))

    def _quantile(self, level: float, band: Band) -> float | np.ndarray | None:
        if self.calibration is None:
            return None
        return self.calibration.simultaneous(level) if band == "simultaneous" else self.calibration.pointwise(level)

    def _band_statement(
        self, interval: Interval | None, index: int, level: float, band: Band, verdict: Validity
    ) -> Statement:
        truth = str(self.manifest.document["truth"])
        if interval is None or self.calibration is None:
            return nothing(self.output.name, "band", truth, "the bundle has no calibration set", level)
        if not verdict.in_domain:
            return nothing(self.output.name, "band", truth, "out of domain: " + "; ".join(verdict.reasons), level)
        width = float((interval.upper[index] - interval.lower[index]).max() / 2)
        claim = "all grid points at once" if band == "simultaneous" else "each fixed grid point by itself"
        exchangeable = f"request exchangeable with {self.calibration.count} calibration inputs"
        return Statement(
            self.output.name, "band", width, "statistical", level, truth,
            (exchangeable, f"{claim}; value is the largest half-width"),
        )  # fmt: skip


def task_score(statements: tuple[Statement, ...]) -> float | None:
    """M/|||v||| from the guaranteed relative energy statement B = M/(|||v||| − M)."""
    for statement in statements:
        if statement.norm == "energy" and statement.relative:
            return 1e6 if statement.value is None else statement.value / (1.0 + statement.value)
    return None


def describe(surrogate: Surrogate) -> dict[str, Any]:
    """Description of one surrogate for catalogues: the manifest plus what is on offer."""
    document = dict(surrogate.manifest.document)
    document.pop("files")
    linear = ["integrated_gradients", "gradient"] if "vjp" in surrogate.graphs else []
    document["explanations"] = [*linear, "occlusion"]
    document["derivatives"] = list(surrogate.derivatives_offered)
    document["bundle"] = surrogate.manifest.digest
    return document
