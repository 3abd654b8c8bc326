"""Preconditioned conjugate gradients on fields (arrays of any shape)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Operator = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """State after one step: the iterate and its residual; the step's length α_k and ρ_k = r_kᵀM⁻¹r_k before it."""

    values: np.ndarray
    residual: np.ndarray
    length: float
    rho: float

    @property
    def energy_drop(self) -> float:
        """By how much the step has lowered the squared energy error: α_k ρ_k."""
        return self.length * self.rho


def conjugate_gradient_steps(
    operator: Operator, precondition: Operator, residual: np.ndarray, start: np.ndarray
) -> Iterator[Step]:
    """Yield the iterates of PCG for A x = b from `start`, given its `residual` b − A·start.

    The energy error satisfies ‖x−x_k‖²_A − ‖x−x_{k+1}‖²_A = α_k ρ_k exactly
    (Hestenes & Stiefel 1952). Ends when the residual vanishes. The yielded arrays are reused.
    """
    values, residual = start.copy(), residual.copy()
    correction = precondition(residual)
    direction = correction.copy()
    rho = float(np.vdot(residual, correction))
    while rho > 0.0:
        image = operator(direction)
        step = rho / float(np.vdot(direction, image))
        values += step * direction
        residual -= step * image
        yield Step(values, residual, step, rho)
        correction = precondition(residual)  # after the yield: who stops here does not pay for it
        previous, rho = rho, float(np.vdot(residual, correction))
        direction *= rho / previous
        direction += correction


def solve(
    operator: Operator,
    precondition: Operator,
    load: np.ndarray,
    relative_tolerance: float,
    max_iterations: int,
) -> np.ndarray:
    """Solve A x = load from zero until a step lowers the squared energy error by less than tolerance² of ‖x_k‖²_A.

    ‖x_k‖²_A is the sum of all drops, so the test costs nothing.
    Raises ArithmeticError when `max_iterations` do not suffice.
    """
    start, energy = np.zeros_like(load), 0.0
    steps = conjugate_gradient_steps(operator, precondition, load, start)
    for count, step in enumerate(steps, start=1):
        energy += step.energy_drop
        if step.energy_drop <= relative_tolerance**2 * energy:
            return step.values
        if count == max_iterations:
            raise ArithmeticError(
                f"Expected conjugate gradients to reach {relative_tolerance:g} within {max_iterations} steps, "
                f"got {np.sqrt(step.energy_drop / energy):g}. Raise the limit or lower the contrast."
            )
    return start  # the load was zero
