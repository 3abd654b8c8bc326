"""Hold the bands of a surrogate against truths: coverage, width, where coverage is lost, spread against error.

    covered count ~ BetaBinomial(n_t, k, n + 1 − k)   (n calibration cases, n_t fresh ones: both draws counted)
    width ratio = ⟨q′ s⟩ / q″   at equal coverage: q′ and q″ are the same rank of max |r|/s and of max |r| on the fresh cases
    spread over error = √(⟨σ²⟩ / ⟨r²⟩), pooled, and with every case weighing the same: 1/√⟨‖r‖²/‖σ‖²⟩

Everything is by lead time where the field has that axis.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from scipy.stats import betabinom

from models.errors import NotOffered
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Band, Interval, Prediction, Question, Surrogate
from models.uncertainty import TRANSFORMS, coverage_interval, has_lead_times, rank

LEVEL = 0.9
TOGETHER = 20
BINS = 10
DRAWS = 400  # of resampled cases
PARTS = 5  # the fifth of inputs with the widest bands is looked at by itself

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def silently(items: Iterable[Any], note: str) -> Iterable[Any]:
    """No progress is shown."""
    return items


def predictions(surrogate: Surrogate, inputs: Arrays, progress: Progress = silently) -> dict[str, Prediction]:
    """Every output for many inputs, with the axes of the truth: trajectories have all calibrated lead times."""
    count = len(next(iter(inputs.values())))
    lead = surrogate.lead_times
    parts = []
    if lead is None or lead.input is None:
        for first in progress(range(0, count, TOGETHER), "answers"):
            part = {k: np.ascontiguousarray(v[first : first + TOGETHER], np.float32) for k, v in inputs.items()}
            parts.append(surrogate.run(part))
        return {name: _joined([p[name] for p in parts]) for name in parts[0]}
    times = lead.values.astype(np.float32)
    for index in progress(range(count), "trajectories"):
        frames = []
        for some in np.array_split(times, max(1, len(times) // TOGETHER)):
            rows = {k: np.repeat(v[index : index + 1], len(some), axis=0).astype(np.float32) for k, v in inputs.items()}
            frames.append(surrogate.run(rows | {lead.input: some}))
        parts.append({name: _trajectory(_joined([f[name] for f in frames])) for name in frames[0]})
    return {name: _joined([p[name] for p in parts]) for name in parts[0]}


def _joined(parts: list[Prediction]) -> Prediction:
    arrays = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("members", "mean", "spread", "scale")}
    return Prediction.of(**arrays, transform=parts[0].transform)


def _trajectory(frames: Prediction) -> Prediction:
    """(frames, member, *grid) as one sample (1, member, frames, *grid)."""
    members = np.moveaxis(frames.members, 0, 1)[None]
    return Prediction.of(members, frames.mean[None], frames.spread[None], frames.scale[None], frames.transform)


def band_of(surrogate: Surrogate, name: str, prediction: Prediction, band: Band = "simultaneous") -> Interval:
    """The band at LEVEL.

    Raises NotOffered without calibration.
    """
    interval = surrogate.band(name, prediction, Question(LEVEL, band))
    if interval is None:
        raise NotOffered(f"a band of {name}", "bands of calibrated outputs")
    return interval


def inside(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray, band: Band) -> np.ndarray:
    """Whether each point of each case lies in its band."""
    interval = band_of(surrogate, name, prediction, band)
    exact = prediction.scale <= 0
    return np.asarray(exact | ((interval.lower <= truth) & (truth <= interval.upper)))


def covered(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray) -> np.ndarray:
    """Whether the simultaneous band holds the truth: (case, lead times or 1)."""
    item = surrogate.manifest.output(name)
    return np.asarray(_grouped(item, inside(surrogate, name, prediction, truth, "simultaneous")).all(axis=2))


def _grouped(item: Field, values: np.ndarray) -> np.ndarray:
    """(case, lead times or 1, points)."""
    return np.asarray(values.reshape(len(values), values.shape[1] if has_lead_times(item) else 1, -1))


def measure(
    surrogate: Surrogate, inputs: Arrays, truths: Arrays, found: Mapping[str, Prediction]
) -> dict[str, dict[str, Any]]:
    """Figures of every calibrated output on labelled cases, `found` being the predictions there."""
    physics = surrogate.physics
    blocks = None if physics is None or physics.blocks is None else physics.blocks(inputs)
    return {
        name: _field_figures(surrogate, name, prediction, truths[name], blocks)
        for name, prediction in found.items()
        if name in surrogate.calibrations
    }


def _field_figures(
    surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray, blocks: np.ndarray | None
) -> dict[str, Any]:
    calibration, item = surrogate.calibrations[name], surrogate.manifest.output(name)
    hit = covered(surrogate, name, prediction, truth)
    interval = band_of(surrogate, name, prediction)
    sizes = _grouped(item, (interval.upper - interval.lower) / 2).mean(axis=2)
    count, independent = len(truth), calibration.independent
    result = {
        "level": LEVEL, "cases": count, "calibration_cases": calibration.count, "independent": independent,
        "covered": hit.sum(axis=0).tolist(), "coverage": hit.mean(axis=0).tolist(),
        "beta_interval_90": list(coverage_interval(independent, LEVEL)),
        "beta_binomial_99": count_range(count, independent),
        "mean_half_width": float(sizes.mean()),
        "half_width": sizes.mean(axis=0).tolist() if hit.shape[1] > 1 else None,
        "width_ratio": _width_ratio(item, prediction, truth),
        "worst_fifth_coverage": _fifth(hit, sizes, -1),
        "quiet_fifth_coverage": _fifth(hit, sizes, 0),
        "pointwise_coverage": float(inside(surrogate, name, prediction, truth, "pointwise").mean()),
        "spread_over_error": _spread_over_error(item, prediction, truth),
        "probability_histogram": _histogram(surrogate, name, prediction, truth),
        "reliability": _reliability(surrogate, name, prediction, truth),
    }  # fmt: skip
    if blocks is not None:
        result["block_interval_90"] = block_interval(hit, blocks).tolist()
    result["inside"] = is_inside(result)
    return result


def count_range(cases: int, calibration_cases: int, mass: float = 0.99) -> list[int]:
    """The range of covered counts that holds `mass` of their law, two-sided."""
    k = rank(calibration_cases, LEVEL)
    law = betabinom(cases, k, calibration_cases + 1 - k)
    return [int(law.ppf((1 - mass) / 2)), int(law.ppf((1 + mass) / 2))]


def is_inside(figures: Mapping[str, Any]) -> bool:
    """Whether every lead time's count lies in its range; dependent cases by the interval of resampled blocks."""
    if "block_interval_90" in figures:
        low, high = figures["beta_interval_90"]
        return all(first <= high and last >= low for first, last in figures["block_interval_90"])
    low, high = figures["beta_binomial_99"]
    return all(low <= count <= high for count in figures["covered"])


