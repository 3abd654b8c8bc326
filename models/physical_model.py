"""What a catalogue entry declares: equation, fields, sampler, solvers, bound, cases and recipes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from models.fields import Field, LeadTimes
from models.statements import Kind, Statement

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """A stream of samples: disjoint splits have other seeds, or other families (periods) where data are real.

    `family` None is the model's training family.
    """

    seed: int
    count: int
    family: str | None = None


def usual_splits(
    train: int, validation: int, test: int, calibration: int, tune: int, held_out: int
) -> dict[str, Split]:
    """So many samples of each split of generated data, every split from a stream of its own."""
    return {
        "train": Split(0, train),
        "validation": Split(1, validation),
        "test": Split(2, test),
        "calibration": Split(3, calibration),
        "tune": Split(4, tune),
        "held_out": Split(10, held_out),
    }


@dataclass(frozen=True)
class KeptResiduals:
    """Residuals of one output that ship: those of the first `cases` of the calibration split.

    `lead_times` are those at which they are kept: of a graph that takes its lead time as an input, or of a field with
    that axis, which is otherwise kept whole.
    """

    cases: int
    lead_times: tuple[float, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One training run; every number that decides its result.

    `settings` are the architecture's own; `window` samples are held in memory at a time; `initial` is the preset whose
    trained weights this one starts from; `bundle` is the name under which it is served, by default the model's;
    `detectors` are the inputs that the validity test is fitted to, by default the first of `train`;
    `residuals` are kept by output, beside those of the model's `stored_residuals`, as far as the bundle's size allows.
    """

    points: int
    splits: Mapping[str, Split]
    unlabelled: Split
    principal_components: int
    architecture: str
    settings: Mapping[str, int | float]
    members: int
    epochs: int
    batch: int
    seed: int = 0
    muon_rate: float = 0.01
    adam_rate: float = 3e-3
    weight_decay: float = 1e-5
    window: int = 8192
    initial: str | None = None
    bundle: str | None = None
    detectors: Split | None = None
    warm_up: float = 0.1
    full_precision_share: float = 0.2
    residuals: Mapping[str, KeptResiduals] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Trust material: inputs with a known answer, its tolerance, the reason for it and its source."""

    name: str
    solve: Callable[[int], np.ndarray]
    exact: Callable[[int], np.ndarray]
    points: tuple[int, ...]
    tolerance: float
    order: float | None
    source: str


@dataclass(frozen=True)
class Audit:
    """A guaranteed bound held against a much finer reference.

    `error_floor` certainly does not exceed the true error; `error` is its best estimate; `size` is the answer's norm.
    """

    upper: float
    lower: float
    error_floor: float
    error: float
    size: float


@dataclass(frozen=True)
class CorrectedQuantity:
    """A linear quantity Q with guaranteed remainders: |Q(u) − corrected| ≤ `bound`, |Q(u) − midpoint| ≤ `midpoint_bound`.

    `raw` is Q of the answer itself; `quantity` says what Q is, where it differs from a sum of nodal values.
    """

    raw: float
    corrected: float
    bound: float
    midpoint: float
    midpoint_bound: float
    quantity: str
    truth: str
    assumptions: tuple[str, ...]

    @property
    def reading(self) -> str:
        """The claim in one sentence, for somebody who has read none of the papers."""
        return (
            f"Whatever the input, the sum over all nodes of {self.quantity} differs from {self.midpoint:.6g} by at most "
            f"{self.midpoint_bound:.3g}, measured against the exact solution of the equation; this is a theorem."
        )

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self) | {"assumptions": list(self.assumptions), "kind": "guaranteed", "reading": self.reading}


@dataclass(frozen=True)
class Features:
    """Fields computed from a batch of inputs that the graph takes after them, and their exact derivatives.

    of(inputs) gives them by name; push(inputs, tangents) their derivative J t; pull(inputs, cotangents) gives Jᵀw for the
    inputs they depend on. For what a convolution cannot see from nearby, such as where water collects.
    """

    names: tuple[str, ...]
    of: Callable[[Arrays], Arrays]
    push: Callable[[Arrays, Arrays], Arrays]
    pull: Callable[[Arrays, Arrays], Arrays]


@dataclass(frozen=True)
class Summary:
    """Numbers drawn from a batch of inputs that say more about each other than each by itself, (batch, number).

    What joins several inputs, such as winds and the pressures that drive them, and their spread and steadiness; all finite
    whatever the inputs. The validity test asks whether one of them contradicts the rest.
    """

    labels: tuple[str, ...]
    of: Callable[[Arrays], np.ndarray]


@dataclass(frozen=True)
class Bound:
    """A statement that answers carry about one output, or the statement that there is none (kind `none`).

    `timed`: one for each lead time on the output's axis.
    """

    quantity: str
    norm: str
    kind: Kind
    relative: bool = False
    timed: bool = False


@dataclass(frozen=True)
class Improved:
    """A better answer and what is certain about it, `iterations` after the one before.

    A further iteration multiplies the distance to the discrete solution by `rate` or less; `is_converged` when that
    distance hardly counts in the error any more.
    """

    outputs: Arrays
    statements: tuple[Statement, ...]
    iterations: int = 1
    rate: float = 1.0
    is_converged: bool = False


@dataclass(frozen=True)
class Corrector:
    """Lowers the error of an answer step by step, and knows after every step what is left.

    steps(inputs, outputs, statements) yields first the answer itself, with what only the corrector can say about it,
    then better ones; `statements` are those of the mathematics about `outputs`. solve(inputs) gives what the steps tend
    to, at a cost that does not depend on the inputs; refine(inputs, outputs) goes on from there on a grid of half the
    width, once. `offers` lists what is stated beyond the model's `bounds`.
    """

    steps: Callable[[Arrays, Arrays, tuple[Statement, ...]], Iterator[Improved]]
    solve: Callable[[Arrays], Improved]
    refine: Callable[[Arrays, Arrays], Improved]
    offers: tuple[Bound, ...]


@dataclass(frozen=True, kw_only=True)
class PhysicalModel:
    """A catalogue entry. Functions take and return one sample, without a batch axis.

    draw(seed, index, points, family) gives inputs, pair inputs and truth. Where lead times are an input of the graph
    (`lead_times.input`), neither has that input and every truth has a leading axis of `lead_times.values`.
    statements(inputs, outputs) are those of the mathematics; with lead times as input, both carry ascending times, those
    of `bound_times(requested)`, and each statement names its lead time.
    `bounds` lists them. scores(inputs, means, deviations, truths) are the model's own accuracy figures of a whole split (batch axis first).

    Only some physics can give the rest, None elsewhere: `features` are computed before the graph runs; `summary` is
    watched by the validity test beside the inputs; solve(inputs) is the fallback on the served grid,
    at one lead time or several ascending ones where they are an input, and `solves_truth` says that its answer is the
    truth the model was trained on; `corrector` is what the tolerance contract turns to first;
    distances(inputs, outputs, others) are lower bounds, by norm, of how far two answers are apart, in norms of `bounds`;
    relative_bound(inputs, outputs) joins the validity detectors; audit holds the bound against a finer reference;
    solver_gradient(inputs, field, weights) is ∂(weights·u)/∂inputs by the solver's own adjoint;
    corrected(inputs, outputs, field, weights) is weights·u with a guaranteed remainder, by an adjoint of its own, and
    fine_quantity(inputs, field, weights) the same of a finer reference;
    fine_inputs are inputs before coarsening and baselines(fine inputs) classical methods, each returning served-grid
    values. `baseline` is the constant reference input of explanations, by field; `published` holds errors from the
    literature; `exact_boundary` counts rings of nodes that carry no error by construction; `mean_free` names inputs on whose
    mean the answer does not depend; `transforms` names the map in which a field's errors are symmetric (identity);
    `stored_residuals` names the outputs whose calibration residuals ship (None: all); `thresholds` are those whose
    exceedance the report checks; `headline` the scores shown in tables of models; `audits` how many bounds of each family it audits; blocks(inputs) numbers samples that
    depend on each other; `held_out` the families reported on; skill(found, truth) scores classical answers for the first
    output beyond relative L2; comparison(inputs, truths) are the scores of statistical baselines; `notes` go on the card;
    `source` is where other processes find a model that is not in the catalogue; `shifts` are the laws, fixed beforehand, on
    which the power of the validity test is measured, each drawn as (seed, index, points) gives inputs.
    """

    name: str
    title: str
    domain: Literal["pde", "environment", "imaging"]
    time: Literal["steady", "forecast"]
    equation: str
    description: str
    licence: str
    truth: Callable[[int], str]
    inputs: Callable[[int], tuple[Field, ...]]
    outputs: Callable[[int], tuple[Field, ...]]
    families: tuple[str, ...]
    training_family: str
    draw: Callable[[int, int, int, str], Arrays]
    pair: Callable[[int, int, int, str], tuple[Arrays, Arrays]]
    cases: tuple[Case, ...]
    recipes: Mapping[str, Recipe]
    statements: Callable[[Arrays, Arrays], tuple[Statement, ...]]
    bounds: tuple[Bound, ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""
    source: str = ""
    exact_boundary: int = 0
    mean_free: tuple[str, ...] = ()
    transforms: Mapping[str, str] = field(default_factory=dict)
    stored_residuals: tuple[str, ...] | None = None
    lead_times: LeadTimes | None = None
    held_out: tuple[str, ...] = ()
    thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    audits: Mapping[str, int] = field(default_factory=dict)
    headline: tuple[str, ...] = ()
    blocks: Callable[[Arrays], np.ndarray] | None = None
    scores: Callable[[Arrays, Arrays, Arrays, Arrays], Mapping[str, float]] | None = None
    skill: Callable[[np.ndarray, np.ndarray], Mapping[str, float]] | None = None
    comparison: Callable[[Arrays, Arrays, Arrays, Arrays], Mapping[str, Mapping[str, float]]] | None = None
    bound_times: Callable[[np.ndarray], np.ndarray] | None = None
    features: Features | None = None
    summary: Summary | None = None
    solve: Callable[[Arrays], Arrays] | None = None
    solves_truth: bool = False
    corrector: Corrector | None = None
    distances: Callable[[Arrays, Arrays, Arrays], Mapping[str, float]] | None = None
    residual: Callable[[Arrays, Arrays], np.ndarray] | None = None
    relative_bound: Callable[[Arrays, Arrays], float] | None = None
    audit: Callable[[Arrays, Arrays], Audit] | None = None
    solver_gradient: Callable[[Arrays, str, np.ndarray], Arrays] | None = None
    corrected: Callable[[Arrays, Arrays, str, np.ndarray], CorrectedQuantity] | None = None
    fine_quantity: Callable[[Arrays, str, np.ndarray], float] | None = None
    baselines: Callable[[Arrays], Mapping[str, Callable[[], np.ndarray]]] | None = None
    fine_inputs: Callable[[int, int, int, str], Arrays] | None = None
    shifts: Mapping[str, Callable[[int, int, int], Arrays]] = field(default_factory=dict)

    def completed(self, inputs: Arrays) -> Arrays:
        """A batch of inputs with the features that the graph takes after them."""
        return inputs if self.features is None else inputs | self.features.of(inputs)
