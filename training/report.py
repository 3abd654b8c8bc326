"""Measure a run on data nobody trained, tuned or calibrated on, and write report.json.

Every figure on the model card and in the README comes from here.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from models import assessment, coverage, efficiency
from models.coverage import TOGETHER, predictions
from models.numerics.metrics import relative_l2
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Prediction, Question, Surrogate
from training import cluster, dataset, explanations, verification
from training.costs import costs, machine
from training.explanations import fresh
from training.export import load_network
from training.fit import CHECKPOINT
from training.verification import FRESH_SEED

SHIFTED = 100  # cases of each shift on which the validity test is measured
STEP = 1e-7  # of central differences, relative; small, because depths have kinks


def ablations(model: PhysicalModel, folder: Path) -> dict[str, dict[str, float]]:
    """Test error of the other recipes on the same grid that have been trained beside this run."""
    found = {}
    own = model.recipes[folder.name]
    inputs, truths = dataset.load(folder / "data", "test")
    for preset, recipe in model.recipes.items():
        checkpoint = folder.parent / preset / CHECKPOINT
        if preset == folder.name or recipe.points != own.points or not checkpoint.exists():
            continue
        network = load_network(recipe, checkpoint)
        ordered = model.completed({item.name: inputs[item.name] for item in model.inputs(own.points)})
        parts = zip(*(torch.from_numpy(v).split(TOGETHER) for v in ordered.values()), strict=True)
        with torch.no_grad():
            means = [network(*part)[0].mean(1).numpy() for part in parts]
        curve = learning_curve(checkpoint.parent)
        found[preset] = {
            "relative_l2": float(relative_l2(np.concatenate(means), next(iter(truths.values()))).mean()),
            "members": recipe.members,
            "epochs": curve[-1]["epoch"],
            "minutes": curve[-1]["seconds"] / 60,
        }
    return found


def derivatives(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, folder: Path) -> dict[str, float]:
    """Parity with torch, the adjoint identity, and central differences in float64 through features and network."""
    network = load_network(recipe, folder / CHECKPOINT)
    drawn = [fresh(surrogate, FRESH_SEED + 5, index) for index in range(3)]
    point = {name: np.concatenate([sample[name] for sample in drawn]) for name in drawn[0]}
    fixed = {item.name for item in surrogate.manifest.inputs if item.role == "reference_time"}
    random = np.random.default_rng(0)
    tangent = {
        name: np.zeros_like(p) if name in fixed else (0.1 * p * random.standard_normal(p.shape)).astype(np.float32)
        for name, p in point.items()
    }

    def members(*fields: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = network(*fields)[::2]
        return found

    completed, feature = model.completed(point), model.features
    directions = tangent if feature is None else tangent | feature.push(point, tangent)
    value, pull = torch.func.vjp(members, *_tensors(completed))
    _, pushed = torch.func.jvp(members, _tensors(completed), _tensors(directions))
    served = {name: p.members for name, p in surrogate.run(point).items()}
    cotangent = {name: random.standard_normal(v.shape).astype(np.float32) for name, v in served.items()}
    again, gradient = surrogate.vjp(point, cotangent)
    _, derivative = surrogate.jvp(point, tangent)
    pulled = dict(zip(completed, (p.numpy() for p in pull(_tensors(cotangent))), strict=True))
    if feature is not None:
        for name, part in feature.pull(point, pulled).items():
            pulled[name] = pulled[name] + part
    left = sum(float(np.vdot(c, derivative[n])) for n, c in cotangent.items())
    right = sum(float(np.vdot(gradient[n], t)) for n, t in tangent.items())
    network.double()
    difference = _central_differences(lambda fields: members(*_tensors(model.completed(fields))), point, tangent)
    size = np.sqrt(sum(float(np.square(c).sum()) for c in cotangent.values()))
    length = np.sqrt(sum(float(np.square(d).sum()) for d in derivative.values()))
    kept = [name for name in point if name not in fixed]
    return {
        "forward_parity": _distance(served.values(), value),
        "vjp_parity": _distance([gradient[n] for n in kept], [pulled[n] for n in kept]),
        "jvp_parity": _distance(derivative.values(), pushed),
        "forward_equal_in_vjp": _distance(again.values(), served.values()),
        "adjoint_identity": abs(left - right) / float(size * length),
        "finite_difference": _distance(derivative.values(), difference),
    }  # fmt: skip


def _central_differences(
    function: Callable[[Arrays], tuple[torch.Tensor, ...]], point: Arrays, tangent: Arrays
) -> list[np.ndarray]:
    """Directional derivatives in float64: (D(10 s) 10 − D(s)) / 9 of central differences D with steps s.

    A jump exactly at the point adds J/(2s) to D(s) and cancels: of many float32 elevations some are equal, and water
    then flows either way.
    """

    def difference(step: float) -> list[np.ndarray]:
        ends = [{n: p.astype(np.float64) + s * step * tangent[n] for n, p in point.items()} for s in (1, -1)]
        with torch.no_grad():
            ahead, behind = (function(end) for end in ends)
        return [((a - b) / (2 * step)).numpy() for a, b in zip(ahead, behind, strict=True)]

    return [(10 * wide - narrow) / 9 for wide, narrow in zip(difference(10 * STEP), difference(STEP), strict=True)]


def _tensors(arrays: Arrays) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(values)) for values in arrays.values())


def _distance(found: Any, expected: Any) -> float:
    """Largest relative distance over several arrays."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(found, expected, strict=True)]
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)) for a, b in pairs)