def _fifth(hit: np.ndarray, sizes: np.ndarray, place: int) -> list[float]:
    """Coverage in the fifth of inputs with the widest (−1) or narrowest (0) bands, per lead time."""
    columns = zip(hit.T, sizes.T, strict=True)
    return [float(column[np.array_split(np.argsort(size), PARTS)[place]].mean()) for column, size in columns]


def _residual(prediction: Prediction, truth: np.ndarray) -> np.ndarray:
    """g(u) − g(m)."""
    forward = TRANSFORMS[prediction.transform].forward
    return np.asarray(forward(truth.astype(np.float64)) - forward(prediction.mean))


def _width_ratio(item: Field, prediction: Prediction, truth: np.ndarray) -> dict[str, list[float]]:
    """Half-width over that of a band of constant width that covers as many of these very cases: mean and median case."""
    size = _grouped(item, np.abs(_residual(prediction, truth)) * (prediction.scale > 0))
    scale = _grouped(item, prediction.scale)
    scores = (size / np.where(scale > 0, scale, 1.0)).max(axis=2)
    place = min(len(scores), int(np.ceil(LEVEL * (len(scores) + 1)))) - 1
    adaptive, constant = (np.sort(v, axis=0)[place] for v in (scores, size.max(axis=2)))
    ratios = adaptive * scale.mean(axis=2) / constant
    return {"mean": ratios.mean(axis=0).tolist(), "median": np.median(ratios, axis=0).tolist()}


def _spread_over_error(item: Field, prediction: Prediction, truth: np.ndarray) -> dict[str, Any]:
    """Where errors are symmetric; 1 is calibrated. `interval` holds 90 % of the pooled figure over resampled cases."""
    error, spread = (
        np.square(_grouped(item, values)).mean(axis=2) for values in (_residual(prediction, truth), prediction.spread)
    )
    picks = np.random.default_rng(0).integers(len(error), size=(DRAWS, len(error)))
    drawn = np.sqrt(spread[picks].mean(axis=1) / error[picks].mean(axis=1))
    kept = np.maximum(spread, 1e-30)
    return {
        "pooled": np.sqrt(spread.mean(axis=0) / error.mean(axis=0)).tolist(),
        "interval": np.quantile(drawn, [0.05, 0.95], axis=0).T.tolist(),
        "per_case": (1.0 / np.sqrt((error / kept).mean(axis=0))).tolist(),
    }


def block_interval(hit: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """5 and 95 % of each column's share of hits when whole blocks are resampled: (column, 2), of (case, column)."""
    names, owner = np.unique(blocks, return_inverse=True)
    hits = np.stack([np.bincount(owner, column, len(names)) for column in hit.T], axis=1)
    sizes = np.bincount(owner, minlength=len(names))
    picks = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    shares = hits[picks].sum(axis=1) / sizes[picks].sum(axis=1)[:, None]
    return np.asarray(np.quantile(shares, [0.05, 0.95], axis=0).T)


def _histogram(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray) -> list[float]:
    """Shares of truths in the ten equally likely intervals of the predicted law (a rank histogram)."""
    size = np.where(prediction.scale > 0, prediction.scale, np.inf)
    place = 1.0 - surrogate.calibrations[name].exceedance(_residual(prediction, truth) / size)
    counts, _ = np.histogram(place[prediction.scale > 0], bins=BINS, range=(0.0, 1.0 + 1e-12))
    shares: list[float] = (counts / counts.sum()).tolist()
    return shares


def _reliability(surrogate: Surrogate, name: str, prediction: Prediction, truth: np.ndarray) -> list[dict[str, Any]]:
    """Predicted probability of exceeding each declared threshold against how often it was exceeded."""
    thresholds = () if surrogate.physics is None else surrogate.physics.thresholds.get(name, ())
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
