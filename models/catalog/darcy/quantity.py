"""Linear quantities of Darcy flow with a guaranteed remainder, by an approximate adjoint solution.

    Q(w) = ∫ f_d w,   −div(a ∇z) = f_d,   R_v(w) = (f, w) − (a ∇v, ∇w)
    corrected   Q_c = Q(v) + R_v(z_h),                            |Q(u) − Q_c| ≤ M M_d
    midpoint    Q_m = Q_c + ½ ∫ a⁻¹ (q − a∇v)·(q_d − a∇z_h),      |Q(u) − Q_m| ≤ ½ M M_d

f_d is constant on the control volume of each node: the weight of the node over its area. z_h comes from a few
conjugate-gradient steps on the half cells of `bound.py`, any z_h will do; M, M_d are the energy bounds of v and z_h with
their equilibrated fluxes q, q_d. For the midpoint Prager & Synge put a∇u on a sphere around ½(q + a∇v). What the fluxes
lack of equilibrium, ε = (C_F/√a_min) ‖f + div q‖, is rounding and is added: ½(M ε_d + M_d ε) more.
Source: Ainsworth & Oden, "A posteriori error estimation in finite element analysis" (2000), §8.
"""

import numpy as np
from jaxtyping import Float

from models.catalog.darcy import bound
from models.errors import OutOfRange
from models.numerics import bilinear, raviart_thomas
from models.numerics.conjugate_gradients import conjugate_gradient_steps
from models.numerics.control_volumes import control_volumes, interpolate
from models.numerics.sine_transform import solve_bilinear_nodes
from models.physical_model import Arrays, CorrectedQuantity

DUAL_STEPS = 20
DUAL_GAIN = 1e-4  # steps end when one lowers the squared energy error by less than this share of |||z_h|||²
FINE_GAIN = 1e-14
MOST_STEPS = 500
HALVINGS = 2

Weights = Float[np.ndarray, "x y"]


def _density(weights: Weights) -> bilinear.Cells:
    """The weights over the area of each node's control volume, on the half cells."""
    halves = np.ones(weights.shape[0])
    halves[[0, -1]] = 0.5
    area = np.multiply.outer(halves, halves) / (weights.shape[0] - 1) ** 2
    return control_volumes(weights / area)


def _solve(coefficient: bilinear.Cells, source: bilinear.Cells, gain: float, most: int) -> bilinear.Nodes:
    """Q1 approximation of −div(a ∇z) = source, zero on the boundary."""

    def apply(inner: np.ndarray) -> np.ndarray:
        return bilinear.apply_stiffness(np.pad(inner, 1), coefficient)[1:-1, 1:-1]

    load = bilinear.cell_load(source)[1:-1, 1:-1]
    found, energy = np.zeros_like(load), 0.0
    steps = conjugate_gradient_steps(apply, solve_bilinear_nodes, load, np.zeros_like(load))
    for count, step in enumerate(steps, start=1):
        found, energy = step.values, energy + step.energy_drop
        if step.energy_drop <= gain * energy or count == most:
            break
    return np.pad(found, 1)


def _cross(
    first: bound.Certificate, second: bound.Certificate, values: bilinear.Nodes, dual: bilinear.Nodes,
    coefficient: bilinear.Cells,
) -> float:  # fmt: skip
    """∫ a⁻¹ (q − a∇v)·(q_d − a∇z_h) by polarisation, the second scaled to the size of the first."""
    if first.upper == 0.0 or second.upper == 0.0:
        return 0.0
    scale = first.upper / second.upper
    total = 0.0
    for sign in (1.0, -1.0):
        factor = sign * scale
        flux = raviart_thomas.Flux(
            first.flux.along_x + factor * second.flux.along_x, first.flux.along_y + factor * second.flux.along_y
        )
        gradient = bilinear.gradient(values + factor * dual)
        squared = raviart_thomas.constitutive_error_squared(flux, gradient, coefficient)
        total += sign * float(squared.sum())
    return total / (4.0 * scale)


def corrected(inputs: Arrays, outputs: Arrays, field: str, weights: Weights) -> CorrectedQuantity:
    """Σ w u with its guaranteed remainders.

    Raises OutOfRange when the boundary values are not zero: the theorem needs them so.
    """
    nodal, pressure = (np.asarray(v, dtype=np.float64) for v in (inputs["permeability"], outputs[field]))
    if np.any(pressure[[0, -1]]) or np.any(pressure[:, [0, -1]]):
        raise OutOfRange("pressure", "exactly zero on the boundary", "other boundary values")
    coefficient, density = control_volumes(nodal), _density(weights)
    source = np.ones_like(coefficient)
    values = interpolate(pressure, nodal)
    dual = _solve(coefficient, density, DUAL_GAIN, DUAL_STEPS)
    own, adjoint = bound.certificate(values, coefficient, source), bound.certificate(dual, coefficient, density)
    raw = float(np.vdot(bilinear.cell_load(density), values))
    residual = bilinear.cell_load(source) - bilinear.apply_stiffness(values, coefficient)
    value = raw + float(np.vdot(residual, dual))
    product = own.upper * adjoint.upper
    rounding = 0.5 * (own.imbalance * adjoint.upper + own.upper * adjoint.imbalance)
    return CorrectedQuantity(
        raw, value, product, value + 0.5 * _cross(own, adjoint, values, dual, coefficient), 0.5 * product + rounding,
        "each node's weight times the mean pressure over its control volume",
        f"continuum, permeability constant on the control volume (side 1/{nodal.shape[0] - 1}) of each node",
        ("boundary values exact", "up to floating point"),
    )  # fmt: skip


def fine_quantity(inputs: Arrays, field: str, weights: Weights) -> float:
    """Q of the Q1 solution on a quarter of the half cells' width.

    Its distance to Q_c and Q_m obeys the same bounds exactly: it is the Galerkin projection of u on a mesh that v nests in.
    """
    block = np.ones((2**HALVINGS, 2**HALVINGS))
    coefficient = np.kron(control_volumes(np.asarray(inputs["permeability"], dtype=np.float64)), block)
    solution = _solve(coefficient, np.ones_like(coefficient), FINE_GAIN, MOST_STEPS)
    return float(np.vdot(bilinear.cell_load(np.kron(_density(weights), block)), solution))