def examples(
    surrogate: Surrogate, inputs: Arrays, truths: Arrays, found: Mapping[str, Prediction]
) -> list[dict[str, Any]]:
    """Best, median and worst held-out case of the first output, as inputs, answer, truth and band for the card."""
    name = surrogate.manifest.outputs[0].name
    errors = relative_l2(found[name].mean, truths[name])
    order = np.argsort(errors)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    result = []
    for label, index in chosen.items():
        bands = {key: surrogate.band(key, _one(p, index), Question()) for key, p in found.items()}
        result.append({
            "label": label, "error": float(errors[index]),
            "inputs": {key: _short(values[index]) for key, values in inputs.items()},
            "outputs": {key: _short(p.mean[index]) for key, p in found.items()},
            "truth": {key: _short(values[index]) for key, values in truths.items()},
            "lower": {key: None if band is None else _short(band.lower[0]) for key, band in bands.items()},
            "upper": {key: None if band is None else _short(band.upper[0]) for key, band in bands.items()},
        })  # fmt: skip
    return result


def _one(prediction: Prediction, index: int) -> Prediction:
    part = slice(index, index + 1)
    arrays = {k: getattr(prediction, k)[part] for k in ("members", "mean", "spread", "scale")}
    return Prediction.of(**arrays, transform=prediction.transform)


def _short(values: np.ndarray) -> Any:
    """Four significant digits, as nested lists."""
    rounded = [float(f"{v:.4g}") for v in np.asarray(values, dtype=np.float64).ravel()]
    return np.array(rounded).reshape(np.shape(values)).tolist()


def learning_curve(folder: Path) -> list[Mapping[str, Any]]:
    """The training log."""
    return [json.loads(line) for line in (folder / "fit.jsonl").read_text(encoding="utf-8").splitlines()]


def training(folder: Path) -> dict[str, Any]:
    """What the run took, sampling included."""
    curve = learning_curve(folder)
    plan = folder / "data" / "seconds.json"
    sampling = json.loads(plan.read_text(encoding="utf-8"))["seconds"] if plan.exists() else None
    return {"seconds": curve[-1]["seconds"], "sampling_seconds": sampling, "epochs": curve[-1]["epoch"], "curve": curve}


def progress(items: Iterable[Any], note: str) -> Iterable[Any]:
    """A bar on the terminal."""
    bar: Iterable[Any] = tqdm(items, desc=note, leave=False)
    return bar


def report(
    model: PhysicalModel,
    recipe: Recipe,
    folder: Path,
    bundle: Path,
    share: float,
    scheduler: str | None = None,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Measure everything, or `only` some sections of an earlier report; `share` < 1 shrinks the number of cases.

    Raises KeyError when `only` names no section.
    """
    surrogate = load_surrogate(bundle, RuntimeOptions())
    data = folder / "data"
    cases = cache(lambda: dataset.load(data, "held_out"))
    answers = cache(lambda: predictions(surrogate, cases()[0], progress))
    sections: dict[str, Callable[[], Any]] = {
        "machine": machine,
        "training": lambda: training(folder),
        "examples": lambda: examples(surrogate, *cases(), answers()),
        "accuracy": lambda: verification.accuracy(model, surrogate, data) | {"published": dict(model.published)},
        "ablations": lambda: ablations(model, folder),
        "coverage": lambda: coverage.measure(surrogate, *cases(), answers()),
        "intervals": lambda: assessment.intervals(surrogate, cases()[1], answers()),
        "validity": lambda: assessment.validity(
            surrogate, model, cases()[0], FRESH_SEED + 6, progress, max(4, int(SHIFTED * share))
        ),
        "held_out": lambda: verification.held_out(model, surrogate, recipe, share),
        "explanations": lambda: explanations.measure(surrogate, FRESH_SEED + 2, share),
        "derivatives": lambda: derivatives(model, surrogate, recipe, folder),
        "milliseconds": lambda: costs(model, surrogate, recipe, bundle, data),
    }
    if model.audit is not None:
        audits = {family: max(4, int(count * share)) for family, count in model.audits.items()}
        sections["efficiency"] = lambda: efficiency.measure(
            surrogate, model, FRESH_SEED, audits, partial(cluster.run, scheduler=scheduler), progress
        )
    if model.comparison is not None:
        sections["comparison"] = lambda: verification.comparison(model, surrogate, data)
    path = folder / "report.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if only else {}
    for name in only or sections:
        result[name] = sections[name]()
        path.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    return result
