"""Residuals that ship beside a bundle's scores: intervals of any linear quantity of its outputs (`models/residuals.py`).

They are those of the first cases of the calibration split, drawn again from its seed and answered by the bundle itself:
what is calibrated is what is served. They are kept in the field's own units, in which a sum of depths is linear.
"""

from typing import Any

import numpy as np
from tqdm import tqdm

from models import assessment, coverage
from models.physical_model import Arrays, KeptResiduals, PhysicalModel, Recipe
from models.residuals import packed
from models.surrogate import Surrogate
from training import cluster

FRESH_CASES = 200


def kept_arrays(surrogate: Surrogate, model: PhysicalModel, recipe: Recipe) -> Arrays:
    """The arrays of the file, by field."""
    split, found = recipe.splits["calibration"], {}
    for name, kept in recipe.residuals.items():
        numbers = tqdm(range(min(kept.cases, split.count)), desc=f"residuals of {name}", unit="case", leave=False)
        family = split.family or model.training_family
        pairs = (model.pair(split.seed, index, recipe.points, family) for index in numbers)
        rows = [_case(surrogate, model, kept, name, pair) for pair in pairs]
        residuals, scales = (np.stack(column) for column in zip(*rows, strict=True))
        arrays = packed(residuals, scales)
        if kept.lead_times:
            arrays["lead_times"] = np.array(kept.lead_times)
        found |= {f"{name}.{key}": values for key, values in arrays.items()}
    return found


def _case(
    surrogate: Surrogate, model: PhysicalModel, kept: KeptResiduals, name: str, pair: tuple[Arrays, Arrays]
) -> tuple[np.ndarray, np.ndarray]:
    """u − m and s of one case, at the lead times that are kept."""
    inputs = {key: np.asarray(values, np.float32)[None] for key, values in pair[0].items()}
    truth = pair[1][name].astype(np.float64)
    lead, times = model.lead_times, np.array(kept.lead_times)
    if kept.lead_times and lead is None:
        raise ValueError(f"Expected lead times, got a steady model. Keep {name} without them.")
    places = [] if lead is None else [int(np.abs(lead.values - time).argmin()) for time in times]
    if lead is None or lead.input is None or not kept.lead_times:
        answer = surrogate.run(inputs)[name]
        some = places or slice(None)
        return truth[some] - answer.mean[0][some], answer.own_scale[0][some]
    rows = {key: np.repeat(values, len(times), axis=0) for key, values in inputs.items()}
    answer = surrogate.run(rows | {lead.input: times.astype(np.float32)})[name]
    return truth[places] - answer.mean, answer.own_scale


def coverage_of(surrogate: Surrogate, seed: int) -> dict[str, Any]:
    """How often intervals of linear quantities hold on fresh cases."""
    inputs, truths = assessment.fresh_cases(surrogate, seed, FRESH_CASES, cluster.run)
    return assessment.intervals(surrogate, truths, coverage.predictions(surrogate, inputs))
