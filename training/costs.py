"""What answers and classical methods of the same problem cost: one thread each, on one machine, in one run."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.forecast import Forecast, choose_lead_times
from models.numerics.metrics import relative_l2
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Question, Surrogate
from training import dataset
from training.explanations import fresh
from training.verification import FRESH_SEED

REPEATS = 30
CLASSICAL = 100  # test samples on which classical methods are scored
TIMED = 7  # and on which they are timed


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    name = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": name, "cores": os.cpu_count(), "python": platform.python_version()}


def timed(call: Callable[[], Any], repeats: int = REPEATS) -> dict[str, float]:
    """Median and quartiles in milliseconds after two warm-up calls."""
    for _ in range(2):
        call()
    spans = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        spans.append((time.perf_counter() - started) * 1e3)
    return _spread(spans)


def costs(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, folder: Path, data: Path) -> dict[str, Any]:
    """Times and errors of the surrogate and of every classical method; `data` holds the test split."""
    single = load_surrogate(folder, RuntimeOptions(threads=1))
    first = fresh(surrogate, FRESH_SEED + 3, 0)
    several = [fresh(surrogate, FRESH_SEED + 3, index) for index in range(8)]
    many = {name: np.concatenate([one[name] for one in several]) for name in first}
    inner = {name: values[0] for name, values in first.items()}
    mean = {name: p.mean[0] for name, p in single.run(first).items()}
    found: dict[str, Any] = {
        "forward_1": timed(lambda: single.run(first)),
        "forward_8_per_sample": {k: v / 8 for k, v in timed(lambda: single.run(many), 8).items()},
        "full_answer": timed(lambda: single.predict(first)),
    }
    if model.relative_bound is not None:
        bound = model.relative_bound
        found["bound"] = timed(lambda: bound(inner, mean))
        found["two_sided_bound"] = timed(lambda: model.statements(inner, mean))
    if model.solve is not None:
        solve = model.solve
        found["fallback_solver"] = timed(lambda: solve(inner), 5)
    if model.lead_times is not None:
        fixed = {name: values for name, values in first.items() if name != model.lead_times.input}
        found["forecast"] = timed(lambda: _forecast(single, fixed), 5)
    if model.baselines is not None:
        found["classical"] = _classical(model, recipe, data)
    return found


def _forecast(surrogate: Surrogate, inputs: Arrays) -> None:
    assert surrogate.lead_times is not None
    forecast = Forecast(surrogate, inputs, choose_lead_times(surrogate.lead_times, None, None, 1001), Question())
    for _ in forecast.frames():
        pass
    forecast.summary()


def _classical(model: PhysicalModel, recipe: Recipe, data: Path) -> dict[str, Any]:
    """Errors on the very samples of the accuracy table, times over the first few of them."""
    assert model.baselines is not None
    results: dict[str, list[np.ndarray]] = {}
    spans: dict[str, list[float]] = {}
    split = recipe.splits["test"]
    _, truths = dataset.load(data, "test")
    target = truths[model.outputs(recipe.points)[0].name]
    last = model.lead_times is not None and model.lead_times.input is not None
    target = target[:CLASSICAL, -1] if last else target[:CLASSICAL]
    for index in tqdm(range(len(target)), desc="classical methods", leave=False):
        draw = model.fine_inputs or model.draw
        fine = draw(split.seed, index, recipe.points, split.family or model.training_family)
        for label, solve in model.baselines(fine).items():
            results.setdefault(label, []).append(solve())
            if index < TIMED:
                spans.setdefault(label, []).append(timed(solve, 3)["median"])
    return {label: _skill(model, np.stack(r), target) | _spread(spans[label]) for label, r in results.items()}


def _spread(spans: list[float]) -> dict[str, float]:
    """Median and quartiles over samples: some take a solver longer than others."""
    low, median, high = np.percentile(spans, [25, 50, 75])
    return {"median": float(median), "quartile_1": float(low), "quartile_3": float(high)}


def _skill(model: PhysicalModel, found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    skill: dict[str, Any] = {"relative_l2": float(relative_l2(found, truth).mean())}
    if model.skill is not None:
        skill["skill"] = dict(model.skill(found, truth))
    return skill
