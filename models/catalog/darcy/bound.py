"""Guaranteed energy-norm bound for Darcy flow by an equilibrated flux.

    |||u − v|||² = ∫ a |∇(u − v)|² ≤ M²,   M = (Σ_K η_K²)^{1/2} + (C_F/√a_min) ‖f + div q‖,
    η_K = ‖a^{−1/2}(q − a∇v)‖_K,  q ∈ H(div),  C_F = 1/(π√2)

for every v ∈ H¹₀ (Prager & Synge 1947; Repin, "A posteriori estimates for PDEs", 2008, §3.2). u is the continuum
solution of −div(a∇u) = f, u = 0 on ∂Ω, with a and f constant on the control volume of each node: on cells of half the
grid spacing both are cellwise constant, so no oscillation term remains. v interpolates the nodal values on those half
cells; between nodes of different permeability the interpolation is flux-continuous, which removes most of the
interpolation error of a plain bilinear one. The last term is zero in exact arithmetic (q is equilibrated) and is
always computed, so a faulty solve can only loosen the bound. Everything is float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float

from models.errors import OutOfRange
from models.numerics import bilinear, raviart_thomas
from models.numerics.conjugate_gradients import conjugate_gradient_steps
from models.numerics.control_volumes import control_volumes, interpolate
from models.numerics.sine_transform import solve_bilinear_neumann, solve_bilinear_nodes
from models.physical_model import Audit
from models.statements import Kind, Statement, nothing

FRIEDRICHS = 1.0 / (np.pi * np.sqrt(2.0))
TIGHTENING_STEPS = 12
TIGHTENING_GAIN = 0.08  # steps go on while one lowers M² by this share: one step at contrast 4, several at 300

INTERPOLATED = "between nodes the answer is the flux-continuous interpolation of its nodal values"

Nodal = Float[np.ndarray, "x y"]


@dataclass(frozen=True)
class EnergyBound:
    """`lower` ≤ |||u − v||| ≤ `upper`; `energy` is |||v|||."""

    lower: float
    upper: float
    energy: float

    @property
    def relative(self) -> float | None:
        """Bound on |||u−v||| / |||u|||, or None when the bound exceeds |||v|||."""
        return self.upper / (self.energy - self.upper) if self.upper < self.energy else None


def _constitutive_bound(
    flux: raviart_thomas.Flux, gradient: raviart_thomas.Gradient, coefficient: bilinear.Cells, most_steps: int
) -> tuple[float, raviart_thomas.Flux]:
    """(Σ η_K²)^{1/2} for the least q + curl ψ that at most `most_steps` steps find, for as long as they pay."""
    resistance = 1.0 / coefficient
    mismatch = raviart_thomas.constitutive_error(flux, gradient, coefficient)
    load = raviart_thomas.curl_load(mismatch, coefficient)
    iterates = conjugate_gradient_steps(
        lambda stream: bilinear.apply_stiffness(stream, resistance),
        solve_bilinear_neumann,
        load,
        np.zeros_like(load),
    )
    best, size = flux, np.inf
    for count, step in enumerate(islice(iterates, most_steps), start=1):
        if count in (1, most_steps) or step.energy_drop <= TIGHTENING_GAIN * size:
            # evaluated from the flux itself, not from the drops: nothing but the theorem is relied on
            best = raviart_thomas.add_curl(flux, step.values)
            mismatch = raviart_thomas.constitutive_error(best, gradient, coefficient)
            size = float(np.vdot(mismatch, mismatch))
            if step.energy_drop <= TIGHTENING_GAIN * size:
                break
    return float(np.sqrt(np.vdot(mismatch, mismatch))), best


@dataclass(frozen=True)
class Certificate:
    """M = `constitutive` + `imbalance`, and the equilibrated flux that gives it."""

    constitutive: float
    imbalance: float
    flux: raviart_thomas.Flux

    @property
    def upper(self) -> float:
        """M."""
        return self.constitutive + self.imbalance


def certificate(
    values: bilinear.Nodes,
    coefficient: bilinear.Cells,
    source: bilinear.Cells,
    tightening_steps: int = TIGHTENING_STEPS,
) -> Certificate:
    """M of a Q1 function, zero on the boundary, for coefficient and source constant on its cells."""
    gradient = bilinear.gradient(values)
    flux = raviart_thomas.equilibrate(raviart_thomas.harmonic_flux(gradient, coefficient), source)
    constitutive, flux = _constitutive_bound(flux, gradient, coefficient, tightening_steps)
    width = 1.0 / coefficient.shape[0]
    defect = width * float(np.linalg.norm(source + flux.divergence(width)))
    return Certificate(constitutive, FRIEDRICHS / float(np.sqrt(coefficient.min())) * defect, flux)


def _error_reductions(values: bilinear.Nodes, coefficient: bilinear.Cells, source: bilinear.Cells) -> Iterator[float]:
    """α_k ρ_k of conjugate gradients on the half cells, started from v: each is energy that v certainly misses."""

    def apply(inner: np.ndarray) -> np.ndarray:
        return bilinear.apply_stiffness(np.pad(inner, 1), coefficient)[1:-1, 1:-1]

    residual = (bilinear.cell_load(source) - bilinear.apply_stiffness(values, coefficient))[1:-1, 1:-1]
    steps = conjugate_gradient_steps(apply, solve_bilinear_nodes, residual, np.zeros_like(residual))
    return (step.energy_drop for step in steps)


def _lower_bound(residual: Float[np.ndarray, "inner_x inner_y"], coefficient: bilinear.Cells) -> float:
    """(r, w)/|||w||| for w = M⁻¹r: |||u−v||| = sup over w of ((f, w) − (a∇v, ∇w))/|||w|||, so any w gives a bound."""
    test = solve_bilinear_nodes(residual)
    size = bilinear.energy_squared(np.pad(test, 1), coefficient)
    return float(np.vdot(residual, test)) / float(np.sqrt(size)) if size > 0.0 else 0.0


def energy_bound(
    pressure: Nodal,
    permeability: Nodal,
    source: Nodal | float = 1.0,
    tightening_steps: int = TIGHTENING_STEPS,
    with_lower: bool = True,
) -> EnergyBound:
    """Two-sided bound for nodal `pressure`, zero on the boundary; valid for any number of steps.

    Raises OutOfRange when the boundary values are not zero or the permeability is not positive: the theorem needs both.
    """
    if np.any(pressure[[0, -1]]) or np.any(pressure[:, [0, -1]]):
        raise OutOfRange("pressure", "exactly zero on the boundary", "other boundary values")
    if not np.all(permeability > 0.0):
        raise OutOfRange("permeability", "positive", f"minimum {np.min(permeability):g}")
    nodal = np.asarray(permeability, dtype=np.float64)
    load = control_volumes(np.broadcast_to(np.asarray(source, dtype=np.float64), nodal.shape))
    values = interpolate(np.asarray(pressure, dtype=np.float64), nodal)
    return function_bound(values, control_volumes(nodal), load, tightening_steps, with_lower)


def function_bound(
    values: bilinear.Nodes,
    coefficient: bilinear.Cells,
    source: bilinear.Cells,
    tightening_steps: int = TIGHTENING_STEPS,
    with_lower: bool = True,
) -> EnergyBound:
    """Two-sided bound for any Q1 function, zero on the boundary, on cells of constant coefficient and source."""
    upper = certificate(values, coefficient, source, tightening_steps).upper
    energy_load = bilinear.apply_stiffness(values, coefficient)
    energy = float(np.sqrt(max(np.vdot(values, energy_load), 0.0)))
    if not with_lower:
        return EnergyBound(0.0, upper, energy)
    residual = (bilinear.cell_load(source) - energy_load)[1:-1, 1:-1]
    return EnergyBound(_lower_bound(residual, coefficient), upper, energy)


def truth(permeability: Nodal) -> str:
    """What the guaranteed statements measure against."""
    cells = permeability.shape[0] - 1
    return f"continuum, permeability constant on the control volume (side 1/{cells}) of each node"


def norms_from_energy(
    found: EnergyBound, lowest: float, kind: Kind, against: str, assumptions: tuple[str, ...]
) -> tuple[Statement, ...]:
    """What a bound in the energy norm says: absolute, relative, and in L2; `lowest` is the least permeability."""
    energy = Statement("pressure", "energy", found.upper, kind, None, against, assumptions, lower=found.lower)
    friedrichs = "energy bound times the Friedrichs constant 1/(π√(2 a_min))"
    l2 = Statement(
        "pressure", "l2", FRIEDRICHS / float(np.sqrt(lowest)) * found.upper, kind, None, against,
        (friedrichs, *assumptions[1:]),
    )  # fmt: skip
    if found.relative is None:
        reason = "the bound exceeds the energy of the answer itself"
        return energy, replace(nothing("pressure", "energy", against, reason), relative=True), l2
    return energy, replace(energy, value=found.relative, relative=True, lower=None), l2


def statements(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> tuple[Statement, ...]:
    """The guaranteed statements about one answer: energy norm, relative energy norm, L2 norm."""
    permeability = inputs["permeability"]
    result = energy_bound(outputs["pressure"], permeability)
    assumptions = ("boundary values exact", INTERPOLATED)
    return norms_from_energy(result, float(permeability.min()), "guaranteed", truth(permeability), assumptions)


def distances(
    inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> dict[str, float]:
    """|||v − w||| of the functions that two answers stand for."""
    nodal = np.asarray(inputs["permeability"], dtype=np.float64)
    apart = outputs["pressure"].astype(np.float64) - others["pressure"]
    return {"energy": float(np.sqrt(bilinear.energy_squared(interpolate(apart, nodal), control_volumes(nodal))))}


def relative_bound(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> float:
    """M(v)/|||v|||, a validity feature that sees input and answer together; no lower bound is computed."""
    result = energy_bound(outputs["pressure"], inputs["permeability"], with_lower=False)
    return result.upper / result.energy


def _energy_gains(values: bilinear.Nodes, coefficient: bilinear.Cells, refinements: int) -> list[float]:
    """2(J(v) − J_r) for the Q1 minimiser J_r on r = 0 … refinements halvings: lower bounds of |||u−v|||²."""
    gains = []
    for level in range(refinements + 1):
        if level:
            values, coefficient = bilinear.prolong(values), np.kron(coefficient, np.ones((2, 2)))
        total = 0.0
        for drop in _error_reductions(values, coefficient, np.ones_like(coefficient)):
            total += drop
            if drop < 1e-6 * total:
                break
        gains.append(total)
    return gains


def audit(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Audit:
    """Compare the bound with the error against Q1 solutions on up to 8 times the served resolution.

    J on any mesh is at least J(u), so the finest gain under-estimates the squared error: a bound below it is violated,
    with no tolerance. Only the efficiency index uses the Richardson extrapolation of the three gains.
    """
    permeability = np.asarray(inputs["permeability"], dtype=np.float64)
    result = energy_bound(outputs["pressure"], permeability)
    values = interpolate(np.asarray(outputs["pressure"], dtype=np.float64), permeability)
    coarse, middle, fine = _energy_gains(values, control_volumes(permeability), 2)
    ratio = float(np.clip((middle - coarse) / max(fine - middle, 1e-300), 1.5, 4.0))
    extrapolated = fine + (fine - middle) / (ratio - 1.0)
    return Audit(result.upper, result.lower, float(np.sqrt(fine)), float(np.sqrt(extrapolated)), result.energy)
