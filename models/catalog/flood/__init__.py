"""Flood depth from rain over terrain: ∂h/∂t + ∇·q = r with local inertial momentum, closed edges."""

from models.catalog.flood import (
    baselines,
    bound,
    cases,
    compiled,
    features,
    recipe,
    reference,
    sampler,
    scores,
    shifts,
    spec,
)
from models.physical_model import Arrays, Bound, PhysicalModel


def _truth(points: int) -> str:
    return (
        f"reference solver (staggered local inertial scheme, θ = {reference.THETA:g}, Courant number "
        f"{reference.COURANT:g}) on {points}² cells of {spec.CELL_SIZE:g} m"
    )


def _pair(seed: int, index: int, points: int, family: str) -> tuple[Arrays, Arrays]:
    inputs = sampler.draw(seed, index, points, family)
    return inputs, compiled.solve(inputs)


physical_model = PhysicalModel(
    name="flood",
    title="Flood depth from rain over terrain",
    domain="environment",
    time="forecast",
    equation="∂h/∂t + ∇·q = r, ∂q/∂t + g h ∇(h + z) + g n²|q|q / h^{7/3} = 0, q·normal = 0 on the edges",
    description=" ".join((spec.__doc__ or "").split()),
    licence="Generated events. Terrain: SRTM (NASA, USGS) as shipped with matplotlib; USGS 3 arc-second model of Trinidad, "
    "Colorado, public domain, in the selection of NCAR's libncarg-data (UCAR, BSD-4-clause).",
    truth=_truth,
    inputs=spec.inputs,
    outputs=spec.outputs,
    families=tuple(sampler.FAMILIES),
    held_out=tuple(family for family in sampler.FAMILIES if family != "examples"),
    training_family="training",
    draw=sampler.draw,
    pair=_pair,
    cases=cases.CASES,
    recipes=recipe.RECIPES,
    shifts=shifts.SHIFTS,
    statements=bound.statements,
    baseline={"rain": 0.0},
    bounds=(Bound("depth", "l2", "none"), Bound("depth", "mass", "indicator", relative=True)),
    mean_free=("elevation",),
    transforms={"maximum_depth": "square_root", "depth": "square_root"},
    stored_residuals=(),
    thresholds={"maximum_depth": scores.THRESHOLDS},
    skill=scores.skill,
    headline=("CSI at 0.1 m", "NSE"),
    lead_times=spec.LEAD_TIMES,
    features=features.FEATURES,
    scores=scores.scores,
    solve=compiled.solve,
    solves_truth=True,
    baselines=baselines.methods,
    fine_inputs=sampler.draw,
)
