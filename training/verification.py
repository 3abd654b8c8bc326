"""Hold a surrogate against data nobody trained, tuned or calibrated on: accuracy, and how it fares on other laws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.assessment import p_value, samples_of
from models.coverage import covered, predictions
from models.numerics.metrics import quantiles, relative_h1, relative_l2
from models.physical_model import Arrays, PhysicalModel, Recipe
from models.surrogate import Prediction, Surrogate
from models.validity import THRESHOLD
from training import dataset

FRESH_SEED = 30
HELD_OUT = 60  # fresh cases of each family


def accuracy(model: PhysicalModel, surrogate: Surrogate, data: Path) -> dict[str, Any]:
    """Errors on the test split: relative L2 of every output, ‖p−u‖/‖u‖ per sample, and the model's own scores."""
    inputs, truths = dataset.load(data, "test")
    found = predictions(surrogate, inputs)
    first = surrogate.manifest.outputs[0].name
    result: dict[str, Any] = {"samples": len(truths[first]), "outputs": {}}
    last = surrogate.lead_times is not None and surrogate.lead_times.input is not None
    if model.skill is not None:
        result["skill"] = dict(model.skill(found[first].mean, truths[first]))
    for name, prediction in found.items():
        errors = relative_l2(prediction.mean, truths[name])
        members = np.moveaxis(prediction.members, 1, 0)
        single = [float(relative_l2(member, truths[name]).mean()) for member in members]
        result["outputs"][name] = {
            "relative_l2": float(errors.mean()), "members": single, "quantiles": quantiles(errors),
            "worst": float(errors.max()),
            "target_relative_l2": _target_error(prediction.mean, truths[name], last),
        }  # fmt: skip
    if model.scores is not None:
        result["scores"] = dict(model.scores(inputs, *_moments(found), truths))
        result["member_scores"] = [
            dict(model.scores(inputs, {k: p.members[:, m] for k, p in found.items()}, _moments(found)[1], truths))
            for m in range(surrogate.manifest.members)
        ]
    elif truths[first].ndim == 3:
        result["relative_h1"] = float(relative_h1(found[first].mean, truths[first]).mean())
    return result


def _target_error(mean: np.ndarray, truth: np.ndarray, last: bool) -> float:
    """Relative L2 on what classical methods are asked for: the last frame of a trajectory, else the whole field."""
    errors = relative_l2(mean[:, -1], truth[:, -1]) if last else relative_l2(mean, truth)
    return float(errors.mean())


def _moments(found: Mapping[str, Prediction]) -> tuple[Arrays, Arrays]:
    return {k: p.mean for k, p in found.items()}, {k: p.deviation for k, p in found.items()}


def comparison(model: PhysicalModel, surrogate: Surrogate, data: Path) -> dict[str, dict[str, float]]:
    """Scores of the surrogate and of statistical baselines on the test split."""
    assert model.comparison is not None
    inputs, truths = dataset.load(data, "test")
    found = model.comparison(inputs, *_moments(predictions(surrogate, inputs)), truths)
    return {score: dict(values) for score, values in found.items()}


def held_out(model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, share: float) -> dict[str, Any]:
    """Errors and coverage on fresh cases of every family, good or bad; families other than training's are unseen laws."""
    result = {}
    for family in model.held_out:
        count = max(6, int(HELD_OUT * share))
        pairs = [
            model.pair(FRESH_SEED + 4, i, recipe.points, family) for i in tqdm(range(count), desc=family, leave=False)
        ]
        inputs, truths = ({k: np.stack([p[i][k] for p in pairs]) for k in pairs[0][i]} for i in (0, 1))
        found = predictions(surrogate, inputs)
        first = surrogate.manifest.outputs[0].name
        entry: dict[str, Any] = {
            "cases": count, "relative_l2": float(relative_l2(found[first].mean, truths[first]).mean()),
            "worst": float(relative_l2(found[first].mean, truths[first]).max()),
            "band_covers": float(covered(surrogate, first, found[first], truths[first]).mean()),
            "called_out_of_domain": _rejected(surrogate, inputs),
        }  # fmt: skip
        if model.scores is not None:
            entry["scores"] = dict(model.scores(inputs, *_moments(found), truths))
        result[family] = entry
    return result


def _rejected(surrogate: Surrogate, inputs: Arrays) -> float:
    p_values = [p_value(surrogate, sample) for sample in samples_of(inputs)]
    return float(np.mean([p < THRESHOLD for p in p_values]))
