"""Viscous Burgers equation: ∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x² on the unit circle."""

from models.catalog.burgers import baselines, bound, cases, recipe, reference, sampler, scores, shifts, spec
from models.physical_model import Arrays, Bound, PhysicalModel


def _truth(points: int) -> str:
    return (
        f"reference solver (Fourier pseudo-spectral, Runge–Kutta 4 with integrating factor), as fine as the thinnest front "
        f"needs, for the trigonometric interpolant of {points} initial values; relative L2 error below 1e-5"
    )


def _pair(seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
    inputs = sampler.draw(seed, index, points, family)
    return inputs, reference.solve_sample(inputs | {"time": spec.LEAD_TIMES.values})


physical_model = PhysicalModel(
    name="burgers",
    title="Viscous Burgers equation",
    domain="pde",
    time="forecast",
    equation="∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x² on x in [0, 1) periodic, u(0, x) = u₀(x)",
    description=" ".join((spec.__doc__ or "").split()),
    licence="Generated data, no third-party rights; input law of arXiv 2103.10974 and 2111.03794, as their script draws it.",
    truth=_truth,
    inputs=spec.inputs,
    outputs=spec.outputs,
    families=tuple(sampler.FAMILIES),
    training_family="pino",
    held_out=tuple(sampler.FAMILIES),
    baseline={"initial_velocity": 0.0, "viscosity": 0.01, "time": 0.0},
    published={
        "PI-DeepONet, ν = 0.01 (arXiv 2103.10974)": 0.0138,
        "PINO, ν = 0.01 (arXiv 2111.03794)": 0.0037,
    },
    notes="Published figures are for ν = 0.01 alone and for their files: same law here, other draws. No speed is claimed: "
    "a spectral solver on 32 points is as accurate at ν ≥ 0.01, on 128 to 256 points at ν = 0.001. The guaranteed bound "
    "compares the answer with a coarse solve and bounds that solve by its residual, so it costs a solve: it certifies.",
    draw=sampler.draw,
    pair=_pair,
    solve=reference.solve_sample,
    solves_truth=True,
    statements=bound.statements,
    bounds=(Bound("velocity", "primitive_oscillation", "guaranteed"), Bound("velocity", "l1", "guaranteed")),
    bound_times=bound.bound_times,
    stored_residuals=(),
    distances=bound.distances,
    audit=bound.audit,
    audits={
        "pino": 500,
        "viscosity_5e-4": 20,
        "viscosity_0.2": 40,
        "rough": 60,
        "two_sines": 40,
        "smoothed_step": 40,
    },
    baselines=baselines.methods,
    fine_inputs=sampler.draw,
    scores=scores.scores,
    lead_times=spec.LEAD_TIMES,
    cases=cases.CASES,
    recipes=recipe.RECIPES,
    shifts=shifts.SHIFTS,
)
