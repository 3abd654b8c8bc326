"""What explanations of a shipped bundle are worth, measured on fresh inputs.

completeness      Σ IG against J(x) − J(x′), with as many nodes as the service takes
deletion          regions go to the baseline in order of their share; area under |J(x_S) − J(x)| / |J(x) − J(x′)|, and
insertion from the baseline; z against 100 random orders of the same regions (Petsiuk et al. 1806.07421). A
region holds all places that have a name: one station alone at its mean is a state no weather has
randomisation     rank correlation of the gradient with that of a bundle whose learned weights are shuffled within
their tensors, from the last layer to the first (Adebayo et al. 1810.03292): it must fall. Where a classical solver
in the graph gives most of the gradient it cannot: so the same of the learned part, that is the gradient less that
of the graph with its last learned layer at zero, and the share of that part in the gradient
corrected values  |Q − Q(u)| of the answer, of the adjoint-corrected and of the midpoint value against a finer mesh
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy.stats import spearmanr
from tqdm import tqdm

from models import bundle
from models.bundle import GRAPH_FILES, RESIDUALS_FILE, WEIGHTS_FILE, Bundle
from models.explanation import Request, attribution, explain
from models.explanation.answer import checked
from models.explanation.functional import Functional
from models.explanation.plan import Plan, explained_fields, make_plan
from models.fields import LEAD_TIME, Field
from models.physical_model import Arrays, PhysicalModel
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate

CASES = 12
ORDERS = 100
DELETION_CASES = 4
RANDOMISED_CASES = 3
CORRECTED_CASES = 24
PARTS = (16, 9, 4, 1)  # of every field
MOST_REGIONS = 24  # of eight or of a few that matter, no order is 3 away from the random ones
DEPTHS = (0.0, 0.5, 1.0)  # shares of the layers, from the output on, beyond the last one
LEARNED = re.compile(r"\.(weight|kernel)(_half)?$")
KINDS = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16}

Draw = Callable[[int], Arrays]


def middle(item: Field, reach: float) -> dict[str, Any]:
    """The point in the middle of every axis, or the mean over a box of relative half-width `reach` around it."""
    place: dict[str, Any] = {"field": item.name}
    for axis in item.axes:
        centre, size = float(axis.coordinates[axis.points // 2]), reach * (axis.stop - axis.start)
        box = [max(axis.start, centre - size), min(axis.stop, centre + size)]
        place[axis.name] = box if reach and axis.name != LEAD_TIME else centre
    return {"type": "region_mean" if reach else "point", **place}


def fresh(surrogate: Surrogate, seed: int, index: int) -> Arrays:
    """One fresh input as a batch of one, at the last lead time where the graph takes one."""
    model, points = _physics(surrogate), int(surrogate.manifest.document["points"])
    inputs = model.draw(seed, index, points, model.held_out[0])
    if model.lead_times is not None and model.lead_times.input is not None:
        inputs = inputs | {model.lead_times.input: np.float32(model.lead_times.stop)}
    return {item.name: np.asarray(inputs[item.name], dtype=np.float32)[None] for item in surrogate.manifest.inputs}


def _physics(surrogate: Surrogate) -> PhysicalModel:
    if surrogate.physics is None:
        raise ValueError(
            "Expected a bundle with a catalogue entry, got a packaged model: there is no law to draw from."
        )
    return surrogate.physics


def measure(surrogate: Surrogate, seed: int, share: float = 1.0) -> dict[str, Any]:
    """Every figure of the report's section; `share` < 1 shrinks the numbers of cases and of random orders."""

    def part(count: int) -> int:
        return max(2, round(share * count))

    found = completeness(surrogate, seed, part(CASES))
    found |= deletion(surrogate, seed + 1, part(DELETION_CASES), part(ORDERS))
    found |= randomisation(surrogate, seed + 2, part(RANDOMISED_CASES))
    if _physics(surrogate).corrected is not None:
        found["corrected"] = corrected_values(surrogate, seed + 3, part(CORRECTED_CASES))
    return found


def of_bundle(folder: Path, seed: int, share: float) -> dict[str, Any]:
    """The figures of one bundle."""
    return measure(load_surrogate(folder, RuntimeOptions()), seed, share)


