"""One loaded bundle: inputs → Answer.

validate → validity → run (all members at once) → spread and band → bound → statements. Plain functions over frozen
values; every array has a leading batch axis. Forecasts give one Answer per lead time (`forecast.py`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from models import ticket
from models.bundle import CALIBRATION_FILE, GRAPH_FILES, RESIDUALS_FILE, Bundle
from models.errors import BrokenBundle, InvalidInput, NotOffered, UnsupportedLevel
from models.fields import LEAD_TIME, Field, LeadTimes, check_names, check_values
from models.manifest import MANIFEST_FILE, Manifest
from models.physical_model import Arrays, Features, PhysicalModel, Summary
from models.residuals import Residuals
from models.runtime import Graph, RuntimeOptions, Scheduler
from models.statements import EVERYWHERE, Statement, nothing
from models.uncertainty import TRANSFORMS, Calibration, Scale, band_scale, ensemble_spread, in_own_units
from models.validity import Domain, Validity

Band = Literal["simultaneous", "pointwise"]
ENERGY_NORMS = ("energy", "space_time_energy")
LARGEST = np.finfo(np.float32).max
LARGE_DIRECTION = 1e18  # about the root of float32's largest: beyond it the direction is to blame for an overflow


@dataclass(frozen=True)
class Prediction:
    """Ensemble output of one field: members (batch, member, *shape), their mean, and the scale of its band.

    `spread` and `scale` are those of the transformed field, computed when they are first asked for; `deviation` is the
    spread in the field's own units.
    """

    members: np.ndarray
    mean: np.ndarray
    transform: str
    uncertainty: Callable[[], tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(
        cls, members: np.ndarray, mean: np.ndarray, spread: np.ndarray, scale: np.ndarray, transform: str
    ) -> "Prediction":
        """With spread and scale that are known already."""
        return cls(members, mean, transform, lambda: (spread, scale))

    @cached_property
    def _uncertainty(self) -> tuple[np.ndarray, np.ndarray]:
        return self.uncertainty()

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of the error that members and their own scales expect."""
        return self._uncertainty[0]

    @property
    def scale(self) -> np.ndarray:
        """What the band's quantile multiplies."""
        return self._uncertainty[1]

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation in the field's own units."""
        return in_own_units(self.mean, self.spread, self.transform)

    @property
    def own_scale(self) -> np.ndarray:
        """The scale of the band in the field's own units."""
        return in_own_units(self.mean, self.scale, self.transform)

    def at(self, index: int) -> "Prediction":
        """The prediction at one entry of the first axis of the grid."""
        return self._part((slice(None), index), (slice(None), slice(None), index))

    def every(self, index: int, step: int) -> "Prediction":
        """The predictions of every `step`-th sample from `index` on."""
        part = (slice(index, None, step),)
        return self._part(part, part)

    def _part(self, part: tuple[int | slice, ...], of_members: tuple[int | slice, ...]) -> "Prediction":
        return Prediction(
            self.members[of_members], self.mean[part], self.transform, lambda: (self.spread[part], self.scale[part])
        )


@dataclass(frozen=True)
class Interval:
    """A prediction band around the mean."""

    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class RouteStep:
    """One step of the request path and what it took; those of the tolerance contract say what they changed, and where."""

    step: str
    milliseconds: float
    sample: int | None = None
    iterations: int | None = None
    kind: str | None = None
    value_before: float | None = None
    value_after: float | None = None

    def document(self) -> dict[str, Any]:
        """As plain JSON data; what only steps of the contract have is left out elsewhere."""
        if self.iterations is None:
            return {"step": self.step, "milliseconds": self.milliseconds}
        return {key: value for key, value in vars(self).items() if key != "sample" or value is not None}


@dataclass(frozen=True)
class Question:
    """What a client wants to know besides the mean; thresholds by output field."""

    level: float = 0.9
    band: Band = "simultaneous"
    quantiles: tuple[float, ...] = ()
    thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    bounds: bool = True
    uncertainty: bool = True

    @property
    def is_bare(self) -> bool:
        """Whether nothing but the prediction itself is wanted."""
        return not (self.bounds or self.uncertainty)


@dataclass(frozen=True)
class Prepared:
    """A checked request: inputs by field, what the graph takes, and the time it took."""

    inputs: Arrays
    feeds: Arrays
    question: Question
    clock: "Clock"


