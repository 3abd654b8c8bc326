"""Measure a run on data nobody trained, tuned or calibrated on, and write report.json.

Every figure on the model card and in the README comes from here.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom
from tqdm import tqdm

from models import catalog
from models.explanation import gradient as explanation_gradient
from models.explanation import integrated_gradients, make_quantity, solver_cosine
from models.numerics.metrics import quantiles, relative_h1, relative_l2
from models.physical_model import Arrays, Audit, PhysicalModel, Recipe
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate
from models.uncertainty import Calibration, coverage_interval, rank
from training import cluster, dataset
from training.export import load_network

LEVEL = 0.9
AUDITS = {"two_phase": 1000, "contrast_300": 200, "log_normal": 200}
FRESH_SEED = 30
EXPLAINED = 12
REPEATS = 30


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    name = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": name, "cores": os.cpu_count(), "python": platform.python_version()}


def _means(surrogate: Surrogate, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(members, mean, band scale) of many inputs."""
    parts = [
        surrogate.run({surrogate.input.name: np.ascontiguousarray(p)})
        for p in np.array_split(inputs, max(1, len(inputs) // 20))
    ]
    return tuple(np.concatenate([getattr(p, k) for p in parts]) for k in ("members", "mean", "scale"))  # type: ignore[return-value]


def accuracy(surrogate: Surrogate, data: Path) -> dict[str, Any]:
    """Relative errors on the test split, by the paper's protocol: mean over samples of ‖p−u‖/‖u‖."""
    (inputs,), (truth,) = (tuple(part.values()) for part in dataset.load(data, "test"))
    members, mean, _ = _means(surrogate, inputs)
    errors = relative_l2(mean, truth)
    single = [float(relative_l2(members[:, m], truth).mean()) for m in range(members.shape[1])]
    return {
        "samples": len(truth),
        "relative_l2": float(errors.mean()),
        "members": single,
        "relative_h1": float(relative_h1(mean, truth).mean()),
        "quantiles": quantiles(errors),
        "worst": float(errors.max()),
    }


def ablations(model: PhysicalModel, folder: Path) -> dict[str, dict[str, float]]:
    """Test error of the other recipes on the same grid that have been trained beside this run."""
    found = {}
    own = model.recipes[folder.name]
    (inputs,), (truth,) = (tuple(part.values()) for part in dataset.load(folder / "data", "test"))
    for preset, recipe in model.recipes.items():
        checkpoint = folder.parent / preset / "checkpoint.pt"
        if preset == folder.name or recipe.points != own.points or not checkpoint.exists():
            continue
        network = load_network(recipe, checkpoint)
        with torch.no_grad():
            parts = [network(part)[0].mean(1).numpy() for part in torch.from_numpy(inputs).split(20)]
        curve = learning_curve(checkpoint.parent)
        found[preset] = {
            "relative_l2": float(relative_l2(np.concatenate(parts), truth).mean()),
            "members": recipe.members,
            "epochs": curve[-1]["epoch"],
            "minutes": curve[-1]["seconds"] / 60,
        }
    return found


def coverage(surrogate: Surrogate, data: Path) -> dict[str, Any]:
    """Realised coverage and width of the 90 % bands on the held-out split."""
    (inputs,), (truth,) = (tuple(part.values()) for part in dataset.load(data, "held_out"))
    members, mean, scale = _means(surrogate, inputs)
    calibration = surrogate.calibration
    assert calibration is not None
    inner = scale[0] > 0
    error = np.abs(truth.astype(np.float64) - mean)[:, inner]
    widths = scale[:, inner]
    q = calibration.simultaneous(LEVEL)
    covered = (error <= q * widths).all(axis=1)
    constant = _constant_width(calibration)
    pointwise = error <= calibration.pointwise(LEVEL)[inner] * widths
    hardest = np.argsort(widths.mean(axis=1))[-len(widths) // 5 :]
    count, k = len(truth), rank(calibration.count, LEVEL)
    law = betabinom(count, k, calibration.count + 1 - k)
    spread = np.sqrt(np.mean(members.var(axis=1, ddof=1)) * (members.shape[1] + 1) / members.shape[1])
    return {
        "level": LEVEL, "cases": count, "calibration_cases": calibration.count,
        "covered": int(covered.sum()), "coverage": float(covered.mean()),
        "beta_interval_90": list(coverage_interval(calibration.count, LEVEL)),
        "beta_binomial_99": [int(law.ppf(0.005)), int(law.ppf(0.995))],
        "mean_half_width": float(q * widths.mean()),
        "constant_half_width": constant,
        "width_ratio": float(q * widths.mean() / constant),
        "constant_coverage": float((error.max(axis=1) <= constant).mean()),
        "worst_fifth_coverage": float(covered[hardest].mean()),
        "pointwise_coverage": float(pointwise.mean()),
        "pointwise_half_width": float((calibration.pointwise(LEVEL)[inner] * widths).mean()),
        "member_spread_over_error": float(spread / np.sqrt(np.mean(error**2))),
    }  # fmt: skip


def _constant_width(calibration: Calibration) -> float:
    """Half-width of the band of constant width from the same calibration residuals."""
    largest = np.sort(calibration.largest_residuals())
    return float(largest[rank(calibration.count, LEVEL) - 1])


def _audit(task: tuple[str, str, Arrays, Arrays]) -> tuple[str, Audit]:
    name, family, inputs, outputs = task
    return family, catalog.load(name).audit(inputs, outputs)


def efficiency(
    model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, share: float, scheduler: str | None
) -> dict[str, Any]:
    """Index = bound / true error on fresh inputs of several families; violations count against error_floor."""
    tasks = []
    for family, count in AUDITS.items():
        inputs = [model.draw(FRESH_SEED, i, recipe.points, family) for i in range(max(4, int(count * share)))]
        stacked = np.stack([i[surrogate.input.name] for i in inputs]).astype(np.float32)
        _, means, _ = _means(surrogate, stacked)
        name = surrogate.input.name
        tasks += [
            (model.name, family, {name: x}, {surrogate.output.name: y}) for x, y in zip(stacked, means, strict=True)
        ]
    found: dict[str, list[Audit]] = {}
    done = cluster.run(_audit, tasks, scheduler)
    for family, result in tqdm(done, total=len(tasks), desc="audit of bounds", unit="case"):
        found.setdefault(family, []).append(result)
    return {family: _summary(audits) for family, audits in found.items()}


def _summary(audits: list[Audit]) -> dict[str, Any]:
    index = np.array([a.upper / a.error for a in audits])
    strict = np.array([a.upper / a.error_floor for a in audits])
    return {
        "cases": len(audits),
        "violations": int(sum(a.upper < a.error_floor for a in audits)),
        "lower_bound_violations": int(sum(a.lower > a.error for a in audits)),
        "index_median": float(np.median(index)),
        "index_max": float(index.max()),
        "index_against_finest_median": float(np.median(strict)),
        "index_against_finest_max": float(strict.max()),
        "relative_energy_error_median": float(np.median([a.error / a.size for a in audits])),
        "upper_over_lower_median": float(np.median([a.upper / a.lower for a in audits])),
    }


def validity(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, share: float) -> dict[str, float]:
    """Share of fresh inputs called out of domain at p < 0.01, per family."""
    result = {}
    for family in model.families:
        count = max(10, int((500 if family == model.training_family else 100) * share))
        rejected = 0
        for index in tqdm(range(count), desc=f"validity {family}", leave=False):
            sample = model.draw(FRESH_SEED + 1, index, recipe.points, family)
            answer = surrogate.predict({k: v[None] for k, v in sample.items()})
            rejected += not answer.validity[0].in_domain
        result[family] = rejected / count
    return result


def explanations(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe) -> dict[str, Any]:
    """Completeness gap of integrated gradients and agreement with the solver's adjoint, on fresh inputs."""
    requests = (
        {"type": "point", "x": 0.4, "y": 0.6}, {"type": "region_mean", "x": [0.25, 0.5], "y": [0.5, 0.75]},
        {"type": "norm"}, {"type": "linear", "weights": np.outer(*[np.linspace(-1, 1, recipe.points)] * 2)},
    )  # fmt: skip
    gaps, turnovers, cosines = [], [], []
    baseline = np.full(surrogate.input.shape, model.baseline)
    for index in range(EXPLAINED):
        values = model.draw(FRESH_SEED + 2, index, recipe.points, model.training_family)[surrogate.input.name]
        values = values.astype(np.float32)
        for request in requests:
            quantity = make_quantity(surrogate.output, request)
            found = integrated_gradients(surrogate, values, baseline, quantity)
            gaps.append(np.nan if found.gap is None else found.gap)
            turnovers.append(found.absolute_gap / np.abs(found.values).sum())
            sensitivity = explanation_gradient(surrogate, values, quantity).values
            cosines.append(solver_cosine(surrogate, values, quantity, sensitivity))
    return {
        "cases": len(gaps),
        "completeness_gap_median": float(np.nanmedian(gaps)), "completeness_gap_max": float(np.nanmax(gaps)),
        "completeness_gap_over_turnover_max": float(np.max(turnovers)),
        "cases_above_1e-4": int(np.sum(np.array(gaps) > 1e-4)),
        "solver_adjoint_cosine_median": float(np.median(cosines)),
        "solver_adjoint_cosine_min": float(np.min(cosines)),
    }  # fmt: skip


def derivatives(surrogate: Surrogate, recipe: Recipe, folder: Path) -> dict[str, float]:
    """Parity with torch, the adjoint identity, and central differences in float64."""
    network = load_network(recipe, folder / "checkpoint.pt")
    (inputs,) = dataset.load(folder / "data", "held_out")[0].values()
    point = torch.from_numpy(inputs[:3].copy())
    generator = torch.Generator().manual_seed(0)
    tangent = 0.1 * point * torch.randn(point.shape, generator=generator)
    with torch.no_grad():
        value, _ = network(point)
    cotangent = torch.randn(value.shape, generator=generator)
    _, pull = torch.func.vjp(lambda x: network(x)[0], point)
    _, pushed = torch.func.jvp(lambda x: network(x)[0], (point,), (tangent,))
    named = {surrogate.input.name: point.numpy()}
    members, gradient = surrogate.vjp(named, cotangent.numpy())
    _, derivative = surrogate.jvp(named, tangent.numpy())
    served = surrogate.run(named).members
    left, right = float(np.vdot(cotangent, derivative)), float(np.vdot(gradient, tangent))
    double, step = network.double(), 1e-5
    with torch.no_grad():
        ahead, behind = (double(point.double() + s * step * tangent.double())[0] for s in (1, -1))
    difference = ((ahead - behind) / (2 * step)).numpy()

    def distance(a: Any, b: Any) -> float:
        return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))

    return {
        "forward_parity": distance(served, value), "vjp_parity": distance(gradient, pull(cotangent)[0]),
        "jvp_parity": distance(derivative, pushed), "forward_equal_in_vjp": distance(members, served),
        "adjoint_identity": abs(left - right) / float(np.linalg.norm(cotangent) * np.linalg.norm(derivative)),
        "finite_difference": distance(derivative, difference),
    }  # fmt: skip


def timed(call: Callable[[], Any], repeats: int = REPEATS) -> dict[str, float]:
    """Median and quartiles in milliseconds after two warm-up calls."""
    for _ in range(2):
        call()
    spans = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        spans.append((time.perf_counter() - started) * 1e3)
    low, median, high = np.percentile(spans, [25, 50, 75])
    return {"median": float(median), "quartile_1": float(low), "quartile_3": float(high)}


def costs(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, folder: Path, data: Path) -> dict[str, Any]:
    """Times and errors of the surrogate and of every classical method, one thread each, in one run."""
    single = load_surrogate(folder, RuntimeOptions(threads=1))
    points, family, name = recipe.points, model.training_family, surrogate.input.name
    samples = [model.draw(FRESH_SEED + 3, i, points, family)[name].astype(np.float32)[None] for i in range(4)]
    first = {name: samples[0]}
    mean = {single.output.name: single.run(first).mean[0]}
    inner = {name: samples[0][0]}
    many = {name: np.concatenate(samples * 2)}
    return {
        "forward_1": timed(lambda: single.run(first)),
        "forward_8_per_sample": {k: v / 8 for k, v in timed(lambda: single.run(many), 8).items()},
        "bound": timed(lambda: model.relative_bound(inner, mean)),
        "two_sided_bound": timed(lambda: model.statements(inner, mean)),
        "full_answer": timed(lambda: single.predict(first)),
        "fallback_solver": timed(lambda: model.solve(inner)),
        "classical": _classical(model, recipe, data),
    }


def _classical(model: PhysicalModel, recipe: Recipe, data: Path) -> dict[str, Any]:
    """Errors on the very samples of the accuracy table, times on the first of them."""
    errors: dict[str, list[float]] = {}
    times: dict[str, dict[str, float]] = {}
    split = recipe.splits["test"]
    (truths,) = dataset.load(data, "test")[1].values()
    for index, truth in enumerate(tqdm(truths, desc="classical methods", leave=False)):
        fine = model.fine_inputs(split.seed, index, recipe.points, model.training_family)
        for label, solve in model.baselines(fine).items():
            errors.setdefault(label, []).append(float(relative_l2(solve()[None], truth[None])[0]))
            if index == 0:
                times[label] = timed(solve)
    return {label: {"relative_l2": float(np.mean(e)), **times[label]} for label, e in errors.items()}


def example(surrogate: Surrogate, data: Path) -> dict[str, Any]:
    """One held-out case for the card's picture, rounded for the JSON."""
    (inputs,), (truth,) = (tuple(part.values()) for part in dataset.load(data, "held_out"))
    answer = surrogate.predict({surrogate.input.name: inputs[:1]})
    assert answer.band is not None
    mean = answer.prediction.mean[0]
    half = (answer.band.upper - answer.band.lower)[0] / 2
    fields = {"input": inputs[0], "output": mean, "error": np.abs(truth[0] - mean), "half_width": half}
    return {key: [[float(f"{v:.4g}") for v in row] for row in values] for key, values in fields.items()}


def learning_curve(folder: Path) -> list[Mapping[str, Any]]:
    """The training log."""
    return [json.loads(line) for line in (folder / "fit.jsonl").read_text(encoding="utf-8").splitlines()]


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
    curve = learning_curve(folder)
    training = {"seconds": curve[-1]["seconds"], "epochs": curve[-1]["epoch"], "curve": curve}
    sections: dict[str, Callable[[], Any]] = {
        "machine": machine,
        "training": lambda: training,
        "example": lambda: example(surrogate, folder / "data"),
        "accuracy": lambda: accuracy(surrogate, folder / "data") | {"published": dict(model.published)},
        "ablations": lambda: ablations(model, folder),
        "coverage": lambda: coverage(surrogate, folder / "data"),
        "efficiency": lambda: efficiency(model, surrogate, recipe, share, scheduler),
        "validity_rejection": lambda: validity(model, surrogate, recipe, share),
        "explanations": lambda: explanations(model, surrogate, recipe),
        "derivatives": lambda: derivatives(surrogate, recipe, folder),
        "milliseconds": lambda: costs(model, surrogate, recipe, bundle, folder / "data"),
    }
    path = folder / "report.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if only else {}
    for name in only or sections:
        result[name] = sections[name]()
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    return result