def write(folder: Path, seed: int, share: float) -> None:
    """Put them into its manifest; the card is redrawn with the others."""
    found, content = of_bundle(folder, seed, share), bundle.read(folder)
    document = {k: v for k, v in content.manifest.document.items() if k not in ("format", "files")}
    bundle.write(folder, {**document, "report": {**document["report"], "explanations": found}}, content.files)


def completeness(surrogate: Surrogate, seed: int, count: int) -> dict[str, Any]:
    """Gaps of integrated gradients and the checks of every answer, over several quantities."""
    output = surrogate.manifest.outputs[0]
    quantities = ({"type": "norm"}, middle(output, 0.0), middle(output, 0.1))
    found = [
        _one(surrogate, fresh(surrogate, seed, index), quantity)
        for index in tqdm(range(count), desc="explanations", leave=False)
        for quantity in quantities
    ]
    complete, turnover, measured = zip(*found, strict=True)
    gaps = np.array([np.nan if c.relative is None else c.relative for c in complete])
    cosines = [c for one in measured if (c := one["solver_adjoint_cosine"]) is not None]
    reach = [one["linearity"]["range"] for one in measured if one["linearity"] is not None]
    noise = [max(one["spectral_noise"].values(), default=0.0) for one in measured]
    return {
        "cases": len(gaps), "seed": seed,
        "completeness_gap_median": float(np.nanmedian(gaps)), "completeness_gap_max": float(np.nanmax(gaps)),
        "completeness_gap_over_turnover_max": float(np.max(turnover)),
        "cases_above_1e-4": int(np.sum(gaps > attribution.COMPLETE)),
        "nodes_median": float(np.median([c.nodes for c in complete])), "nodes_max": max(c.nodes for c in complete),
        "adjoint_identity_max": max(float(one["adjoint_identity"]) for one in measured),
        "solver_adjoint_cosine_median": float(np.median(cosines)) if cosines else None,
        "solver_adjoint_cosine_min": float(np.min(cosines)) if cosines else None,
        "linearity_range_median": float(np.median(reach)), "spectral_noise_median": float(np.median(noise)),
    }  # fmt: skip


def _one(
    surrogate: Surrogate, inputs: Arrays, quantity: Mapping[str, Any]
) -> tuple[attribution.Completeness, float, dict[str, Any]]:
    """Completeness, its gap over the sum of |attributions|, and the checks of one explanation, members left out."""
    plan = make_plan(surrogate, inputs, Request(quantity))
    functional = Functional(surrogate, plan.sample, plan.quantity, exact=False)
    maps, complete, _ = attribution.path_integral(functional, plan.baseline.one(0))
    turnover = complete.absolute / sum(np.abs(values).sum() for values in maps.values())
    return complete, turnover, checked(plan, functional)


@dataclass(frozen=True)
class Curve:
    """Areas under the deletion and the insertion curve of one order of regions."""

    deletion: float
    insertion: float


def curve(functional: Functional, plan: Plan, order: Sequence[int], ends: tuple[float, float]) -> Curve:
    """Regions go to the baseline one after another in this order; insertion starts from the baseline."""
    rank = np.argsort(order)
    steps = np.arange(1, len(order))[:, None]
    kept = np.concatenate([rank[None] >= steps, rank[None] < steps])
    rows = attribution.replaced(plan.sample, plan.baseline.one(0), plan.regions, kept.tolist())
    gone, come = np.split(functional.values(rows).mean, 2)
    start, end = ends
    size = abs(end - start)
    return Curve(float(np.mean(np.abs(gone - end)) / size), float(np.mean(np.abs(come - start)) / size))


def deletion(surrogate: Surrogate, seed: int, cases: int, orders: int) -> dict[str, Any]:
    """How much sooner than in random order the regions with the largest share account for J(x) − J(x′)."""
    generator = np.random.default_rng(seed)
    z: dict[str, list[float]] = {"deletion": [], "insertion": []}
    for index in tqdm(range(cases), desc="deletion", leave=False):
        request = Request(middle(surrogate.manifest.outputs[0], 0.1), regions=_parted(surrogate))
        found = explain(surrogate, fresh(surrogate, seed, index), request)
        functional = Functional(surrogate, found.plan.sample, found.quantity, exact=True)
        ends = (found.baseline_value or 0.0, found.value)
        count = len(found.plan.regions)
        share = found.attribution.regions / (ends[1] - ends[0])
        own = curve(functional, found.plan, np.argsort(-share).tolist(), ends)
        others = [curve(functional, found.plan, generator.permutation(count).tolist(), ends) for _ in range(orders)]
        for name, values in z.items():
            areas = np.array([getattr(other, name) for other in others])
            values.append((getattr(own, name) - areas.mean()) / max(float(areas.std(ddof=1)), 1e-12))
    found: dict[str, Any] = {"deletion_cases": cases, "orders": orders, "ordered_regions": count}
    for name, values in z.items():
        found |= {f"{name}_z_median": float(np.median(values)), f"{name}_z_min": float(np.min(values))}
    return found


