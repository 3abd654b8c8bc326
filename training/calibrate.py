"""Bands, validity and golden outputs from the exported graph: what is calibrated is what is served."""

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.bundle import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, Bundle, Manifest
from models.fields import LEAD_TIME, Field
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.runtime import Graph, RuntimeOptions
from models.uncertainty import TRANSFORMS, Scale, band_scale, ensemble_spread, error_law, rank
from models.validity import detector_scores, fit_detectors, hard_checks
from training import cluster, dataset

TUNING_LEVEL = 0.9
SMOOTHINGS = (0.0, 0.5, 1.0, 1.5, 2.0)
FLOORS = (0.01, 0.03, 0.1, 0.3, 1.0)
GOLDEN_CASES = 3
BATCH = 25
LAW_VALUES = 200_000  # standardised errors kept for the law of one group
FITTED = 4000  # training inputs from which detectors are fitted


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
    """Transformed residuals g(u) − g(m) and spreads of one output field over a split: (case, *axes of the truth)."""

    residual: np.ndarray
    spread: np.ndarray
    by_lead_time: bool

    def scores(self, scale: np.ndarray) -> np.ndarray:
        """max |r|/s over the points that are not exact by construction, (case, lead times or 1)."""
        ratio = np.abs(self.residual) / np.where(scale > 0, scale, 1.0) * (scale > 0)
        kept = ratio.shape[:2] if self.by_lead_time else (len(ratio), 1)
        return np.asarray(ratio.reshape(*kept, -1).max(axis=2))


