"""The figures a sceptic would compute: every claim of a bundle held against fresh cases of the reference solver.

Cases come from a seed that nothing of the bundle was made with. Where data are real there is no solver to draw from: cases
are those of the held-out period, in another order.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from scipy.stats import binom, rankdata

from models import catalog, coverage, efficiency
from models.coverage import LEVEL, Progress, silently
from models.efficiency import Run
from models.errors import NotOffered, SeedTaken, UnsupportedLevel
from models.explanation.quantities import make_quantity
from models.explanation.statement import through_band
from models.fields import LEAD_TIME
from models.physical_model import Arrays, PhysicalModel
from models.surrogate import Prediction, Surrogate
from models.uncertainty import has_lead_times
from models.validity import THRESHOLD

CASES = 200
SHIFTED = 60  # cases of each shift
WEIGHTS_SEED = 5
MASS = 0.99  # of the laws that verdicts are taken from
WORST_FIFTH, WIDTH, SPREAD, AUROC = 0.85, 0.5, (0.9, 1.1), 0.95  # what is aimed at
FAMILY_STRIDE = 0.25  # audits of the other families, as a share of the training family's


def physics_of(surrogate: Surrogate, seed: int) -> PhysicalModel:
    """The physical model to draw from.

    Raises NotOffered for a bundle without one, SeedTaken when the bundle was made with this seed.
    """
    if surrogate.physics is None:
        raise NotOffered(
            f"an assessment of {surrogate.manifest.name}",
            "assessments of models of the catalogue: this bundle has neither a sampler nor a reference to draw from",
        )
    seeds = {k: v for k, v in surrogate.manifest.document["provenance"]["seeds"].items() if k != "weights"}
    if seed in seeds.values():
        raise SeedTaken(seed, seeds)
    return surrogate.physics


def fresh_family(surrogate: Surrogate, model: PhysicalModel) -> str:
    """The law that bands are for: training's, or where splits are periods that of the held-out one."""
    family = surrogate.manifest.document["provenance"]["recipe"]["splits"]["held_out"]["family"]
    return str(family or model.training_family)


def _numbered_pair(task: tuple[str, int, int, int, str]) -> tuple[int, tuple[Arrays, Arrays]]:
    name, seed, index, points, family = task
    return index, catalog.load(name).pair(seed, index, points, family)


def fresh_cases(
    surrogate: Surrogate, seed: int, count: int, run: Run, progress: Progress = silently
) -> tuple[Arrays, Arrays]:
    """Inputs and truths of `count` labelled cases.

    Raises NotOffered, SeedTaken.
    """
    model = physics_of(surrogate, seed)
    points, family = int(surrogate.manifest.document["points"]), fresh_family(surrogate, model)
    tasks = [(model.name, seed, index, points, family) for index in range(count)]
    pairs = dict(progress(run(_numbered_pair, tasks), f"reference solutions of {count} cases"))
    inputs, truths = (
        {name: np.stack([pairs[i][part][name] for i in range(count)]) for name in pairs[0][part]} for part in (0, 1)
    )
    return inputs, truths


def assess(surrogate: Surrogate, seed: int, cases: int, run: Run, progress: Progress = silently) -> dict[str, Any]:
    """Coverage, bounds, validity and intervals on fresh cases.

    Raises NotOffered, SeedTaken.
    """
    model = physics_of(surrogate, seed)
    inputs, truths = fresh_cases(surrogate, seed, cases, run, progress)
    predicted = coverage.predictions(surrogate, inputs, progress)
    found: dict[str, Any] = {
        "model": surrogate.manifest.name, "bundle": surrogate.manifest.digest, "seed": seed, "cases": cases,
        "source": source(surrogate, model),
        "coverage": coverage.measure(surrogate, inputs, truths, predicted),
        "intervals": intervals(surrogate, truths, predicted),
        "validity": validity(surrogate, model, inputs, seed, progress),
    }  # fmt: skip
    if model.audit is not None:
        audits = {
            family: cases if family == model.training_family else max(4, int(FAMILY_STRIDE * cases))
            for family in model.audits
        }
        found["efficiency"] = efficiency.measure(surrogate, model, seed, audits, run, progress)
    return found


