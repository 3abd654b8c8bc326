"""What a catalogue entry declares: equation, fields, sampler, solvers, bound, cases and recipes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.fields import Field
from models.statements import Statement

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """A stream of samples: disjoint splits have different seeds."""

    seed: int
    count: int


@dataclass(frozen=True)
class Recipe:
    """One training run; every number that decides its result."""

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
    gradient_weight: float = 0.5
    scale_weight: float = 1e-3
    warm_up: float = 0.1
    full_precision_share: float = 0.2


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
class PhysicalModel:
    """A catalogue entry. Functions take and return one sample, without a batch axis.

    draw(seed, index, points, family) gives inputs, fine_inputs the same before coarsening, pair inputs and truth;
    solve(inputs) is the fallback on the served grid; statements(inputs, outputs) are the guaranteed ones;
    audit holds the bound against a finer reference; solver_gradient(inputs, field, weights) is ∂(weights·u)/∂inputs
    by the solver's own adjoint; baselines(fine inputs) are classical methods, each returning served-grid values;
    `baseline` is the reference input of explanations; `published` holds errors from the literature.
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
    baseline: float
    published: Mapping[str, float]
    training_family: str
    exact_boundary: int
    draw: Callable[[int, int, int, str], Arrays]
    pair: Callable[[int, int, int, str], tuple[Arrays, Arrays]]
    solve: Callable[[Arrays], Arrays]
    residual: Callable[[Arrays, Arrays], np.ndarray]
    statements: Callable[[Arrays, Arrays], tuple[Statement, ...]]
    relative_bound: Callable[[Arrays, Arrays], float]
    audit: Callable[[Arrays, Arrays], Audit]
    solver_gradient: Callable[[Arrays, str, np.ndarray], Arrays]
    baselines: Callable[[Arrays], Mapping[str, Callable[[], np.ndarray]]]
    fine_inputs: Callable[[int, int, int, str], Arrays]
    cases: tuple[Case, ...]
    recipes: Mapping[str, Recipe]
