"""Hold a surrogate against data nobody trained, tuned or calibrated on: errors, coverage, reliability, bounds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import betabinom
from tqdm import tqdm

from models import catalog
from models.fields import LEAD_TIME, Field
from models.numerics.metrics import quantiles, relative_h1, relative_l2
from models.physical_model import Arrays, Audit, PhysicalModel, Recipe
from models.surrogate import Prediction, Question, Surrogate
from models.uncertainty import TRANSFORMS, coverage_interval, rank
from training import cluster, dataset

LEVEL = 0.9
FRESH_SEED = 30
TOGETHER = 20
HELD_OUT = 60  # fresh cases of each family
BINS = 10


def _joined(parts: list[Prediction], join: Callable[..., np.ndarray] = np.concatenate) -> Prediction:
    arrays = {k: join([getattr(p, k) for p in parts]) for k in ("members", "mean", "spread", "scale")}
    return Prediction.of(**arrays, transform=parts[0].transform)


def predictions(surrogate: Surrogate, inputs: Arrays) -> dict[str, Prediction]:
    """Every output for many inputs, with the axes of the truth: trajectories have all calibrated lead times."""
    count = len(next(iter(inputs.values())))
    lead = surrogate.lead_times
    parts = []
    if lead is None or lead.input is None:
        for first in range(0, count, TOGETHER):
            part = {k: np.ascontiguousarray(v[first : first + TOGETHER], np.float32) for k, v in inputs.items()}
            parts.append(surrogate.run(part))
        return {name: _joined([p[name] for p in parts]) for name in parts[0]}
    times = lead.values.astype(np.float32)
    for index in tqdm(range(count), desc="trajectories", leave=False):
        frames = []
        for some in np.array_split(times, max(1, len(times) // TOGETHER)):
            rows = {k: np.repeat(v[index : index + 1], len(some), axis=0).astype(np.float32) for k, v in inputs.items()}
            frames.append(surrogate.run(rows | {lead.input: some}))
        parts.append({name: _trajectory(_joined([f[name] for f in frames])) for name in frames[0]})
    return {name: _joined([p[name] for p in parts]) for name in parts[0]}


def _trajectory(frames: Prediction) -> Prediction:
    """(frames, member, *grid) as one sample (1, member, frames, *grid)."""
    members = np.moveaxis(frames.members, 0, 1)[None]
    return Prediction.of(members, frames.mean[None], frames.spread[None], frames.scale[None], frames.transform)


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
            "band_covers": float(_covered(surrogate, first, found[first], truths[first]).mean()),
            "called_out_of_domain": _rejected(surrogate, inputs),
        }  # fmt: skip
        if model.scores is not None:
            entry["scores"] = dict(model.scores(inputs, *_moments(found), truths))
        result[family] = entry
    return result


def _rejected(surrogate: Surrogate, inputs: Arrays) -> float:
    assert surrogate.domain is not None
    count = len(next(iter(inputs.values())))
    if surrogate.domain.uses_task:
        answers = [surrogate.predict({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
        verdicts = [answer.validity[0] for answer in answers]
    else:
        verdicts = [surrogate.domain.assess({k: v[i] for k, v in inputs.items()}, None) for i in range(count)]
    return float(np.mean([not verdict.in_domain for verdict in verdicts]))


def _inside(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray, band: str) -> np.ndarray:
    """Whether each point of each case lies in its band."""
    question = Question(LEVEL, band)  # type: ignore[arg-type]
    interval = surrogate.band(name, prediction, question)
    assert interval is not None
    exact = prediction.scale <= 0
    return np.asarray(exact | ((interval.lower <= truth) & (truth <= interval.upper)))


def _covered(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray) -> np.ndarray:
    """Whether the simultaneous band holds the truth: (case, lead times or 1)."""
    inside = _inside(surrogate, name, prediction, truth, "simultaneous")
    leads = _leads(surrogate.manifest.output(name))
    return np.asarray(inside.reshape(*(inside.shape[:2] if leads else (len(inside), 1)), -1).all(axis=2))


def _leads(item: Field) -> bool:
    return bool(item.axes) and item.axes[0].name == LEAD_TIME


def coverage(model: PhysicalModel, surrogate: Surrogate, data: Path) -> dict[str, Any]:
    """Realised coverage and width of the 90 % bands on the held-out split, per output and lead time."""
    inputs, truths = dataset.load(data, "held_out")
    found = predictions(surrogate, inputs)
    return {name: _field_coverage(model, surrogate, name, p, truths[name], inputs) for name, p in found.items()}


def _field_coverage(
    model: PhysicalModel, surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray, inputs: Arrays
) -> dict[str, Any]:
    calibration = surrogate.calibrations[name]
    covered = _covered(surrogate, name, prediction, truth)
    interval = surrogate.band(name, prediction, Question(LEVEL))
    assert interval is not None
    half = (interval.upper - interval.lower) / 2
    sizes = half.reshape(len(half), -1).mean(axis=1)
    hardest = np.argsort(sizes)[-len(sizes) // 5 :]
    count, independent = len(truth), calibration.independent
    k = rank(independent, LEVEL)
    law = betabinom(count, k, independent + 1 - k)
    result = {
        "level": LEVEL, "cases": count, "calibration_cases": calibration.count, "independent": independent,
        "covered": covered.sum(axis=0).tolist(), "coverage": covered.mean(axis=0).tolist(),
        "beta_interval_90": list(coverage_interval(independent, LEVEL)),
        "beta_binomial_99": [int(law.ppf(0.005)), int(law.ppf(0.995))],
        "mean_half_width": float(sizes.mean()),
        "half_width": half.mean(axis=(0, *range(2, half.ndim))).tolist() if covered.shape[1] > 1 else None,
        "worst_fifth_coverage": float(covered[hardest].mean()),
        "pointwise_coverage": float(_inside(surrogate, name, prediction, truth, "pointwise").mean()),
        "spread_over_error": _spread_over_error(prediction, truth, covered.shape[1] > 1),
        "probability_histogram": _histogram(surrogate, name, prediction, truth),
        "reliability": _reliability(model, surrogate, name, prediction, truth),
    }  # fmt: skip
    if calibration.stores_residuals and covered.shape[1] == 1:
        constant = float(np.sort(calibration.stored.largest())[rank(calibration.count, LEVEL) - 1])
        result["width_ratio"] = float(sizes.mean() / constant)
    if model.blocks is not None:
        result["block_interval_90"] = _block_interval(covered, model.blocks(inputs)).tolist()
    return result


def _block_interval(covered: np.ndarray, blocks: np.ndarray, draws: int = 400) -> np.ndarray:
    """5 and 95 % of the coverage when whole blocks are resampled: (lead time, 2)."""
    names, owner = np.unique(blocks, return_inverse=True)
    hits = np.stack([np.bincount(owner, column, len(names)) for column in covered.T], axis=1)
    sizes = np.bincount(owner, minlength=len(names))
    picks = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    shares = hits[picks].sum(axis=1) / sizes[picks].sum(axis=1)[:, None]
    return np.asarray(np.quantile(shares, [0.05, 0.95], axis=0).T)


def _spread_over_error(prediction: Prediction, truth: np.ndarray, leads: bool) -> list[float]:
    """√(mean variance) over the error of the mean, where errors are symmetric; 1 is calibrated. Per lead time."""
    forward = TRANSFORMS[prediction.transform].forward
    error = np.square(forward(truth.astype(np.float64)) - forward(prediction.mean))
    axes = (0, *range(2, error.ndim)) if leads else tuple(range(error.ndim))
    return np.atleast_1d(np.sqrt(np.square(prediction.spread).mean(axis=axes) / error.mean(axis=axes))).tolist()


def _histogram(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray) -> list[float]:
    """Shares of truths in the ten equally likely intervals of the predicted law (a rank histogram)."""
    forward = TRANSFORMS[prediction.transform].forward
    size = np.where(prediction.scale > 0, prediction.scale, np.inf)
    ratio = (forward(truth.astype(np.float64)) - forward(prediction.mean)) / size
    place = 1.0 - surrogate.calibrations[name].exceedance(ratio)
    counts, _ = np.histogram(place[prediction.scale > 0], bins=BINS, range=(0.0, 1.0 + 1e-12))
    return (counts / counts.sum()).tolist()


def _reliability(
    model: PhysicalModel, surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray
) -> list[dict[str, Any]]:
    """Predicted probability of exceeding each declared threshold against how often it was exceeded."""
    thresholds = model.thresholds.get(name, ())
    law = surrogate.distribution(name, prediction, Question(thresholds={name: thresholds}))
    result = []
    for threshold, probability in law.exceedance.items():
        bins = np.minimum((probability * BINS).astype(int), BINS - 1)
        counts = np.bincount(bins.ravel(), minlength=BINS)
        happened = np.bincount(bins.ravel(), (truth > threshold).ravel(), BINS)
        predicted = np.bincount(bins.ravel(), probability.ravel(), BINS)
        kept = np.maximum(counts, 1)
        result.append({
            "threshold": threshold, "counts": counts.tolist(), "predicted": (predicted / kept).tolist(),
            "observed": (happened / kept).tolist(),
            "brier": float(np.mean(np.square(probability - (truth > threshold)))),
        })  # fmt: skip
    return result


def _audit(task: tuple[str, str, Arrays, Arrays]) -> tuple[str, Audit]:
    name, family, inputs, outputs = task
    audit = catalog.load(name).audit
    assert audit is not None
    return family, audit(inputs, outputs)


def efficiency(
    model: PhysicalModel, surrogate: Surrogate, recipe: Recipe, share: float, scheduler: str | None
) -> dict[str, Any]:
    """Index = bound / true error on fresh inputs of several families; violations count against error_floor."""
    tasks = []
    for family, count in model.audits.items():
        for index in tqdm(range(max(4, int(count * share))), desc=f"answers {family}", leave=False):
            inputs = model.draw(FRESH_SEED, index, recipe.points, family)
            tasks.append((model.name, family, *_to_audit(model, surrogate, inputs)))
    found: dict[str, list[Audit]] = {}
    done = cluster.run(_audit, tasks, scheduler)
    for family, result in tqdm(done, total=len(tasks), desc="audit of bounds", unit="case"):
        found.setdefault(family, []).append(result)
    return {family: _summary(audits) for family, audits in found.items()}


def _to_audit(model: PhysicalModel, surrogate: Surrogate, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """One sample and its answer; where the bound needs a trajectory, at the times it needs up to the last lead time."""
    sample = {name: np.asarray(values, dtype=np.float32) for name, values in inputs.items()}
    lead = surrogate.lead_times
    if model.bound_times is None or lead is None or lead.input is None:
        found = surrogate.run({name: values[None] for name, values in sample.items()})
        return inputs, {name: p.mean[0] for name, p in found.items()}
    times = model.bound_times(np.array([lead.stop]))
    rows = {name: np.repeat(values[None], len(times), axis=0) for name, values in sample.items()}
    return inputs | {lead.input: times}, surrogate.means(rows | {lead.input: times.astype(np.float32)})


def _summary(audits: list[Audit]) -> dict[str, Any]:
    index = np.array([a.upper / a.error for a in audits])
    strict = np.array([a.upper / a.error_floor for a in audits])
    two_sided = [a.upper / a.lower for a in audits if a.lower > 0]
    return {
        "cases": len(audits),
        "violations": int(sum(a.upper < a.error_floor for a in audits)),
        "lower_bound_violations": int(sum(a.lower > a.error for a in audits)),
        "index_median": float(np.median(index)),
        "index_max": float(index.max()),
        "index_against_finest_median": float(np.median(strict)),
        "index_against_finest_max": float(strict.max()),
        "relative_error_median": float(np.median([a.error / a.size for a in audits])),
        "upper_over_lower_median": float(np.median(two_sided)) if two_sided else None,
    }
