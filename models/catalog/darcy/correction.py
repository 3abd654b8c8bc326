"""Corrections of an answer with what is certain about each: the least-energy system of the served functions.

    J(p) = ½ ∫ a |∇Vp|² − ∫ Vp = ½ pᵀA p − bᵀp,      |||u − Vp|||² = |||u − Vp*|||² + (p − p*)ᵀA (p − p*)

An answer is nodal values p and stands for the function Vp, flux-continuous between the nodes (`bound.interpolate`), so
the system solved is that of these functions: its solution p* has the least error in the energy norm that nodal values
can have. The five-point solution does not (its error is larger than the surrogate's on two-phase media), nor do the
nodal values of a Q1 solution on the half cells, which would stand for another function between the nodes.

Steps are conjugate gradients with the exact constant-coefficient solve, started from the answer. After every step

    |||u − Vp_k|||² ≤ M(p₀)² − (gain of J),      ‖p* − p_k‖_A by Gauss–Radau,      |e_i| ≤ ‖e‖_A (max (M⁻¹)_ii / μ)^½

the first by Pythagoras from the bound M(p₀) of the answer, the last since A ≥ μM (Cauchy–Schwarz); μ and L are the
extremes over the element matrices, hence proven. What is returned is rounded to single precision, and every statement
is about the rounded values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, islice

import numpy as np
from jaxtyping import Float

from models import ticket
from models.catalog.darcy import bound
from models.numerics import bilinear, nine_point
from models.numerics.control_volumes import control_volumes, interpolate
from models.numerics.gauss_radau import Certified, certified_steps
from models.numerics.sine_transform import bilinear_symbol, second_difference_eigenvalues, solve_bilinear_nodes
from models.physical_model import Arrays, Bound, Corrector, Improved
from models.statements import Kind, Statement

LOOK_AHEAD = 2  # steps before the answer itself is certified: at contrast 4 within 2 % instead of 50 %
NEGLIGIBLE = 0.05  # of the bound on the served grid: what the iteration may leave on the refined one
CONVERGED = 0.1  # of the bound: the iteration then accounts for 0.5 % of it
ROUNDING = 1e-9  # of M², where Pythagoras subtracts

Inner = nine_point.Inner


@lru_cache(maxsize=8)
def _largest_response(cells: int) -> float:
    """Max over nodes of (M⁻¹)_ii, M the Q1 stiffness with a = 1: Σ_kl φ_k²φ_l²/λ_kl, φ_k = (2/N)^½ sin(πk·/N)."""
    modes = np.arange(1, cells)
    sines = 2.0 / cells * np.square(np.sin(np.pi * np.outer(modes, modes) / cells))
    symbol = bilinear_symbol(second_difference_eigenvalues(cells, modes))
    return float((sines @ (1.0 / symbol) @ sines).max())


def _corner_values(permeability: bound.Nodal) -> Float[np.ndarray, "3 3 4 cell_x cell_y"]:
    """V of the four corner functions at the 3×3 half-cell nodes of every cell."""
    cells = permeability.shape[0] - 1
    own = [permeability[i : i + cells, j : j + cells] for i, j in nine_point.CORNERS]
    values = np.zeros((3, 3, 4, cells, cells))
    for corner, (i, j) in enumerate(nine_point.CORNERS):
        along_x = own[corner] / (own[corner] + own[corner ^ 1])
        along_y = own[corner] / (own[corner] + own[corner ^ 2])
        values[2 * i, 2 * j, corner] = 1.0
        values[1, 2 * j, corner], values[2 * i, 1, corner] = along_x, along_y
        same_line, same_column = own[corner] + own[corner ^ 1], own[corner] + own[corner ^ 2]
        values[1, 1, corner] = (2.0 * own[corner] + same_line * along_x + same_column * along_y) / (4.0 * sum(own))
    return values


def _elements(permeability: bound.Nodal) -> tuple[nine_point.Elements, Float[np.ndarray, "4 cell_x cell_y"]]:
    """A_K = Σ over the four quarters of a·PᵀEP, and the loads of f = 1."""
    corner, cells = _corner_values(permeability), permeability.shape[0] - 1
    matrices, loads = np.zeros((4, 4, cells, cells)), np.zeros((4, cells, cells))
    for i, j in nine_point.CORNERS:
        coefficient = permeability[i : i + cells, j : j + cells]
        part = np.stack([corner[i + k, j + m] for k, m in nine_point.CORNERS])
        image = np.tensordot(nine_point.BILINEAR, part, 1) * coefficient
        matrices += np.einsum("faxy,fbxy->abxy", part, image)
        loads += part.sum(axis=0)
    return matrices, loads / (16.0 * cells**2)


@dataclass(frozen=True)
class System:
    """A p = b on the interior nodes, and the proven limits of M⁻¹A."""

    permeability: bound.Nodal
    matrix: nine_point.NinePoint
    load: Inner
    smallest: float
    largest: float

    @classmethod
    def of(cls, inputs: Arrays) -> "System":
        """The system of one sample."""
        permeability = np.asarray(inputs["permeability"], dtype=np.float64)
        elements, loads = _elements(permeability)
        limits = nine_point.spectral_limits(elements)
        return cls(permeability, nine_point.assemble(elements), nine_point.assemble_load(loads), *limits)

    @property
    def lowest(self) -> float:
        """The least permeability."""
        return float(self.permeability.min())

    @cached_property
    def truth(self) -> str:
        """What the certificate measures against."""
        points = self.permeability.shape[0]
        return f"least-energy solution among the flux-continuous interpolations of {points}² nodal values"

    @property
    def rate(self) -> float:
        """(√κ − 1)/(√κ + 1)."""
        root = float(np.sqrt(self.largest / self.smallest))
        return (root - 1.0) / (root + 1.0)

    def rounded(self, values: Inner) -> tuple[Arrays, Inner]:
        """Outputs in single precision, and by how much that changed the values."""
        shown = np.pad(values, 1).astype(np.float32)
        return {"pressure": shown}, shown[1:-1, 1:-1].astype(np.float64) - values

    def certificate(self, values: Inner, upper: float, lower: float = 0.0) -> tuple[Statement, ...]:
        """Statements about ‖p* − p‖_A ≤ `upper`: energy, relative energy, L2, and the largest nodal error."""
        found = bound.EnergyBound(lower, upper, self.matrix.energy(values))
        assumptions = ("conjugate gradients with the proven least eigenvalue (Gauss–Radau)", bound.INTERPOLATED)
        kind: Kind = "guaranteed_vs_discrete"
        response = _largest_response(self.permeability.shape[0] - 1)
        sup = Statement(
            "pressure", "sup", float(np.sqrt(response / self.smallest)) * upper, kind, None, self.truth,
            (assumptions[0], "at the nodes, by the largest response to a unit source at a node"),
        )  # fmt: skip
        return *bound.norms_from_energy(found, self.lowest, kind, self.truth, assumptions), sup


def steps(inputs: Arrays, outputs: Arrays, statements: tuple[Statement, ...]) -> Iterator[Improved]:
    """The answer itself, certified, then better ones; `statements` hold its guaranteed bound."""
    system = System.of(inputs)
    start = np.asarray(outputs["pressure"], dtype=np.float64)[1:-1, 1:-1]
    first = next(s.value for s in statements if s.norm == "energy" and s.kind == "guaranteed" and not s.relative)
    residual = system.load - system.matrix.apply(start)
    found = certified_steps(system.matrix.apply, solve_bilinear_nodes, residual, start, system.smallest)
    *_, ahead = islice(found, LOOK_AHEAD + 1)
    certificate = system.certificate(start, ahead.upper, ahead.lower)
    yield Improved(outputs, (*statements, *certificate), LOOK_AHEAD, system.rate)
    for step in chain((ahead,), found):
        outputs, change = system.rounded(step.values)
        rounding = system.matrix.energy(change)
        claims, left = _remaining(system, step, first or np.inf, rounding)
        is_converged = step.remaining <= CONVERGED * left
        yield Improved(outputs, claims, int(step is not ahead), system.rate, is_converged)
        if step.remaining <= rounding:
            return


def _remaining(system: System, step: Certified, first: float, rounding: float) -> tuple[tuple[Statement, ...], float]:
    """What is certain about an iterate in single precision, and its bound; `first` bounds the answer at the start."""
    left = float(np.sqrt(max(first**2 * (1.0 + ROUNDING) - step.gained, 0.0))) + rounding
    found = bound.EnergyBound(0.0, left, system.matrix.energy(step.values) - rounding)
    assumptions = ("boundary values exact", bound.INTERPOLATED, "the answer's bound less the energy since gained")
    continuum = bound.truth(system.permeability)
    guaranteed = bound.norms_from_energy(found, system.lowest, "guaranteed", continuum, assumptions)
    certificate = system.certificate(step.values, step.remaining + rounding)
    return (*guaranteed, *certificate), left


def solve(inputs: Arrays) -> Improved:
    """P* itself, by banded Cholesky; the certificate holds what rounding to single precision leaves."""
    system = System.of(inputs)
    outputs, _ = system.rounded(system.matrix.solve(system.load))
    values = np.asarray(outputs["pressure"], dtype=np.float64)
    residual = system.load - system.matrix.apply(values[1:-1, 1:-1])
    upper = float(np.sqrt(np.vdot(residual, solve_bilinear_nodes(residual)) / system.smallest))
    certificate = system.certificate(values[1:-1, 1:-1], upper)
    return Improved(outputs, (*bound.statements(inputs, outputs), *certificate))


def refine(inputs: Arrays, outputs: Arrays) -> Improved:
    """The Q1 solution on cells of a quarter of the grid spacing, started from the served function.

    Its values at the nodes are returned; the statements are about the function itself. Raises what ends the request.
    """
    nodal = np.asarray(inputs["permeability"], dtype=np.float64)
    served = interpolate(np.asarray(outputs["pressure"], dtype=np.float64), nodal)
    start, coefficient = bilinear.prolong(served), np.kron(control_volumes(nodal), np.ones((2, 2)))
    target = NEGLIGIBLE * bound.function_bound(served, coefficient[::2, ::2], np.ones(served[1:, 1:].shape)).upper
    load = bilinear.cell_load(np.ones_like(coefficient))

    def apply(inner: np.ndarray) -> np.ndarray:
        return bilinear.apply_stiffness(np.pad(inner, 1), coefficient)[1:-1, 1:-1]

    inner, count = start[1:-1, 1:-1], 0
    residual = load[1:-1, 1:-1] - apply(inner)
    found = certified_steps(apply, solve_bilinear_nodes, residual, inner, float(nodal.min()))
    for step in found:
        ticket.current().check()
        count += 1
        if step.remaining <= target:
            break
    values = np.pad(step.values, 1)
    return Improved(
        {"pressure": values[::4, ::4].astype(np.float32)}, _refined(nodal, values, coefficient, step), count
    )


def _refined(nodal: bound.Nodal, values: np.ndarray, coefficient: np.ndarray, step: Certified) -> tuple[Statement, ...]:
    """Statements about the finer function."""
    cells = coefficient.shape[0]
    function = f"the answer is a bilinear function on {cells}² cells; its values at the nodes are returned"
    found = bound.function_bound(values, coefficient, np.ones_like(coefficient))
    lowest, discrete = float(nodal.min()), f"bilinear finite-element solution on {cells}² cells"
    exact = ("boundary values exact", function)
    iterated = ("conjugate gradients with the proven least eigenvalue (Gauss–Radau)", function)
    remaining = bound.EnergyBound(0.0, step.remaining, found.energy)
    return (
        *bound.norms_from_energy(found, lowest, "guaranteed", bound.truth(nodal), exact),
        *bound.norms_from_energy(remaining, lowest, "guaranteed_vs_discrete", discrete, iterated),
    )


OFFERS = tuple(
    Bound("pressure", norm, "guaranteed_vs_discrete", relative)
    for norm, relative in (("energy", False), ("energy", True), ("l2", False), ("sup", False))
)
CORRECTOR = Corrector(steps, solve, refine, OFFERS)