def _parted(surrogate: Surrogate) -> list[dict[str, Any]]:
    """As many parts of every field as give no more regions than deletion is tried on."""
    fields = explained_fields(surrogate, None)
    tried = ([box for item in fields for box in boxes(item, count)] for count in PARTS)
    return next(found for found in tried if len(found) <= MOST_REGIONS or len(found) == len(fields))


def boxes(item: Field, count: int) -> list[dict[str, Any]]:
    """Up to `count` boxes that share out a field: every axis of coordinates in equal parts, axes of names whole."""
    axes = [axis for axis in item.axes if not axis.labels]
    each = round(count ** (1 / max(1, len(axes))))
    parts = [np.array_split(axis.coordinates, min(each, axis.points)) for axis in axes]
    return [
        {"name": f"{item.name} {number}", "field": item.name}
        | {axis.name: [float(part[0]), float(part[-1])] for axis, part in zip(axes, place, strict=True)}
        for number, place in enumerate(product(*parts))
    ]


@dataclass(frozen=True)
class Tensor:
    """A tensor in the weights file."""

    name: str
    offset: int
    shape: tuple[int, ...]
    kind: type

    def read(self, data: bytes | bytearray) -> np.ndarray:
        """Its values."""
        count = int(np.prod(self.shape))
        return np.frombuffer(bytes(data), self.kind, count, self.offset).reshape(self.shape)

    def write(self, data: bytearray, values: np.ndarray) -> None:
        """Put other values in its place."""
        raw = np.ascontiguousarray(values, dtype=self.kind).tobytes()
        data[self.offset : self.offset + len(raw)] = raw


def tensors(content: bytes) -> list[Tensor]:
    """The tensors of one graph that lie in the weights file, in the order of the network."""
    found = []
    for item in onnx.load(io.BytesIO(content), load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in item.external_data}
        if "offset" in place and item.data_type in KINDS:
            found.append(Tensor(item.name, int(place["offset"]), tuple(item.dims), KINDS[item.data_type]))
    return found


def _learned(content: Bundle) -> list[Tensor]:
    """The tensors of learned weights in the weights file, in the order of the network."""
    return [t for t in tensors(content.files[GRAPH_FILES["model"]]) if LEARNED.search(t.name)]


def shuffled(content: Bundle, layers: int, generator: np.random.Generator) -> Bundle:
    """The bundle with the learned weights of its last `layers` shuffled within their tensors."""
    return _with_weights(content, layers, lambda old: generator.permuted(old.ravel()).reshape(old.shape))


def without_network(content: Bundle) -> Bundle:
    """The bundle with its last learned layer at zero: what is left of a gradient was not learned."""
    return _with_weights(content, 1, np.zeros_like)


def _with_weights(content: Bundle, layers: int, change: Callable[[np.ndarray], np.ndarray]) -> Bundle:
    """Other weights in the last `layers`; derivative graphs hold some kernels flipped, these copies follow."""
    data, learned = bytearray(content.files[WEIGHTS_FILE]), _learned(content)
    copies = [
        t for file in ("vjp", "jvp") for t in tensors(content.files[GRAPH_FILES[file]]) if t.name.startswith("flip")
    ]
    for tensor in learned[len(learned) - layers :]:
        old = tensor.read(data)
        new = change(old)
        for copy in copies:
            if copy.shape == tensor.shape and np.array_equal(copy.read(data), old[..., ::-1, ::-1]):
                copy.write(data, new[..., ::-1, ::-1])
        tensor.write(data, new)
    files = {name: values for name, values in content.files.items() if name != RESIDUALS_FILE}  # of other weights
    return Bundle(content.manifest, {**files, WEIGHTS_FILE: bytes(data)})


