"""Darcy flow: −∇·(a∇u) = 1 on the unit square, u = 0 on the boundary."""

from models.catalog.darcy import bound, cases, recipe, reference, sampler, spec
from models.physical_model import Arrays, PhysicalModel

STRIDE = 5


def _draw(seed: int, index: int, points: int, family: str) -> Arrays:
    fine = sampler.draw(seed, index, STRIDE * (points - 1) + 1, family)
    return {"permeability": fine[::STRIDE, ::STRIDE]}


def _pair(seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
    fine = sampler.draw(seed, index, STRIDE * (points - 1) + 1, family)
    pressure = reference.solve(fine, face_mean="arithmetic")
    return {"permeability": fine[::STRIDE, ::STRIDE]}, {"pressure": pressure[::STRIDE, ::STRIDE]}


physical_model = PhysicalModel(
    name="darcy",
    title="Darcy flow through a two-phase medium",
    domain="pde",
    time="steady",
    equation="−∇·(a ∇u) = 1 in (0,1)², u = 0 on the boundary",
    description=" ".join((spec.__doc__ or "").split()),
    licence="Generated data, no third-party rights; input law of arXiv 2010.08895.",
    truth="reference solver (five-point, arithmetic face means) at h = 1/420, medium known on all of its 421² nodes",
    inputs=spec.inputs,
    outputs=spec.outputs,
    families=tuple(sampler.FAMILIES),
    training_family="two_phase",
    exact_boundary=1,
    draw=_draw,
    pair=_pair,
    solve=lambda inputs: {"pressure": reference.solve(inputs["permeability"])},
    residual=lambda inputs, outputs: reference.residual(inputs["permeability"], outputs["pressure"]),
    statements=bound.statements,
    relative_bound=bound.relative_bound,
    solver_gradient=reference.gradient,
    cases=cases.CASES,
    recipes=recipe.RECIPES,
)
