"""Heat conduction: ∂u/∂t = ∇·(a∇u) on the unit square, u = 0 on the boundary."""

from models.catalog.heat import baselines, bound, cases, recipe, reference, sampler, scores, shifts, spec
from models.physical_model import Arrays, Bound, PhysicalModel

NOTES = """**Read before comparing.** The network is not a pure FNO. Its graph solves the equation in the 100 lowest sine modes
(matrix products, exact in time for the served medium), and a small Fourier neural operator with a scale head corrects
the result. So most of the accuracy is classical; the network's part is the correction, the calibrated local scale of the
error, and derivatives in one graph. What the guaranteed bound mostly sees is the interpolation between the nodes: no
answer on this grid could have a much smaller one in energy. In L2 the bound is guaranteed too but loose. No speed is
claimed."""


def _truth(points: int) -> str:
    cells = reference.REFINEMENT * (points - 1)
    return (
        f"reference solver (bilinear elements at h = 1/{cells}, rational Krylov in time) for the diffusivity that is "
        "constant on each node's control volume; relative L2 error 6e-4"
    )


def _pair(seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
    inputs = sampler.draw(seed, index, points, family)
    return inputs, reference.solve_sample(inputs)


physical_model = PhysicalModel(
    name="heat",
    title="Heat conduction in a varying medium",
    domain="pde",
    time="forecast",
    equation="∂u/∂t = ∇·(a ∇u) in (0,1)², u = 0 on the boundary, u(0) = u₀",
    description=" ".join((spec.__doc__ or "").split()),
    licence="Generated data, no third-party rights.",
    truth=_truth,
    inputs=spec.inputs,
    outputs=spec.outputs,
    families=tuple(sampler.FAMILIES),
    training_family="smooth",
    held_out=tuple(sampler.FAMILIES),
    baseline={"diffusivity": 1.0, "initial_temperature": 0.0},
    notes=NOTES,
    stored_residuals=(),
    draw=sampler.draw,
    pair=_pair,
    solve=reference.solve_sample,
    statements=bound.statements,
    bounds=(
        Bound("temperature", "space_time_energy", "guaranteed"),
        Bound("temperature", "space_time_energy", "guaranteed", relative=True),
        Bound("temperature", "l2", "guaranteed", timed=True),
    ),
    relative_bound=bound.relative_bound,
    distances=bound.distances,
    audit=bound.audit,
    audits={
        "smooth": 500,
        "constant": 90,
        "contrast_4": 90,
        "contrast_12": 90,
        "contrast_50": 80,
        "two_phase": 80,
        "rough_initial": 80,
    },
    baselines=baselines.methods,
    fine_inputs=sampler.draw,
    scores=scores.scores,
    lead_times=spec.LEAD_TIMES,
    cases=cases.CASES,
    recipes=recipe.RECIPES,
    shifts=shifts.SHIFTS,
)