@dataclass(frozen=True)
class Distribution:
    """Quantiles and exceedance probabilities of one field, by probability and by threshold."""

    quantiles: Mapping[float, np.ndarray]
    exceedance: Mapping[float, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """Everything one request gets, by output field; one tuple of statements and one verdict per sample."""

    predictions: Mapping[str, Prediction]
    bands: Mapping[str, Interval | None]
    distributions: Mapping[str, Distribution]
    question: Question
    statements: tuple[tuple[Statement, ...], ...]
    validity: tuple[Validity, ...]
    route: tuple[RouteStep, ...]


class Clock:
    """Collects the milliseconds of each step, from its making or from an earlier reading of time.perf_counter."""

    def __init__(self, started: float | None = None) -> None:
        self._steps: list[RouteStep] = []
        self._last = time.perf_counter() if started is None else started

    def mark(self, step: str, *facts: Any) -> None:
        """End a step here; `facts` are what RouteStep has beyond its time."""
        now = time.perf_counter()
        self._steps.append(RouteStep(step, (now - self._last) * 1e3, *facts))
        self._last = now

    @property
    def milliseconds(self) -> float:
        """All steps together."""
        return sum(step.milliseconds for step in self._steps)

    @property
    def route(self) -> tuple[RouteStep, ...]:
        """The steps so far; those that repeat, as for every few frames, are added up under their first appearance."""
        totals: dict[str | int, RouteStep] = {}
        for index, entry in enumerate(self._steps):
            key = entry.step if entry.iterations is None else index
            before = totals.get(key)
            totals[key] = entry if before is None else RouteStep(entry.step, before.milliseconds + entry.milliseconds)
        return tuple(totals.values())


@dataclass(frozen=True)
class Surrogate:
    """A bundle in memory with its graphs; `physics` is None for a packaged foreign model."""

    bundle: Bundle
    physics: PhysicalModel | None
    options: RuntimeOptions
    scheduler: Scheduler | None = field(default=None, kw_only=True)
    graphs: Mapping[str, Graph] = field(init=False)
    calibrations: Mapping[str, Calibration] = field(init=False)
    domain: Domain | None = field(init=False)

    def __post_init__(self) -> None:
        files = self.bundle.files
        graphs = {
            kind: Graph(self.bundle, file, self.options, self.scheduler)
            for kind, file in GRAPH_FILES.items()
            if file in files
        }
        if "model" not in graphs:
            raise BrokenBundle(GRAPH_FILES["model"], "a forward graph", "none")
        known = {item.name for item in self.manifest.inputs} | set(self._features.names if self._features else ())
        unknown = sorted(set(self.manifest.document["graph"]["inputs"]) - known)
        if unknown:
            raise BrokenBundle(
                MANIFEST_FILE, "graph inputs that are fields or features of the model", ", ".join(unknown)
            )
        arrays = self.bundle.arrays(CALIBRATION_FILE) if CALIBRATION_FILE in files else {}
        facts = self.manifest.document.get("calibration") or {}
        calibrations = {
            item.name: Calibration(item, _stored(arrays, facts[item.name]["arrays"]), facts[item.name].get("blocks"))
            for item in self.manifest.outputs
            if item.name in facts
        }
        checks = self.manifest.document.get("domain_checks")
        object.__setattr__(self, "graphs", graphs)
        object.__setattr__(self, "calibrations", calibrations)
        object.__setattr__(self, "domain", Domain(arrays, checks, self._summary) if checks else None)

    @cached_property
    def scales(self) -> Mapping[str, Scale]:
        """How spread becomes bands, by output field that has a calibration without a stored profile."""
        facts = self.manifest.document.get("calibration") or {}
        with_scale = [name for name, calibration in self.calibrations.items() if calibration.profile is None]
        return {name: Scale.of(self.manifest.output(name), facts[name]) for name in with_scale}

    @property
    def _features(self) -> Features | None:
        return None if self.physics is None else self.physics.features

    @property
    def _summary(self) -> Summary | None:
        return None if self.physics is None else self.physics.summary

    @property
    def manifest(self) -> Manifest:
        """Facts of the bundle."""
        return self.bundle.manifest

    @property
    def derivatives_offered(self) -> tuple[str, ...]:
        """Which derivative graphs the bundle has."""
        return tuple(kind for kind in ("jvp", "vjp") if kind in self.graphs)

    @property
    def lead_times(self) -> LeadTimes | None:
        """The times a forecast can be asked for."""
        return self.manifest.lead_times

    def residuals(self, name: str) -> Residuals | None:
        """Calibration residuals of an output in its own units, read when they are asked for; None where none ship."""
        if RESIDUALS_FILE in self.bundle.files:
            return Residuals.of(self.bundle.arrays(RESIDUALS_FILE), name)
        calibration = self.calibrations.get(name)
        facts = (self.manifest.document.get("calibration") or {}).get(name, {})
        if calibration is None or not calibration.stores_residuals or facts.get("transform", "identity") != "identity":
            return None
        return Residuals((calibration.stored,), blocks=calibration.independent)

    def validate(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Checked float32 inputs with a batch axis, all of one batch size.

        Raises UnknownField, MissingField, WrongShape, NotFinite, OutOfRange.
        """
        fields = self.manifest.inputs
        check_names(fields, inputs)
        count = len(inputs[fields[0].name])
        for item in fields:
            check_values(item, inputs[item.name], count)
        return _float32({item.name: inputs[item.name] for item in fields})

    def feeds(self, inputs: Arrays) -> Arrays:
        """What the forward graph takes, by its own names, for validated inputs."""
        names = self.manifest.document["graph"]["inputs"]
        return {names[name]: values for name, values in _float32(self._completed(inputs)).items()}

    def read(self, results: Sequence[np.ndarray]) -> dict[str, Prediction]:
        """Predictions from what the forward graph returned."""
        named = dict(zip(self.manifest.document["graph"]["outputs"], results, strict=False))
        return {item.name: self._prediction(item, named) for item in self.manifest.outputs}

    def to_be_finite(self, results: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """What the forward graph returned, but that a scale may overflow where a ceiling cuts it."""
        for name, values in zip(self.manifest.document["graph"]["outputs"], results, strict=False):
            yield np.minimum(values, LARGEST) if name in self._cut_scales else values

    @cached_property
    def _cut_scales(self) -> frozenset[str | None]:
        cut = (name for name, scale in self.scales.items() if np.isfinite(scale.ceiling).all())
        return frozenset(self.manifest.output_names(name).scale for name in cut)

    def run(self, inputs: Arrays) -> dict[str, Prediction]:
        """Run the forward graph on validated inputs."""
        return self.read(self.graphs["model"].run(self.feeds(inputs)))

    def _completed(self, inputs: Arrays) -> Arrays:
        return inputs if self.physics is None else self.physics.completed(inputs)

    def _prediction(self, item: Field, results: Mapping[str, np.ndarray]) -> Prediction:
        names = self.manifest.output_names(item.name)
        members = results[names.members]
        members = members if self.manifest.document["graph"]["member_axis"] else members[:, None]
        facts = (self.manifest.document.get("calibration") or {}).get(item.name, {})
        transform = str(facts.get("transform", "identity"))
        scales = None if names.scale is None else results[names.scale]
        alone = members.shape[1] == 1
        mean = members[:, 0] if alone else members.mean(axis=1, dtype=np.float64).astype(np.float32)

        def uncertainty() -> tuple[np.ndarray, np.ndarray]:
            spread = ensemble_spread(TRANSFORMS[transform].forward(members), scales)
            return self._deviation_and_scale(item.name, spread, mean)

        return Prediction(members, mean, transform, uncertainty)

    def _deviation_and_scale(self, name: str, spread: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """κ t and s(x) of the band, which is the stored error profile of a packaged model without a scale."""
        calibration = self.calibrations.get(name)
        if calibration is None:
            return spread, spread
        if calibration.profile is not None:
            return spread, np.broadcast_to(calibration.profile, spread.shape)
        scale = self.scales[name]
        return scale.deviation(spread), band_scale(spread, mean, scale)

    def predict(self, inputs: Mapping[str, np.ndarray], question: Question | None = None) -> Answer:
        """Answer a batch; bands are withdrawn, bounds kept, where an input is out of domain.

        Raises InvalidInput in one of its forms, UnsupportedLevel among them.
        """
        prepared = self.prepare(inputs, question or Question())
        return self.conclude(prepared, self.graphs["model"].run(prepared.feeds))

    def prepare(self, inputs: Mapping[str, np.ndarray], question: Question, clock: Clock | None = None) -> Prepared:
        """What comes before the graph runs; `clock` may have begun before.

        Raises InvalidInput in one of its forms, UnsupportedLevel among them.
        """
        clock = clock or Clock()
        checked = self.validate(inputs)
        self.check_question(question)
        clock.mark("validate")
        feeds = self.feeds(checked)
        if self._features is not None:
            clock.mark("features")
        return Prepared(checked, feeds, question, clock)

    def conclude(self, prepared: Prepared, results: Sequence[np.ndarray]) -> Answer:
        """What comes after: bands, bounds, validity, statements, as far as they are asked for."""
        inputs, question, clock = prepared.inputs, prepared.question, prepared.clock
        predictions = self.read(results)
        clock.mark("surrogate")
        if question.is_bare:
            return Answer(predictions, {}, {}, question, (), (), clock.route)
        bands = {name: self.band(name, prediction, question) for name, prediction in predictions.items()}
        laws = {name: self.distribution(name, prediction, question) for name, prediction in predictions.items()}
        clock.mark("uncertainty")
        means = [{name: p.mean[i] for name, p in predictions.items()} for i in range(_count(inputs))]
        samples = _samples(inputs)
        certain = [self.certain(x, y, question) for x, y in zip(samples, means, strict=True)]
        clock.mark("bound")
        verdicts = tuple(self.assess(x, s) for x, s in zip(samples, certain, strict=True))
        clock.mark("validity")
        statements = tuple(
            (*certain[i], *self.band_statements(predictions, bands, i, question, verdicts[i]))
            for i in range(len(means))
        )
        return Answer(predictions, bands, laws, question, statements, verdicts, clock.route)

    def check_question(self, question: Question) -> None:
        """Raises UnsupportedLevel when a band at this level, or a quantile, cannot be had."""
        for calibration in self.calibrations.values():
            calibration.simultaneous(question.level)
        for probability in question.quantiles:
            if not 0.0 < probability < 1.0:
                raise UnsupportedLevel("quantiles in (0, 1)", f"{probability:g}", "0.1, 0.5 and 0.9 are usual.")

    def band(self, name: str, prediction: Prediction, question: Question, lead: int | None = None) -> Interval | None:
        """m ± q s, mapped back and cut to the field's possible values; None without calibration.

        `lead` is the index of the lead time of a prediction whose lead axis has been taken away.
        """
        calibration = self.calibrations.get(name)
        if calibration is None:
            return None
        simultaneous = question.band == "simultaneous"
        q = calibration.simultaneous(question.level) if simultaneous else calibration.pointwise(question.level)
        half = _at_lead(q, lead) * prediction.scale
        return Interval(self._back(name, prediction, -half), self._back(name, prediction, half))

    def _back(self, name: str, prediction: Prediction, shift: np.ndarray) -> np.ndarray:
        """g⁻¹(g(m) + shift) within the field's possible values."""
        item = self.manifest.output(name)
        g = TRANSFORMS[prediction.transform]
        values = g.inverse(g.forward(prediction.mean) + shift)
        low = -np.inf if item.minimum is None else item.minimum
        high = np.inf if item.maximum is None else item.maximum
        return np.asarray(np.clip(values, low, high))

    def distribution(
        self, name: str, prediction: Prediction, question: Question, lead: int | None = None
    ) -> Distribution:
        """The quantiles and exceedance probabilities asked for; empty without calibration."""
        calibration, wanted = self.calibrations.get(name), question.thresholds.get(name, ())
        if calibration is None or not (question.quantiles or wanted):
            return Distribution({}, {})
        quantiles = {
            p: self._back(name, prediction, _at_lead(calibration.error_quantile(p), lead) * prediction.scale)
            for p in question.quantiles
        }
        g = TRANSFORMS[prediction.transform].forward
        middle, size = g(prediction.mean), np.where(prediction.scale > 0, prediction.scale, 1e-30)
        exceedance = {
            threshold: calibration.exceedance((g(np.asarray(threshold)) - middle) / size, lead) for threshold in wanted
        }
        return Distribution(quantiles, exceedance)

    def certain(self, inputs: Arrays, outputs: Arrays, question: Question) -> tuple[Statement, ...]:
        """Statements of the physical model about one sample, or the statement that there are none.

        Raises what ends the request.
        """
        ticket.current().check()
        if self.physics is None:
            reason = "no physical model in the catalogue: no error bound and no fallback solver"
            truth = str(self.manifest.document["truth"])
            return tuple(nothing(item.name, "energy", truth, reason) for item in self.manifest.outputs)
        if not question.bounds:
            return ()
        if self.physics.bound_times is None or self.lead_times is None or self.lead_times.input is None:
            return self.physics.statements(inputs, outputs)
        return self.trajectory_statements(inputs, np.atleast_1d(inputs[self.lead_times.input]))

    def trajectory_statements(
        self, inputs: Arrays, requested: np.ndarray, found: Arrays | None = None
    ) -> tuple[Statement, ...]:
        """Bounds at the requested lead times; `found` are the ensemble means there, where they are already known.

        Raises NotOffered.
        """
        physics, lead = self.physics, self.lead_times
        if physics is None or physics.bound_times is None or lead is None or lead.input is None:
            raise NotOffered(f"bounds on trajectories of {self.manifest.name}", "none")
        wanted = np.asarray(requested, dtype=np.float64)
        times = physics.bound_times(wanted)
        fixed = {name: values for name, values in inputs.items() if name != lead.input}
        if found is None or not np.array_equal(times, wanted):
            rows = {name: np.broadcast_to(values, (len(times), *values.shape)) for name, values in fixed.items()}
            found = self.means(_float32(rows | {lead.input: times}))
        statements = physics.statements({**fixed, lead.input: times}, found)
        return tuple(s for s in statements if s.lead_time is None or np.abs(wanted - s.lead_time).min() < 1e-7)

    def means(self, inputs: Arrays, batch: int = 16) -> dict[str, np.ndarray]:
        """Ensemble means of many validated inputs, a few at a time: activations then stay in the cache."""
        parts = []
        for first in range(0, _count(inputs), batch):
            part = self.run({name: values[first : first + batch] for name, values in inputs.items()})
            parts.append({name: prediction.mean for name, prediction in part.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def assess(self, inputs: Arrays, certain: tuple[Statement, ...]) -> Validity:
        """The validity verdict; the relative bound among the statements is its task detector."""
        if self.domain is None:
            return Validity(False, 0.0, ("the bundle has no description of its domain",))
        return self.domain.assess(inputs, task_score(certain))

    def require(self, kind: str) -> Graph:
        """A derivative graph.

        Raises NotOffered.
        """
        if kind not in self.graphs:
            raise NotOffered(f"{kind} of {self.manifest.name}", f"derivatives among {self.derivatives_offered}")
        return self.graphs[kind]

    def vjp(self, inputs: Arrays, cotangents: Arrays) -> tuple[dict[str, np.ndarray], Arrays]:
        """(members by output, Jᵀw by input) for member cotangents (batch, member, *shape) of every output."""
        completed = self._completed({item.name: inputs[item.name] for item in self.manifest.inputs})
        cotangents = {item.name: cotangents[item.name] for item in self.manifest.outputs}
        results = self._run_derivative("vjp", completed, cotangents)
        members = dict(zip(cotangents, results[: len(cotangents)], strict=True))
        pulled = dict(zip(completed, results[len(cotangents) :], strict=True))
        if self._features is not None:
            parts = {name: pulled.pop(name) for name in self._features.names}
            for name, part in self._features.pull(inputs, parts).items():
                pulled[name] = (pulled[name] + part).astype(np.float32)
        return members, pulled

    def jvp(self, inputs: Arrays, tangents: Arrays) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(members, J t), both by output, for a tangent (batch, *shape) of every input."""
        names = [item.name for item in self.manifest.inputs]
        completed = self._completed({name: inputs[name] for name in names})
        directions = {name: tangents[name] for name in names}
        if self._features is not None:
            directions |= self._features.push(inputs, directions)
        results = self._run_derivative("jvp", completed, directions)
        outputs = [item.name for item in self.manifest.outputs]
        count = len(outputs)
        return dict(zip(outputs, results[:count], strict=True)), dict(zip(outputs, results[count:], strict=True))

    def _run_derivative(self, kind: str, inputs: Arrays, directions: Arrays) -> list[np.ndarray]:
        """Derivative graphs take the inputs in order, then the directions.

        Raises InvalidInput for directions so large that the derivative along them overflows.
        """
        graph = self.require(kind)
        feeds = (*_float32(inputs).values(), *_float32(directions).values())
        results = graph.run(dict(zip(graph.inputs, feeds, strict=True)))
        largest = max(float(np.abs(values).max()) for values in directions.values())
        if largest > LARGE_DIRECTION and not all(np.isfinite(found).all() for found in results):
            got = f"an overflow along directions of up to {largest:g}"
            raise InvalidInput("derivatives in the range of float32", got, "They are linear: scale the direction down.")
        return results

    def band_statements(
        self,
        predictions: Mapping[str, Prediction],
        bands: Mapping[str, Interval | None],
        index: int,
        question: Question,
        verdict: Validity,
        lead_time: float | None = None,
    ) -> tuple[Statement, ...]:
        """What the bands of one sample claim, one statement per output field."""
        return tuple(
            self._band_statement(item, bands[item.name], index, question, verdict, lead_time)
            for item in self.manifest.outputs
            if item.name in predictions
        )

    def _band_statement(
        self, item: Field, band: Interval | None, index: int, question: Question, verdict: Validity, lead: float | None
    ) -> Statement:
        truth = str(self.manifest.document["truth"])
        if band is None:
            return nothing(item.name, "band", truth, "the bundle has no calibration set", question.level, lead)
        if not verdict.in_domain:
            reason = "out of domain: " + "; ".join(verdict.reasons)
            return nothing(item.name, "band", truth, reason, question.level, lead)
        width = float((band.upper[index] - band.lower[index]).max() / 2)
        calibration = self.calibrations[item.name]
        independent = calibration.independent
        dependent = "" if independent == calibration.count else f" in {independent} independent blocks"
        assumptions = (
            f"request exchangeable with {calibration.count} calibration inputs{dependent}",
            "value is the largest half-width",
        )
        scope = self._scope(item, question, lead)
        return Statement(
            item.name, "band", width, "statistical", question.level, truth, assumptions, lead_time=lead, scope=scope
        )

    def _scope(self, item: Field, question: Question, lead: float | None) -> str:
        """Where the band holds at once."""
        if question.band == "pointwise":
            stored = self.calibrations[item.name].stores_residuals
            return "each fixed grid point by itself" if stored else "a grid point drawn at random"
        if self.lead_times is not None and self.lead_times.input is not None:
            frames = self.lead_times.frames
            return f"all grid points of the whole trajectory at once, on {frames} equispaced lead times"
        leads = bool(item.axes) and item.axes[0].name == LEAD_TIME
        return "all grid points of each lead time by itself" if leads and lead is None else EVERYWHERE


def _float32(arrays: Arrays) -> Arrays:
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in arrays.items()}


def _stored(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}


def _at_lead(quantile: np.ndarray, lead: int | None) -> np.ndarray:
    """The quantile of one lead time, where each has its own."""
    if lead is None or quantile.ndim == 0:
        return quantile
    return np.asarray(quantile[lead if quantile.shape[0] > 1 else 0])


def _count(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _samples(inputs: Arrays) -> list[Arrays]:
    return [{name: values[i] for name, values in inputs.items()} for i in range(_count(inputs))]


def task_score(statements: tuple[Statement, ...]) -> float | None:
    """M/|||v||| from the guaranteed relative energy statement B = M/(|||v||| − M)."""
    for statement in statements:
        if statement.norm in ENERGY_NORMS and statement.relative:
            return 1e6 if statement.value is None else statement.value / (1.0 + statement.value)
    return None


def describe(surrogate: Surrogate) -> dict[str, Any]:
    """Description of one surrogate for catalogues: the manifest plus what is on offer."""
    document = dict(surrogate.manifest.document)
    document.pop("files")
    exact = ["integrated_gradients", "gradient"] if "vjp" in surrogate.graphs else []
    response = ["what_if"] if {"vjp", "jvp"} <= set(surrogate.graphs) else []
    document["explanations"] = [*exact, "occlusion", "shapley", *response]
    document["derivatives"] = list(surrogate.derivatives_offered)
    document["bundle"] = surrogate.manifest.digest
    return document