def errors_of(model: PhysicalModel, item: Field, truth: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Errors:
    """Residuals of one field in the space in which its errors are symmetric."""
    transform = TRANSFORMS[model.transforms.get(item.name, "identity")]
    residual = transform.forward(truth.astype(np.float64)) - transform.forward(mean)
    return Errors(residual, spread, bool(item.axes) and item.axes[0].name == LEAD_TIME)


def tune_scale(model: PhysicalModel, item: Field, errors: Errors) -> Scale:
    """The smoothing and floor with the narrowest mean 90 % band on the tune split."""
    size = float(np.sqrt(np.mean(np.square(errors.spread))))
    best: tuple[float, Scale] | None = None
    facts = {"exact_boundary": model.exact_boundary, "transform": model.transforms.get(item.name, "identity")}
    for smoothing, floor in product(SMOOTHINGS, FLOORS):
        candidate = Scale.of(item, {"smoothing": smoothing, "floor": floor * size, **facts})
        if smoothing and not candidate.smoothed:
            continue
        scale = band_scale(errors.spread, candidate)
        scores = np.sort(errors.scores(scale), axis=0)
        quantile = scores[rank(len(scores), TUNING_LEVEL) - 1]
        sizes = scale.reshape(*(scale.shape[:2] if errors.by_lead_time else (len(scale), 1)), -1).mean(axis=(0, 2))
        width = float((quantile * sizes).mean())
        if best is None or width < best[0]:
            best = (width, candidate)
    assert best is not None
    return best[1]


def half_precision(values: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Half precision with a unit that keeps typical values far from the subnormals."""
    unit = np.float32(np.abs(values).max() / 1024.0)
    return (values / unit).astype(np.float16), unit


def field_arrays(errors: Errors, scale: np.ndarray, stored: bool) -> Arrays:
    """What ships of one field's calibration: scores, the pooled law of the error, residuals and scales if `stored`."""
    arrays: Arrays = {"scores": np.sort(errors.scores(scale), axis=0)}
    if stored:
        kept, unit = half_precision(errors.residual * (scale > 0))
        kept_scale, scale_unit = half_precision(scale)
        return arrays | {"residuals": kept, "residual_unit": unit, "scales": kept_scale, "scale_unit": scale_unit}
    ratio = errors.residual / np.where(scale > 0, scale, np.inf)
    rows = np.moveaxis(ratio, 1, 0).reshape(ratio.shape[1], -1) if errors.by_lead_time else ratio.reshape(1, -1)
    chosen = np.random.default_rng(0).permutation(rows.shape[1])[:LAW_VALUES]
    return arrays | {"law": error_law(rows[:, chosen]).astype(np.float32)}


def _bands(model: PhysicalModel, recipe: Recipe, folder: Path, exported: Exported) -> tuple[Arrays, dict[str, Any]]:
    found: dict[str, dict[str, Errors]] = {}
    blocks = None
    for split in ("tune", "calibration"):
        inputs, truths = dataset.load(folder / "data", split)
        blocks = None if model.blocks is None else len(np.unique(model.blocks(inputs)))
        means, spreads = exported.means_and_spreads(inputs, split)
        for item in exported.outputs:
            errors = errors_of(model, item, truths[item.name], means[item.name], spreads[item.name])
            found.setdefault(item.name, {})[split] = errors
    arrays, facts = {}, {}
    for item in exported.outputs:
        chosen = tune_scale(model, item, found[item.name]["tune"])
        errors = found[item.name]["calibration"]
        stored = model.stored_residuals is None or item.name in model.stored_residuals
        shipped = field_arrays(errors, band_scale(errors.spread, chosen), stored)
        arrays |= {f"{item.name}.{key}": values for key, values in shipped.items()}
        split_ = recipe.splits["calibration"]
        facts[item.name] = {
            "smoothing": chosen.smoothing, "floor": chosen.floor, "exact_boundary": chosen.exact_boundary,
            "transform": chosen.transform, "cases": split_.count, "seed": split_.seed, "arrays": f"{item.name}.",
            "blocks": blocks,
        }  # fmt: skip
    return arrays, facts


def _numbered_bound(task: tuple[int, tuple[str, Arrays, Arrays]]) -> tuple[int, float]:
    from models import catalog

    index, (name, inputs, outputs) = task
    bound = catalog.load(name).relative_bound
    assert bound is not None
    return index, bound(inputs, outputs)


def task_scores(model: PhysicalModel, inputs: Arrays, means: Arrays, scheduler: str | None) -> np.ndarray:
    """Relative guaranteed bound of each answer, over the cores."""
    count = len(next(iter(inputs.values())))
    tasks = [
        (i, (model.name, {k: v[i] for k, v in inputs.items()}, {k: v[i] for k, v in means.items()}))
        for i in range(count)
    ]
    scores = np.zeros(count)
    found = cluster.run(_numbered_bound, tasks, scheduler)
    for index, score in tqdm(found, total=count, desc="validity", unit="bound", leave=False):
        scores[index] = score
    return scores


def _validity(
    model: PhysicalModel, recipe: Recipe, folder: Path, exported: Exported, scheduler: str | None
) -> tuple[Arrays, dict[str, Any]]:
    samples = dataset.Samples(folder / "data", "train")
    train, _ = samples.read(0, min(FITTED, samples.count))
    fresh, _ = dataset.load(folder / "data", "unlabelled")
    arrays, checks = {}, {}
    for item in model.inputs(recipe.points):
        if item.role in ("lead_time", "reference_time"):
            continue
        free = item.name in model.mean_free
        parameters = fit_detectors(train[item.name], recipe.principal_components, free)
        scores = detector_scores(parameters, fresh[item.name], free)
        arrays |= {f"{item.name}.validity.{key}": values for key, values in parameters.items()}
        arrays |= {f"{item.name}.reference.{key}": np.sort(values) for key, values in scores.items()}
        checks[item.name] = hard_checks(fresh[item.name], free) | {"arrays": f"{item.name}."}
    if model.relative_bound is not None:
        means, _ = exported.means_and_spreads(fresh, "unlabelled inputs")
        arrays["reference.task"] = np.sort(task_scores(model, fresh, means, scheduler))
    return arrays, checks


def calibrate(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None = None) -> None:
    """Write calibration.npz, golden.npz and calibration.json of a run."""
    exported = Exported(model, recipe, folder)
    arrays, facts = _bands(model, recipe, folder, exported)
    domain, checks = _validity(model, recipe, folder, exported, scheduler)
    np.savez_compressed(folder / CALIBRATION_FILE, allow_pickle=False, **arrays, **domain)
    _write_golden(model, folder, exported)
    (folder / "calibration.json").write_text(json.dumps({"calibration": facts, "domain_checks": checks}, indent=1))


def _write_golden(model: PhysicalModel, folder: Path, exported: Exported) -> None:
    inputs, _ = dataset.Samples(folder / "data", "held_out").read(0, GOLDEN_CASES)
    lead = model.lead_times
    if lead is not None and lead.input is not None:
        inputs[lead.input] = np.linspace(lead.start, lead.stop, GOLDEN_CASES, dtype=np.float32)
    stored = {f"input.{name}": values for name, values in inputs.items()}
    stored |= {name: values for name, values in exported.raw(inputs).items() if name.endswith("_members")}
    np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **stored)