def source(surrogate: Surrogate, model: PhysicalModel) -> str:
    """Where fresh cases come from, in words."""
    family = fresh_family(surrogate, model)
    if family == model.training_family:
        return (
            f"drawn from the training law and solved by the reference solver; truth: {model.truth(_points(surrogate))}"
        )
    return (
        f"held-out data ({family}), not used for training or calibration; there is no solver to draw other cases from"
    )


def _points(surrogate: Surrogate) -> int:
    return int(surrogate.manifest.document["points"])


def intervals(surrogate: Surrogate, truths: Arrays, found: Mapping[str, Prediction]) -> dict[str, Any]:
    """Coverage of intervals: of linear quantities where residuals ship, at each of their lead times; else of the band's."""
    result: dict[str, Any] = {}
    for name in surrogate.calibrations:
        kept = surrogate.residuals(name)
        if kept is None:
            result[name] = _through_band(surrogate, found[name], truths[name], name)
            continue
        prediction, gap = found[name], truths[name] - found[name].mean
        result[name] = {}
        for time, stored in zip(kept.lead_times or (None,), kept.stored, strict=True):
            part = (slice(None), *(() if time is None else (_frame(surrogate, time),)))
            when = "" if time is None else f" at {time:g}"
            for label, weights in _quantities(prediction.mean[part].shape[1:]).items():
                half = kept.half_widths(stored, weights, prediction.own_scale[part], LEVEL)
                error = np.abs((weights * gap[part]).reshape(len(gap), -1).sum(axis=1))
                result[name][label + when] = _counted(error <= half, half, kept.blocks or kept.count)
    return result


