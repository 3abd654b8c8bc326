"""The explanation of one sample: computed, then held against what it should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.explanation import attribution, checks
from models.explanation.attribution import DIFFERENTIATING, Attribution
from models.explanation.functional import Functional
from models.explanation.grid import Grid
from models.explanation.plan import Plan, Request, make_plan
from models.explanation.quantities import Quantity
from models.explanation.statement import Interval, interval
from models.explanation.warnings import warnings_of
from models.physical_model import Arrays, CorrectedQuantity
from models.surrogate import Clock, Prediction, Question, Surrogate
from models.validity import Validity


@dataclass(frozen=True)
class Response:
    """A given change of the inputs: first-order response and true one, of the mean and of the members."""

    linear: float
    true: float
    deviation: float | None

    @property
    def relative_gap(self) -> float | None:
        """|linear − true| / |true|."""
        return abs(self.linear - self.true) / abs(self.true) if self.true else None


@dataclass(frozen=True)
class Explanation:
    """Everything an explanation says."""

    plan: Plan
    quantity: Quantity
    answer: np.ndarray  # the quantity's field, averaged over its lead times
    value: float
    exact_value: float
    baseline_value: float | None
    interval: Interval
    corrected: CorrectedQuantity | None
    attribution: Attribution
    response: Response | None
    checks: Mapping[str, Any]
    validity: Validity
    warnings: tuple[str, ...] = field(default=())


def explain(
    surrogate: Surrogate, inputs: Mapping[str, np.ndarray], request: Request, clock: Clock | None = None
) -> Explanation:
    """Explain one sample; `clock` may have begun before.

    Raises InvalidInput in one of its forms, NotOffered.
    """
    clock = clock or Clock()
    plan = make_plan(surrogate, inputs, request)
    clock.mark("validate")
    row = {item.name: plan.sample[item.name][None] for item in plan.fields}
    functional = Functional(surrogate, plan.sample, plan.quantity, exact=request.method not in DIFFERENTIATING)
    answers = functional.answers(row)
    prediction = {
        name: p.every(functional.times - 1, functional.times) for name, p in answers.items()
    }  # the last time's
    clock.mark("run")
    name = plan.quantity.field.name
    quantity, answer = plan.quantity.settled(prediction[name].mean), answers[name]
    functional = replace(functional, quantity=quantity)
    verdict = _verdict(surrogate, plan.sample, prediction)
    clock.mark("validity")
    found, response = _attributed(plan, functional)
    clock.mark("attribution")
    own = found.maps if request.method == "gradient" else None
    measured = checked(plan, replace(functional, exact=False), own)
    clock.mark("checks")
    value = float(functional.values(row).mean[0])
    exact_value = float(quantity.of(answer.mean)[0]) if quantity.has_smooth_form else value
    result = Explanation(
        plan, quantity, quantity.averaged(answer.mean), value, exact_value,
        None if request.method in ("gradient", "what_if") else float(functional.values(plan.baseline.values).mean.mean()),
        interval(surrogate, plan.sample, answer, quantity, exact_value, request.level, verdict.in_domain),
        _corrected(plan, prediction), found, response, measured, verdict,
    )  # fmt: skip
    clock.mark("interval")
    return replace(result, warnings=warnings_of(result))


def _attributed(plan: Plan, functional: Functional) -> tuple[Attribution, Response | None]:
    method = plan.request.method
    if method == "gradient":
        return attribution.gradient(functional, plan.names, plan.regions), None
    if method == "what_if":
        return attribution.what_if(functional, plan.change, plan.names, plan.regions), _response(plan, functional)
    return attribution.averaged(method, functional, plan.baseline, plan.regions), None


def _response(plan: Plan, functional: Functional) -> Response:
    row = {name: plan.sample[name].astype(np.float64)[None] for name in plan.names}
    linear = functional.pushed(row, {name: change[None] for name, change in plan.change.items()})
    both = {name: np.concatenate([values, values + plan.change[name]]) for name, values in row.items()}
    before, after = functional.values(both).mean
    several = linear.members.shape[1] > 1
    deviation = float(linear.members[0].std(ddof=1)) if several else None
    return Response(float(linear.mean[0]), float(after - before), deviation)


def _corrected(plan: Plan, prediction: Mapping[str, Prediction]) -> CorrectedQuantity | None:
    physics = plan.surrogate.physics
    if physics is None or physics.corrected is None or not plan.quantity.is_linear:
        return None
    means = {name: p.mean[0].astype(np.float64) for name, p in prediction.items()}
    inputs = {name: values.astype(np.float64) for name, values in plan.sample.items()}
    return physics.corrected(inputs, means, plan.quantity.field.name, plan.quantity.field_weights)


def _verdict(surrogate: Surrogate, sample: Arrays, prediction: Mapping[str, Prediction]) -> Validity:
    """Bounds are asked for only where they are a validity detector."""
    uses_task = surrogate.domain is not None and surrogate.domain.uses_task
    means = {name: p.mean[0] for name, p in prediction.items()}
    return surrogate.assess(sample, surrogate.certain(sample, means, Question(bounds=uses_task)))


def checked(plan: Plan, functional: Functional, gradient: Mapping[str, Grid] | None = None) -> dict[str, Any]:
    """The checks that derivative graphs allow, of the smooth form; its gradient may be known."""
    if set(plan.surrogate.derivatives_offered) != {"jvp", "vjp"}:
        return {}
    row = {item.name: plan.sample[item.name].astype(np.float64)[None] for item in plan.fields}
    maps = gradient or {name: values[0] for name, values in functional.gradients(row).items()}
    reach = checks.linearity_range(functional, plan.fields, maps)
    noise = {item.name: checks.spectral_noise(item, maps[item.name]) for item in plan.fields}
    return {
        "adjoint_identity": checks.adjoint_identity(plan.surrogate, plan.sample, np.random.default_rng(0)),
        "solver_adjoint_cosine": checks.solver_cosine(plan.surrogate, plan.sample, functional.quantity, maps),
        "linearity": None if reach is None else reach.document(),
        "spectral_noise": {name: share for name, share in noise.items() if share is not None},
    }