def layer_count(content: Bundle) -> int:
    """How many tensors of learned weights lie in the weights file."""
    return len(_learned(content))


def randomisation(surrogate: Surrogate, seed: int, cases: int) -> dict[str, Any]:
    """Rank correlation of gradients, whole and learned part, before and after, by number of shuffled layers."""
    content, generator = surrogate.bundle, np.random.default_rng(seed)
    count = layer_count(content)
    if not count:  # tiny networks keep their weights in the graphs
        return {}
    inputs = [fresh(surrogate, seed, index) for index in range(cases)]
    request = Request(middle(surrogate.manifest.outputs[0], 0.1), "gradient", regions=1)

    def maps(of: Bundle) -> list[Arrays]:
        one = Surrogate(of, surrogate.physics, RuntimeOptions())
        with np.errstate(over="ignore"):  # the scales that shuffled members give themselves
            return [{k: v for k, v in explain(one, x, request).attribution.maps.items() if v.size > 2} for x in inputs]

    own, classical = maps(content), maps(without_network(content))
    learned = [_difference(*pair) for pair in zip(own, classical, strict=True)]
    whole, part = {}, {}
    for layers in sorted({max(1, round(depth * count)) for depth in DEPTHS}):
        other = maps(shuffled(content, layers, generator))
        rest = [_difference(*pair) for pair in zip(other, classical, strict=True)]
        for found, before, after in ((whole, own, other), (part, learned, rest)):
            pairs = [rank_correlation(a, b) for a, b in zip(before, after, strict=True)]
            found[f"{layers} of {count}"] = float(np.median(pairs))
    shares = [_size(a) / _size(b) for a, b in zip(learned, own, strict=True)]
    return {"randomisation": whole, "randomisation_learned": part, "learned_share_median": float(np.median(shares))}


def _difference(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> Arrays:
    return {name: values - right[name] for name, values in left.items()}


def _size(maps: Mapping[str, np.ndarray]) -> float:
    """Geometric mean of the fields' norms, whose units differ."""
    return float(np.exp(np.mean([np.log(max(np.linalg.norm(v), 1e-300)) for v in maps.values()])))


def rank_correlation(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    """Mean over the fields."""
    return float(np.mean([spearmanr(left[name].ravel(), right[name].ravel()).statistic for name in left]))


def corrected_values(surrogate: Surrogate, seed: int, count: int) -> dict[str, Any]:
    """Relative errors of quantities over random boxes, their guaranteed remainders, and how often these were exceeded."""
    model, name = _physics(surrogate), surrogate.manifest.outputs[0].name
    assert model.corrected is not None
    assert model.fine_quantity is not None
    generator, rows, violations = np.random.default_rng(seed), [], 0
    for index in tqdm(range(count), desc="corrected quantities", leave=False):
        inputs = {k: v[0].astype(np.float64) for k, v in fresh(surrogate, seed, index).items()}
        mean = surrogate.run({k: v[None].astype(np.float32) for k, v in inputs.items()})[name].mean[0]
        weights = random_box(mean.shape, generator)
        found = model.corrected(inputs, {name: mean.astype(np.float64)}, name, weights)
        truth = model.fine_quantity(inputs, name, weights)
        errors = np.abs(np.array([found.raw, found.corrected, found.midpoint]) - truth)
        violations += int(errors[1] > found.bound) + int(errors[2] > found.midpoint_bound)
        rows.append(np.array([*errors, found.bound, found.midpoint_bound]) / abs(truth))
    raw, corrected, midpoint, bound, midpoint_bound = np.median(rows, axis=0)
    return {
        "cases": count, "violations": violations, "raw_median": float(raw), "corrected_median": float(corrected),
        "midpoint_median": float(midpoint), "bound_median": float(bound), "midpoint_bound_median": float(midpoint_bound),
    }  # fmt: skip


def random_box(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Equal weights on a box of an eighth to a half of each axis."""
    weights = np.zeros(shape)
    place = []
    for points in shape:
        width = int(generator.integers(points // 8, points // 2))
        start = int(generator.integers(1, points - width))
        place.append(slice(start, start + width))
    weights[tuple(place)] = 1.0
    return weights / weights.sum()
