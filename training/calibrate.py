"""Bands, validity and golden outputs from the exported graph: what is calibrated is what is served."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.bundle import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, Bundle
from models.fields import Field
from models.manifest import Manifest
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.residuals import packed
from models.runtime import Graph, RuntimeOptions
from models.uncertainty import (
    TRANSFORMS,
    Response,
    Scale,
    band_scale,
    ensemble_spread,
    error_law,
    has_lead_times,
    in_own_units,
    plain_scale,
    rank,
)
from models.validity import contradictions, detector_scores, fit_detectors, fit_summary, hard_checks
from training import cluster, dataset

TUNING_LEVEL = 0.9
SMOOTHINGS = (0.0, 0.5, 1.0, 1.5, 2.0)
FLOORS = (0.01, 0.03, 0.1, 0.3, 1.0)
CEILINGS = (0.999, 0.9999, 1.0)  # learned scales of single points can be far beyond any error
EXPONENTS = np.linspace(-1.0, 4.0, 101).round(2)
TOGETHER = 20  # bounds in one task: alone, a bound of 10 ms takes less than being handed out and collected
SEEN = (0.025, 0.975)  # share of the tune split's mean scales between which the response varies
TINY = 1e-30
GOLDEN_CASES = 3
BATCH = 25
LAW_VALUES = 200_000  # standardised errors kept for the law of one group
FITTED = 4000  # training inputs to which detectors are fitted


class Exported:
    """The forward graph of a run, over many inputs and, where the graph takes it, over all lead times."""

    def __init__(self, model: PhysicalModel, recipe: Recipe, folder: Path) -> None:
        names = [*GRAPH_FILES.values(), WEIGHTS_FILE]
        files = {name: (folder / "graphs" / name).read_bytes() for name in names}
        self._graph = Graph(Bundle(Manifest({}, ""), files), GRAPH_FILES["model"], RuntimeOptions())
        self.model, self.outputs = model, model.outputs(recipe.points)

    def raw(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Graph outputs by name."""
        completed = self.model.completed(inputs)
        feeds = {name: np.ascontiguousarray(completed[name], dtype=np.float32) for name in self._graph.inputs}
        return dict(zip(self._graph.outputs, self._graph.run(feeds), strict=True))

    def means_and_spreads(self, inputs: Arrays, note: str) -> tuple[Arrays, Arrays]:
        """Ensemble mean and spread of every output, with the axes that the truth has."""
        lead = self.model.lead_times
        parts: list[tuple[Arrays, Arrays]] = []
        count = len(next(iter(inputs.values())))
        if lead is None or lead.input is None:
            firsts = tqdm(range(0, count, BATCH), desc=note, unit="batch", leave=False)
            return _joined(
                [self._ensemble({name: v[k : k + BATCH] for name, v in inputs.items()}) for k in firsts], np.concatenate
            )
        times = lead.values.astype(np.float32)
        for sample in tqdm(range(count), desc=note, unit="trajectory", leave=False):
            frames = []
            for part in np.array_split(times, max(1, len(times) // BATCH)):
                rows = {name: np.repeat(v[sample : sample + 1], len(part), axis=0) for name, v in inputs.items()}
                frames.append(self._ensemble(rows | {lead.input: part}))
            parts.append(_joined(frames, np.concatenate))
        return _joined(parts, np.stack)

    def _ensemble(self, inputs: Arrays) -> tuple[Arrays, Arrays]:
        results = self.raw(inputs)
        means, spreads = {}, {}
        for item in self.outputs:
            members = results[f"{item.name}_members"]
            transform = TRANSFORMS[self.model.transforms.get(item.name, "identity")]
            means[item.name] = members.mean(axis=1, dtype=np.float64).astype(np.float32)
            spreads[item.name] = ensemble_spread(transform.forward(members), results[f"{item.name}_scale"])
        return means, spreads


def _joined(parts: list[tuple[Arrays, Arrays]], join: Any) -> tuple[Arrays, Arrays]:
    means, spreads = ({name: join([p[i][name] for p in parts]) for name in parts[0][i]} for i in (0, 1))
    return means, spreads


@dataclass(frozen=True)
class Errors:
    """Transformed residuals g(u) − g(m), spreads and means m of one output field over a split: (case, *axes of the truth)."""

    residual: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    by_lead_time: bool

    def scores(self, scale: np.ndarray) -> np.ndarray:
        """max |r|/s over the points that are not exact by construction, (case, lead times or 1)."""
        ratio = np.abs(self.residual) / np.where(scale > 0, scale, 1.0) * (scale > 0)
        return self._grouped(ratio).max(axis=2)

    def ceiling(self, share: float) -> tuple[float, ...]:
        """What a `share` of all spreads do not exceed, per lead time."""
        return tuple(np.quantile(self._grouped(self.spread), share, axis=(0, 2)).astype(np.float64).tolist())

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """Means of what each lead time, or frame of a trajectory, has: (case, lead times or 1)."""
        return values if self.by_lead_time else values.mean(axis=1, keepdims=True)

    def _grouped(self, values: np.ndarray) -> np.ndarray:
        """(case, lead times or 1, points)."""
        return np.asarray(values.reshape(len(values), values.shape[1] if self.by_lead_time else 1, -1))


def errors_of(model: PhysicalModel, item: Field, truth: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Errors:
    """Residuals of one field in the space in which its errors are symmetric."""
    transform = TRANSFORMS[model.transforms.get(item.name, "identity")]
    residual = transform.forward(truth.astype(np.float64)) - transform.forward(mean)
    return Errors(residual, spread, mean, has_lead_times(item))


@dataclass(frozen=True)
class Peaks:
    """max |r|/ŝ and ⟨|ŝ|⟩: (case, lead times, or frames of a trajectory, or 1)."""

    ratios: np.ndarray
    means: np.ndarray
    by_lead_time: bool

    @classmethod
    def of(cls, errors: Errors, plain: np.ndarray, scale: Scale) -> "Peaks":
        """From the errors of a split and ŝ."""
        grid = tuple(range(plain.ndim - scale.grid, plain.ndim))
        ratio = np.abs(errors.residual) / np.where(plain > 0, plain, np.inf)
        own = in_own_units(errors.mean, plain, scale.transform)
        return cls(
            *(v.reshape(len(plain), -1) for v in (ratio.max(axis=grid), own.mean(axis=grid))), errors.by_lead_time
        )

    def scores(self, factor: np.ndarray) -> np.ndarray:
        """Scores when ŝ is multiplied by `factor`: (case, lead times or 1)."""
        found = self.ratios / factor
        return found if self.by_lead_time else found.max(axis=1, keepdims=True)

    def log_width(self, factor: np.ndarray) -> float:
        """log of the band's geometric mean width over cases, averaged over lead times."""
        scores = np.sort(self.scores(factor), axis=0)
        quantile = scores[rank(len(scores), TUNING_LEVEL) - 1]
        sizes = self.means * factor
        sizes = sizes if self.by_lead_time else sizes.mean(axis=1, keepdims=True)
        return float((np.log(quantile) + np.log(sizes).mean(axis=0)).mean())


def fit_response(peaks: Peaks) -> tuple[Response, np.ndarray]:
    """h with the exponent of a linear quantile regression of log score on log mean scale (Koenker & Bassett 1978).

    The exponent of least loss, for one drawn towards 0 covers wide bands too seldom. Also h itself, as `peaks.means`.
    """
    level = _unbent(peaks.means, peaks.by_lead_time)
    base = _base(peaks.means, level)
    losses = np.stack([_pinball(np.log(peaks.scores(base**beta))) for beta in EXPONENTS])
    exponent = _exponents(losses)
    return replace(level, exponent=exponent), base ** np.array(exponent)


def fit_deviation(errors: Errors, scale: Scale) -> Scale:
    """`scale` with the κ and the dispersion of largest Gaussian likelihood of the errors' norms.

    Σ log σ² + ‖r‖²/σ²,     σ² = κ² ‖t h(⟨t⟩)‖²,     so that ‖r‖²/σ² is 1 on average, with no trend in the spread
    """
    spread = np.minimum(errors.spread, scale.by_lead_time(scale.ceiling)).astype(np.float64)
    grid = tuple(range(spread.ndim - scale.grid, spread.ndim))
    squares, means = (v.mean(axis=grid).reshape(len(spread), -1) for v in (np.square(spread), spread))
    level = _unbent(means, errors.by_lead_time)
    base = _base(means, level)
    error = errors.pooled(np.square(errors.residual).mean(axis=grid).reshape(squares.shape))
    losses = np.stack([_gaussian(error, errors.pooled(squares * base ** (2 * gamma))) for gamma in EXPONENTS])
    exponent = _exponents(losses)
    size = errors.pooled(squares * base ** (2 * np.array(exponent)))
    kappa = np.sqrt((error / np.maximum(size, TINY)).mean(axis=0))
    return replace(scale, inflation=tuple(kappa.tolist()), dispersion=replace(level, exponent=exponent))


def _unbent(means: np.ndarray, by_lead_time: bool) -> Response:
    """The response with exponent 0: what mean scales of the tune split (case, frame) it refers to and varies between."""
    axis = 0 if by_lead_time else None
    kept = np.maximum(means, TINY)
    reference = np.atleast_1d(np.exp(np.log(kept).mean(axis=axis)))
    ends = (np.atleast_1d(np.quantile(kept, share, axis=axis)) for share in SEEN)
    return Response(*(tuple(values.tolist()) for values in (np.zeros_like(reference), reference, *ends)))


def _base(means: np.ndarray, response: Response) -> np.ndarray:
    """m/m₀."""
    return np.asarray(np.clip(means, response.lowest, response.highest) / np.array(response.reference))


def _gaussian(error: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Twice the negative log-likelihood of each case at the best κ, per column."""
    ratio = error / np.maximum(size, TINY)
    kappa = np.maximum(ratio.mean(axis=0), TINY)
    return np.asarray(np.log(kappa * np.maximum(size, TINY)) + ratio / kappa)


def _pinball(values: np.ndarray) -> np.ndarray:
    """Pinball loss of each case about the quantile of TUNING_LEVEL, per column."""
    gap = values - np.quantile(values, TUNING_LEVEL, axis=0)
    return np.asarray(np.maximum(TUNING_LEVEL * gap, (TUNING_LEVEL - 1) * gap))


def _exponents(losses: np.ndarray) -> tuple[float, ...]:
    """Those of least mean loss, one per column of losses (exponent, case, column)."""
    return tuple(EXPONENTS[losses.mean(axis=1).argmin(axis=0)].tolist())


def tune_scale(model: PhysicalModel, item: Field, errors: Errors) -> Scale:
    """The ceiling, smoothing and floor, each with its response, that give the narrowest 90 % band on the tune split."""
    size = float(np.median(np.sqrt(np.square(errors.spread.reshape(len(errors.spread), -1)).mean(axis=1))))
    facts = {"exact_boundary": model.exact_boundary, "transform": model.transforms.get(item.name, "identity")}
    ceilings = [errors.ceiling(share) for share in CEILINGS]
    best, chosen = np.inf, None
    for ceiling, smoothing, floor in product(ceilings, SMOOTHINGS, FLOORS):
        candidate = Scale.of(item, {"smoothing": smoothing, "floor": floor * size, "ceiling": ceiling, **facts})
        if smoothing and not candidate.smoothed:
            continue
        peaks = Peaks.of(errors, plain_scale(errors.spread, candidate), candidate)
        response, factor = fit_response(peaks)
        if peaks.log_width(factor) < best:
            best, chosen = peaks.log_width(factor), replace(candidate, response=response)
    assert chosen is not None
    return fit_deviation(errors, chosen)


def field_arrays(errors: Errors, scale: np.ndarray, stored: bool) -> Arrays:
    """What ships of one field's calibration: scores, the pooled law of the error, residuals and scales if `stored`."""
    arrays: Arrays = {"scores": np.sort(errors.scores(scale), axis=0)}
    if stored:
        return arrays | packed(errors.residual, scale)
    ratio = errors.residual / np.where(scale > 0, scale, np.inf)
    rows = np.moveaxis(ratio, 1, 0).reshape(ratio.shape[1], -1) if errors.by_lead_time else ratio.reshape(1, -1)
    chosen = np.random.default_rng(0).permutation(rows.shape[1])[:LAW_VALUES]
    return arrays | {"law": error_law(rows[:, chosen]).astype(np.float32)}


def _bands(model: PhysicalModel, recipe: Recipe, folder: Path, exported: Exported) -> tuple[Arrays, dict[str, Any]]:
    found: dict[str, dict[str, Errors]] = {}
    for split in ("tune", "calibration"):
        inputs, truths = dataset.load(folder / "data", split)
        means, spreads = exported.means_and_spreads(inputs, split)
        for item in exported.outputs:
            errors = errors_of(model, item, truths[item.name], means[item.name], spreads[item.name])
            found.setdefault(item.name, {})[split] = errors
    arrays, facts = {}, {}
    independent = None if model.blocks is None else len(np.unique(model.blocks(inputs)))  # of the last, calibration
    for item in exported.outputs:
        chosen = tune_scale(model, item, found[item.name]["tune"])
        errors = found[item.name]["calibration"]
        stored = model.stored_residuals is None or item.name in model.stored_residuals
        shipped = field_arrays(errors, band_scale(errors.spread, errors.mean, chosen), stored)
        arrays |= {f"{item.name}.{key}": values for key, values in shipped.items()}
        split_ = recipe.splits["calibration"]
        facts[item.name] = chosen.facts() | {
            "cases": split_.count, "seed": split_.seed, "arrays": f"{item.name}.", "blocks": independent,
        }  # fmt: skip
    return arrays, facts


def _numbered_bounds(task: tuple[int, str, Arrays, Arrays]) -> tuple[int, list[float]]:
    from models import catalog

    first, name, inputs, outputs = task
    bound = catalog.load(name).relative_bound
    assert bound is not None
    rows = range(len(next(iter(inputs.values()))))
    return first, [bound({k: v[i] for k, v in inputs.items()}, {k: v[i] for k, v in outputs.items()}) for i in rows]


def task_scores(model: PhysicalModel, inputs: Arrays, means: Arrays, scheduler: str | None) -> np.ndarray:
    """Relative guaranteed bound of each answer, over the cores."""
    count = len(next(iter(inputs.values())))
    tasks = (
        (first, model.name, *({k: v[first : first + TOGETHER] for k, v in part.items()} for part in (inputs, means)))
        for first in range(0, count, TOGETHER)
    )
    scores = np.zeros(count)
    with tqdm(total=count, desc="validity", unit="bound", leave=False) as bar:
        for first, found in cluster.run(_numbered_bounds, tasks, scheduler):
            scores[first : first + len(found)] = found
            bar.update(len(found))
    return scores


def training_inputs(model: PhysicalModel, recipe: Recipe) -> Arrays:
    """The inputs that detectors are fitted to, drawn again."""
    train = recipe.splits["train"]
    split = recipe.detectors or replace(train, count=min(FITTED, train.count))
    family = split.family or model.training_family
    numbers = tqdm(range(split.count), desc="training inputs", unit="input", leave=False)
    drawn = [model.draw(split.seed, index, recipe.points, family) for index in numbers]
    return {name: np.stack([one[name] for one in drawn]).astype(np.float32) for name in drawn[0]}


def _validity(
    model: PhysicalModel, recipe: Recipe, folder: Path, exported: Exported, scheduler: str | None
) -> tuple[Arrays, dict[str, Any]]:
    train = training_inputs(model, recipe)
    fresh, _ = dataset.load(folder / "data", "unlabelled")
    arrays, checks = {}, {}
    for item in model.inputs(recipe.points):
        if item.role in ("lead_time", "reference_time"):
            continue
        free = item.name in model.mean_free
        periodic = all(axis.periodic for axis in item.axes)
        parameters = fit_detectors(train[item.name], recipe.principal_components, free, periodic)
        scores = detector_scores(parameters, fresh[item.name], free)
        arrays |= {f"{item.name}.validity.{key}": values for key, values in parameters.items()}
        arrays |= {f"{item.name}.reference.{key}": values for key, values in scores.items()}
        both = np.concatenate([train[item.name], fresh[item.name]])
        checks[item.name] = hard_checks(both, free) | {"arrays": f"{item.name}."}
    if model.summary is not None:
        known = fit_summary(model.summary.of(train))
        arrays |= {f"summary.{key}": values for key, values in known.items()}
        arrays["reference.summary"] = np.abs(contradictions(known, model.summary.of(fresh))).max(axis=1)
    if model.relative_bound is not None:
        means, _ = exported.means_and_spreads(fresh, "unlabelled inputs")
        arrays["reference.task"] = task_scores(model, fresh, means, scheduler)
    return {name: _sorted(values) if "reference." in name else values for name, values in arrays.items()}, checks


def _sorted(scores: np.ndarray) -> np.ndarray:
    """In order and single precision: only their ranks count."""
    return np.sort(scores).astype(np.float32)


def calibrate(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None = None) -> None:
    """Write calibration.npz, golden.npz and calibration.json of a run."""
    write_calibration(model, recipe, folder, scheduler)
    _write_golden(model, folder, Exported(model, recipe, folder))


def write_calibration(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None = None) -> None:
    """Write calibration.npz and calibration.json of a run."""
    exported = Exported(model, recipe, folder)
    arrays, facts = _bands(model, recipe, folder, exported)
    domain, checks = _validity(model, recipe, folder, exported, scheduler)
    np.savez_compressed(folder / CALIBRATION_FILE, allow_pickle=False, **arrays, **domain)
    _write_facts(folder, facts, checks)


def refit_deviation(model: PhysicalModel, recipe: Recipe, folder: Path, document: Mapping[str, Any]) -> None:
    """Write calibration.json with the bands and detectors of `document`, a new standard deviation and new hard checks."""
    inputs, truths = dataset.load(folder / "data", "tune")
    exported = Exported(model, recipe, folder)
    means, spreads = exported.means_and_spreads(inputs, "tune")
    facts = {name: dict(values) for name, values in document["calibration"].items()}
    for item in exported.outputs:
        errors = errors_of(model, item, truths[item.name], means[item.name], spreads[item.name])
        scale = fit_deviation(errors, Scale.of(item, facts[item.name])).facts()
        facts[item.name] |= {key: scale[key] for key in ("inflation", "dispersion")}
    fresh, _ = dataset.load(folder / "data", "unlabelled")
    known = document["domain_checks"]
    checks = {name: hard_checks(fresh[name], name in model.mean_free) | dict(known[name]) for name in known}
    _write_facts(folder, facts, checks)


def _write_facts(folder: Path, facts: Mapping[str, Any], checks: Mapping[str, Any]) -> None:
    text = json.dumps({"calibration": facts, "domain_checks": checks}, indent=1)
    (folder / "calibration.json").write_text(text, encoding="utf-8")


def _write_golden(model: PhysicalModel, folder: Path, exported: Exported) -> None:
    inputs, _ = dataset.Samples(folder / "data", "held_out").read(0, GOLDEN_CASES)
    lead = model.lead_times
    if lead is not None and lead.input is not None:
        inputs[lead.input] = np.linspace(lead.start, lead.stop, GOLDEN_CASES, dtype=np.float32)
    stored = {f"input.{name}": values for name, values in inputs.items()}
    stored |= {name: values for name, values in exported.raw(inputs).items() if name.endswith("_members")}
    np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **stored)
