"""How far an answer is from the solution of A x = b, guaranteed, by conjugate gradients started from it.

    Σ_{j<k} α_jρ_j ≤ ‖x − x₀‖²_A ≤ Σ_{j<k} α_jρ_j + γ_kρ_k,      ‖x − x_k‖²_A ≤ γ_kρ_k
    γ₀ = 1/μ,   γ_{j+1} = (γ_j − α_j) / (μ(γ_j − α_j) + β_{j+1}),   β_{j+1} = ρ_{j+1}/ρ_j

for any μ with μM ≤ A, M the preconditioner (Meurant & Tichý, Numerical Algorithms 62, 2013). Certificate and
refinement are one loop. Proven in exact arithmetic; in floating point what lies below FLOOR ‖x₀‖_A is not claimed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.numerics.conjugate_gradients import Operator, conjugate_gradient_steps

FLOOR = 1e-10  # of ‖x₀‖_A: below it rounding decides, and the formula was seen to undershoot
SMALLEST = 1e-20  # of ρ₀: the same in terms of ρ


@dataclass(frozen=True)
class Certified:
    """Iterate x_k with `remaining` ≥ ‖x − x_k‖_A; `lower` ≤ ‖x − x₀‖_A ≤ `upper`; `gained` = ‖x − x₀‖² − ‖x − x_k‖²."""

    values: np.ndarray
    remaining: float
    gained: float
    lower: float
    upper: float


def certified_steps(
    operator: Operator, precondition: Operator, residual: np.ndarray, start: np.ndarray, smallest: float
) -> Iterator[Certified]:
    """Yield x₀ = `start`, x₁, … with what is certain about each; `residual` is b − A·start, `smallest` is μ.

    Ends where rounding begins. One iteration of conjugate gradients per iterate; the arrays are not reused.
    """
    floor = FLOOR * float(np.sqrt(max(np.vdot(start, operator(start)), 0.0)))
    values, gained, weight, first, before = start.copy(), 0.0, 1.0 / smallest, None, 0.0
    gap = 0.0
    for step in conjugate_gradient_steps(operator, precondition, residual, start):
        first = step.rho if first is None else first
        if step.rho <= SMALLEST * first:
            break
        if before > 0.0:
            weight = gap / (smallest * gap + step.rho / before)
        yield _certified(values, weight * step.rho, gained, floor)
        gap, before = weight - step.length, step.rho
        values, gained = step.values.copy(), gained + step.energy_drop
        if gap <= 0.0:  # only rounding can do that: γ_kρ_k is at least the error, which is at least α_kρ_k
            break
    yield _certified(values, 0.0, gained, floor)


def _certified(values: np.ndarray, left: float, gained: float, floor: float) -> Certified:
    remaining = max(float(np.sqrt(left)), floor)
    return Certified(values, remaining, gained, float(np.sqrt(gained)), float(np.sqrt(gained + remaining**2)))