def _through_band(surrogate: Surrogate, prediction: Prediction, truth: np.ndarray, name: str) -> dict[str, Any]:
    """Intervals that follow from the band: at the first, middle and last lead time, and over all of them."""
    item, known, result = surrogate.manifest.output(name), surrogate.lead_times, {}
    if known is not None and known.input is not None:
        return {}  # predictions have an axis of lead times there that the field has not
    middle = {
        axis.name: axis.labels[0] if axis.labels else float(axis.coordinates[axis.points // 2])
        for axis in item.axes
        if axis.name != LEAD_TIME
    }
    asked: dict[str, dict[str, Any]] = {
        "mean": {"type": "region_mean"}, "point": {"type": "point", **middle}, "largest value": {"type": "max"},
    }  # fmt: skip
    times = dict.fromkeys([float(known.values[k]) for k in (0, known.frames // 2, -1)]) if known else {}
    whens = (
        {f" at {t:g}": {LEAD_TIME: t} for t in times} | {" of all lead times": {}} if has_lead_times(item) else {"": {}}
    )
    for label, request in asked.items():
        for when, chosen in whens.items():
            quantity = make_quantity((item,), known, {**request, **chosen})
            with suppress(UnsupportedLevel):  # all lead times at once need more calibration cases
                low, high = through_band(surrogate, prediction, quantity, LEVEL)
                value = quantity.of(truth)
                hit = (low <= value) & (value <= high)
                result[label + when] = _counted(hit, (high - low) / 2, surrogate.calibrations[name].independent)
    return result


def _frame(surrogate: Surrogate, time: float) -> int:
    """The place of a lead time among those of trajectories."""
    known = surrogate.lead_times
    return 0 if known is None else int(np.abs(known.values - time).argmin())


def _counted(hit: np.ndarray, half: np.ndarray, calibration_cases: int) -> dict[str, Any]:
    """Too few covered cases are a fault, too many none: rounding is added to intervals, and the band's are too wide."""
    covered = int(hit.sum())
    low, high = coverage.count_range(len(half), calibration_cases)
    return {
        "covered": covered, "cases": len(half), "beta_binomial_99": [low, high], "inside": low <= covered,
        "mean_half_width": float(half.mean()),
    }  # fmt: skip


def _quantities(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The mean, the mean of a corner, the point in the middle, and weights without a sense."""
    corner, point = np.zeros(shape), np.zeros(shape)
    corner[tuple(slice(max(1, size // 2)) for size in shape)] = 1.0
    point[tuple(size // 2 for size in shape)] = 1.0
    random = np.random.default_rng(WEIGHTS_SEED).standard_normal(shape)
    return {
        "mean": np.full(shape, 1 / np.prod(shape)), "mean of a corner": corner / corner.sum(), "point": point,
        "random weights": random / random.size,
    }  # fmt: skip


def validity(
    surrogate: Surrogate, model: PhysicalModel, inputs: Arrays, seed: int, progress: Progress = silently,
    shifted: int = SHIFTED,
) -> dict[str, Any] | None:  # fmt: skip
    """Size of the test on the fresh cases, and power and AUROC on the model's declared shifts; None without a domain."""
    if surrogate.domain is None:
        return None
    usual = np.array([p_value(surrogate, sample) for sample in progress(samples_of(inputs), "validity in domain")])
    shifts = {}
    for label, draw in model.shifts.items():
        drawn = [draw(seed, index, _points(surrogate)) for index in range(shifted)]
        foreign = np.array([p_value(surrogate, sample) for sample in progress(drawn, label)])
        shifts[label] = {"power": float((foreign < THRESHOLD).mean()), "auroc": auroc(usual, foreign)}
    blocks = None if model.blocks is None else model.blocks(inputs)
    return size_of(usual < THRESHOLD, blocks) | {"shifted_cases": shifted, "shifts": shifts}


def size_of(rejected: np.ndarray, blocks: np.ndarray | None) -> dict[str, Any]:
    """How many of the usual inputs are called out of domain, and whether that many may be.

    At most as many as MASS of the binomial law; where cases depend on each other, a cold week or a storm is called out
    again and again, so the lower end of the share's interval over resampled blocks is what may not exceed the threshold.
    """
    count, law = int(rejected.sum()), binom(len(rejected), THRESHOLD)
    low, high = int(law.ppf((1 - MASS) / 2)), int(law.ppf((1 + MASS) / 2))
    found = {"cases": len(rejected), "threshold": THRESHOLD, "rejected": count, "binomial_99": [low, high]}
    if blocks is None:
        return found | {"inside": count <= high}
    interval = coverage.block_interval(rejected[:, None], blocks)[0].tolist()
    return found | {"block_interval_90": interval, "inside": interval[0] <= THRESHOLD}


def samples_of(inputs: Arrays) -> list[Arrays]:
    """One mapping per sample, without the batch axis."""
    return [{name: values[i] for name, values in inputs.items()} for i in range(len(next(iter(inputs.values()))))]


def p_value(surrogate: Surrogate, sample: Arrays) -> float:
    """That of the validity test, for one sample without a batch axis; 0 where the bundle does not describe its domain."""
    domain = surrogate.domain
    if domain is None:
        return 0.0
    if domain.uses_task:
        return (
            surrogate.predict({name: np.asarray(values)[None] for name, values in sample.items()}).validity[0].p_value
        )
    return domain.assess({k: np.asarray(v, np.float32) for k, v in sample.items()}, None).p_value


def auroc(usual: np.ndarray, foreign: np.ndarray) -> float:
    """P(p of a foreign input < p of a usual one), ties counting half (Mann–Whitney)."""
    ranks = rankdata(np.concatenate([-foreign, -usual]))
    above = ranks[: len(foreign)].sum() - len(foreign) * (len(foreign) + 1) / 2
    return float(above / (len(foreign) * len(usual)))


Row = tuple[str, str, str, str]


def text(found: Mapping[str, Any], lead_times: Callable[[str], tuple[str, ...]]) -> str:
    """A table for people; `lead_times` names those of an output."""
    rows: list[Row] = [("claim", "measured", "expected", "verdict")]
    for name, figures in found["coverage"].items():
        rows += _coverage_rows(name, figures, lead_times(name))
    for name, quantities in found["intervals"].items():
        for label, q in quantities.items():
            low, high = q["beta_binomial_99"]
            rows.append((f"{name}, 90 % interval of the {label}", f"{q['covered']} of {q['cases']} covered",
                         f"{low}–{high}", _verdict(q["inside"])))  # fmt: skip
    rows += _efficiency_rows(found.get("efficiency", {})) + _validity_rows(found["validity"])
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = f"{found['model']}, seed {found['seed']}, {found['cases']} cases: {found['source']}"
    return "\n".join([head, "", *lines])


def _verdict(holds: bool) -> str:
    return "holds" if holds else "FALLS SHORT"


def _coverage_rows(name: str, c: Mapping[str, Any], leads: tuple[str, ...]) -> list[Row]:
    rows: list[Row] = []
    low, high = c["beta_binomial_99"]
    spread, ratio = c["spread_over_error"], c["width_ratio"]
    blocks = c.get("block_interval_90")
    for k, lead in enumerate(leads):
        place = f"{name}{lead}"
        if blocks is None:
            expected, inside = f"{low}–{high}", low <= c["covered"][k] <= high
        else:
            first, last = c["beta_interval_90"]
            expected, inside = f"{first:.1%}–{last:.1%}", blocks[k][0] <= last and blocks[k][1] >= first
        rows += [
            (f"{place}, 90 % band", f"{c['covered'][k]} of {c['cases']} covered ({c['coverage'][k]:.1%})", expected,
             _verdict(inside)),
            (f"{place}, widest fifth", f"{c['worst_fifth_coverage'][k]:.1%} covered", f"≥ {WORST_FIFTH:.0%}",
             _verdict(c["worst_fifth_coverage"][k] >= WORST_FIFTH)),
            (f"{place}, width over constant", f"mean {ratio['mean'][k]:.0%}, median {ratio['median'][k]:.0%}", f"≤ {WIDTH:.0%}",
             _verdict(ratio["mean"][k] <= WIDTH)),
            (f"{place}, spread over error",
             f"{spread['pooled'][k]:.2f} ({spread['interval'][k][0]:.2f}–{spread['interval'][k][1]:.2f}), "
             f"per case {spread['per_case'][k]:.2f}", f"{SPREAD[0]:g}–{SPREAD[1]:g}", _verdict(SPREAD[0] <= spread["pooled"][k] <= SPREAD[1])),
        ]  # fmt: skip
    return rows


def _efficiency_rows(families: Mapping[str, Any]) -> list[Row]:
    return [
        (f"guaranteed bound, {family}", f"index median {e['index_median']:.3f}, max {e['index_max']:.3f}; "
         f"{e['violations']} of {e['cases']} violated", "0 violated", _verdict(e["violations"] == 0))
        for family, e in families.items()
    ]  # fmt: skip


def _validity_rows(v: Mapping[str, Any] | None) -> list[Row]:
    if v is None:
        return [("validity test", "none: the bundle does not describe its domain", "", "")]
    size, expected = f"{v['rejected']} of {v['cases']} rejected", "{}–{}".format(*v["binomial_99"])
    if "block_interval_90" in v:
        low, high = v["block_interval_90"]
        size, expected = f"{size} ({low:.1%}–{high:.1%} over resampled blocks)", f"≤ {v['threshold']:.0%}"
    rows = [(f"validity test at {v['threshold']:g}", size, expected, _verdict(v["inside"]))]
    rows += [
        (f"shift: {label}", f"AUROC {s['auroc']:.3f}, {s['power']:.0%} called out of domain", f"AUROC ≥ {AUROC:g}",
         _verdict(s["auroc"] >= AUROC))
        for label, s in v["shifts"].items()
    ]  # fmt: skip
    return rows


def lead_labels(surrogate: Surrogate, name: str) -> tuple[str, ...]:
    """How the rows of one output are told apart: “, 6 h” for each lead time, nothing without that axis."""
    item = surrogate.manifest.output(name)
    if not has_lead_times(item):
        return ("",)
    units = "" if item.axes[0].units == "1" else f" {item.axes[0].units}"
    return tuple(f", {value:g}{units}" for value in item.axes[0].coordinates)
