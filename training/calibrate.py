"""Bands, validity and golden outputs from the exported graph: what is calibrated is what is served."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.bundle import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, Bundle, Manifest
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.runtime import Graph, RuntimeOptions
from models.uncertainty import Scale, band_scale, ensemble_spread, interior, rank
from models.validity import detector_scores, fit_detectors, hard_checks
from training import cluster, dataset

TUNING_LEVEL = 0.9
SMOOTHINGS = (0.0, 0.5, 1.0, 1.5, 2.0)
FLOORS = (0.1, 0.3, 1.0)
GOLDEN_CASES = 3
BATCH = 25


def exported_bundle(folder: Path) -> Bundle:
    """The exported graphs as a bundle without a manifest."""
    names = [*GRAPH_FILES.values(), WEIGHTS_FILE]
    files = {name: (folder / "graphs" / name).read_bytes() for name in names}
    return Bundle(Manifest({}, ""), files)


def run_graph(graph: Graph, values: np.ndarray, note: str) -> tuple[np.ndarray, np.ndarray]:
    """(mean, spread) of the ensemble for many inputs."""
    means, spreads = [], []
    for first in tqdm(range(0, len(values), BATCH), desc=note, unit="batch", leave=False):
        part = np.ascontiguousarray(values[first : first + BATCH], dtype=np.float32)
        members, scales = graph.run({graph.inputs[0]: part})
        means.append(members.mean(axis=1, dtype=np.float64).astype(np.float32))
        spreads.append(ensemble_spread(members, scales))
    return np.concatenate(means), np.concatenate(spreads)


def band_scores(residual: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """max_x |r|/s over the points that are not exact by construction."""
    ratio = np.abs(residual) / np.where(scale > 0, scale, 1.0)
    return np.asarray(ratio.reshape(len(ratio), -1).max(axis=1))


def tune_scale(residual: np.ndarray, spread: np.ndarray, exact_boundary: int) -> Scale:
    """The smoothing and floor with the narrowest mean 90 % band on the tune split."""
    size = float(np.sqrt(np.mean(np.square(spread))))
    best: tuple[float, Scale] | None = None
    for smoothing, floor in product(SMOOTHINGS, FLOORS):
        candidate = Scale(smoothing, floor * size, exact_boundary)
        scale = band_scale(spread, candidate)
        scores = np.sort(band_scores(residual, scale))
        width = float(scores[rank(len(scores), TUNING_LEVEL) - 1] * scale.mean())
        if best is None or width < best[0]:
            best = (width, candidate)
    assert best is not None
    return best[1]


def half_precision(values: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Half precision with a unit that keeps typical values far from the subnormals."""
    unit = np.float32(np.abs(values).max() / 1024.0)
    return (values / unit).astype(np.float16), unit


def _relative_bound(task: tuple[str, Arrays, Arrays]) -> float:
    from models import catalog

    name, inputs, outputs = task
    return catalog.load(name).relative_bound(inputs, outputs)


def task_scores(model: PhysicalModel, inputs: np.ndarray, means: np.ndarray, scheduler: str | None) -> np.ndarray:
    """Relative guaranteed bound of each answer, over the cores."""
    (source,), (target,) = model.inputs(inputs.shape[1]), model.outputs(inputs.shape[1])
    tasks = [
        (i, (model.name, {source.name: x}, {target.name: y}))
        for i, (x, y) in enumerate(zip(inputs, means, strict=True))
    ]
    found = cluster.run(_numbered_bound, tasks, scheduler)
    scores = np.zeros(len(inputs))
    for index, score in tqdm(found, total=len(tasks), desc="validity", unit="bound", leave=False):
        scores[index] = score
    return scores


def _numbered_bound(task: tuple[int, tuple[str, Arrays, Arrays]]) -> tuple[int, float]:
    return task[0], _relative_bound(task[1])


def _validity(
    model: PhysicalModel, recipe: Recipe, folder: Path, graph: Graph, scheduler: str | None
) -> tuple[Arrays, dict[str, Any]]:
    (train,) = dataset.load(folder / "data", "train")[0].values()
    (fresh,) = dataset.load(folder / "data", "unlabelled")[0].values()
    parameters = fit_detectors(train, recipe.principal_components)
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    for name, scores in detector_scores(parameters, fresh).items():
        arrays[f"reference.{name}"] = np.sort(scores)
    means, _ = run_graph(graph, fresh, "unlabelled inputs")
    arrays["reference.task"] = np.sort(task_scores(model, fresh, means, scheduler))
    return arrays, hard_checks(fresh)


def calibrate(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None = None) -> None:
    """Write calibration.npz, golden.npz and calibration.json of a run."""
    graph = Graph(exported_bundle(folder), GRAPH_FILES["model"], RuntimeOptions())
    residuals, spreads = {}, {}
    for split in ("tune", "calibration"):
        (inputs,), (truth,) = (tuple(part.values()) for part in dataset.load(folder / "data", split))
        mean, spreads[split] = run_graph(graph, inputs, split)
        residuals[split] = truth.astype(np.float64) - mean
    scale = tune_scale(residuals["tune"], spreads["tune"], model.exact_boundary)
    widths = band_scale(spreads["calibration"], scale)
    mask = interior(widths.shape[1:], model.exact_boundary)
    stored, residual_unit = half_precision(residuals["calibration"] * mask)
    stored_scale, scale_unit = half_precision(widths)
    arrays, checks = _validity(model, recipe, folder, graph, scheduler)
    arrays |= {
        "scores": np.sort(band_scores(residuals["calibration"] * mask, widths)),
        "residuals": stored, "residual_unit": residual_unit,
        "scales": stored_scale, "scale_unit": scale_unit,
    }  # fmt: skip
    np.savez_compressed(folder / CALIBRATION_FILE, allow_pickle=False, **arrays)
    _write_golden(folder, graph)
    facts = {
        "smoothing": scale.smoothing, "floor": scale.floor, "exact_boundary": scale.exact_boundary,
        "cases": len(widths), "seed": recipe.splits["calibration"].seed,
    }  # fmt: skip
    (folder / "calibration.json").write_text(json.dumps({"calibration": facts, "domain_checks": checks}, indent=1))


def _write_golden(folder: Path, graph: Graph) -> None:
    (inputs,) = dataset.load(folder / "data", "held_out")[0].values()
    cases = np.ascontiguousarray(inputs[:GOLDEN_CASES])
    members, scales = graph.run({graph.inputs[0]: cases})
    np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, input=cases, members=members, scales=scales)
