"""Guaranteed bounds for heat conduction by an equilibrated flux at every time.

    ∂u/∂t = ∇·(a∇u),  u = 0 on ∂Ω,   e = u − v,   |||w|||² = ∫a|∇w|²,   λ = 2π² a_min

For any v with v = 0 on ∂Ω, any flux y ∈ H(div) at almost every time, and Π the mean over each cell K of side h,

    m = (Σ_K (η_K + osc_K)²)^{1/2} + ρ,   η_K = ‖a^{−1/2}(y − a∇v)‖_K,   osc_K = h/(π√a_K) ‖∂v/∂t − Π∂v/∂t‖_K,
    ρ = (C_F/√a_min) ‖Π∂v/∂t − div y‖,    C_F = 1/(π√2),

    ‖e(t)‖² + ∫₀ᵗ|||e|||² ds ≤ ‖e(0)‖² + ∫₀ᵗ m² ds                                                          (energy)
    ‖e(t)‖² ≤ e^{−(2−δ)λt}‖e(0)‖² + δ⁻¹ ∫₀ᵗ e^{−(2−δ)λ(t−s)} m² ds   for every δ ∈ (0, 2]                    (decay)

Proof. For w ∈ H¹₀, (∂e/∂t, w) + (a∇e, ∇w) = (y − a∇v, ∇w) − (∂v/∂t − Π∂v/∂t, w) − (Π∂v/∂t − div y, w). On each cell the
second term does not see the mean of w, so it is at most ‖∂v/∂t − Π∂v/∂t‖_K (h/π)‖∇w‖_K (Payne & Weinberger 1960); the
third is at most ρ|||w||| (Friedrichs). So the right-hand side is at most m|||w|||. With w = e and m|||e||| ≤ m²/(2δ) +
δ|||e|||²/2: d‖e‖²/dt + (2−δ)|||e|||² ≤ m²/δ. δ = 1 integrated is (energy); |||e|||² ≥ λ‖e‖² and Gronwall give (decay). ∎
(Repin, "A posteriori estimates for PDEs", 2008, §9.2; Ern, Smears & Vohralík, SIAM J. Numer. Anal. 55, 2017.) Even
∫‖∂e/∂t‖² in the dual norm could be added to the left of (energy): residual and m measure all three at once.

v: between nodes the flux-continuous interpolation (`models.numerics.control_volumes`) on half cells, on each of which a
is constant; between lead times the cubic spline (not-a-knot) through the given initial state and all lead times. u
starts from the same interpolation, so ‖e(0)‖ is zero unless boundary values were given. y is linear in v and ∂v/∂t
(harmonic face means, then one constant-coefficient Poisson solve so that div y = Π∂v/∂t), hence a cubic in time on each
interval: ‖a^{−1/2}(y − a∇v)‖², ‖osc‖² and ρ² are polynomials of degree 6, and four Gauss points integrate them exactly.
There each is a quadratic form in what the frames add to the field, so the work on the grid is that of the frames alone.
The sums under the root are taken apart by Minkowski's inequality in L²(0, t), after ∫: nothing is approximated. ρ is zero
in exact arithmetic and always computed, so a faulty solve can only loosen the bound. Everything is float64, and what the
forms may lose by cancellation is added.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from models.catalog.heat import reference
from models.catalog.heat.spec import LEAD_TIMES
from models.errors import OutOfRange
from models.numerics import bilinear, raviart_thomas
from models.numerics.control_volumes import control_volumes, interpolate
from models.physical_model import Arrays, Audit
from models.statements import Statement, nothing

FRIEDRICHS = 1.0 / (np.pi * np.sqrt(2.0))
GAUSS = 4  # points per interval: exact to degree 7
SPLITS = (0.5, 1.0, 1.5, 2.0)  # δ: each gives a bound, the least of them is one
AUDIT_BASIS = 28  # for times far below the first lead time: 1e−5 of u₀ there
TOGETHER = 25  # times treated at once in the audit, so that the work stays in the cache
FRAMES_TOGETHER = 6  # in the work on single frames, likewise
ROUNDING = 1e-13  # of the sizes that cancel in a square: 40 times what was seen at 20,480 numbers per field, float64

Nodal = Float[np.ndarray, "x y"]
Frames = Float[np.ndarray, "frame x y"]
Times = Float[np.ndarray, " time"]
Mixing = Float[np.ndarray, "time frame"]
Gram = Float[np.ndarray, "field field"]


@dataclass(frozen=True)
class TrajectoryBound:
    """`energy` ≥ (∫|||u − v|||²)^{1/2} over all times, `size` = (∫|||v|||²)^{1/2}, `l2` ≥ ‖u − v‖ at every frame."""

    energy: float
    size: float
    times: Times
    l2: Times

    @property
    def relative(self) -> float | None:
        """Bound on the energy error over that of u, or None when the bound exceeds the answer's own."""
        return self.energy / (self.size - self.energy) if self.energy < self.size else None


@dataclass(frozen=True)
class _Residual:
    """∫ over each interval of Σ η_K², Σ osc_K², ρ² and |||v|||²."""

    constitutive: Times
    oscillation: Times
    imbalance: Times
    size: Times

    def integral(self, weights: Float[np.ndarray, "weighting time"]) -> Float[np.ndarray, " weighting"]:
        """∫ w m² for weights constant on each interval: squares of the sum of three norms in L²(w dt)."""
        parts = np.stack([self.constitutive, self.oscillation, self.imbalance], axis=1)
        return np.asarray(np.square(np.sqrt(weights @ parts).sum(axis=1)))


@lru_cache(maxsize=4)
def _quadrature(times: tuple[float, ...]) -> tuple[Times, Times, Float[np.ndarray, "value frame"], np.ndarray]:
    """Gauss points of all intervals, their weights, and the matrices from frames to spline values and slopes there."""
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS)
    knots = np.array(times)
    widths = np.diff(knots)[:, None]
    points = (knots[:-1, None] + 0.5 * widths * (nodes + 1.0)).ravel()
    spline = CubicSpline(knots, np.eye(len(knots)), bc_type="not-a-knot")
    return points, (0.5 * widths * weights).ravel(), spline(points), spline(points, 1)


def _cell_means(values: Float[np.ndarray, "time x y"]) -> Float[np.ndarray, "time cell_x cell_y"]:
    """Π of bilinear functions."""
    along = values[:, 1:] + values[:, :-1]
    along *= 0.25
    return np.asarray(along[..., 1:] + along[..., :-1])


def _gram(parts: Float[np.ndarray, "part field cell"]) -> Gram:
    """Inner products of all fields, a sum over parts and cells."""
    return np.asarray(sum(part @ part.T for part in parts))


def _squares(gram: Gram, mixing: Float[np.ndarray, "time field"], rounding: float = ROUNDING) -> Times:
    """‖Σ_k c_k f_k‖² of every row c of `mixing`, enlarged by what rounding may have taken from the inner products."""
    size = np.abs(mixing) @ np.sqrt(np.diag(gram))
    return np.asarray(np.einsum("tk,tk->t", mixing @ gram, mixing) + rounding * np.square(size))


def _fields(fine: Frames, coefficient: bilinear.Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By frame: √a h∇v; what it adds to a^{−1/2}(y − a∇v) but for the variation of ∇v, and to h(Π∂v/∂t − div y).

    The last two first as v, then as ∂v/∂t. Few frames at a time, so that the work stays in the cache.
    """
    cells, count = coefficient.shape[0], len(fine)
    width, root = 1.0 / cells, np.sqrt(coefficient)
    gradient = np.empty((3, count, cells, cells))
    mismatch, missing = np.empty((4, 2, count, cells, cells)), np.empty((1, 2, count, cells, cells))
    for first in range(0, count, FRAMES_TOGETHER):
        some = slice(first, first + FRAMES_TOGETHER)
        slopes, mean = bilinear.gradient(fine[some]), _cell_means(fine[some])
        flux = raviart_thomas.equilibrate(raviart_thomas.harmonic_flux(slopes, coefficient), 0.0)
        slopes *= root
        gradient[:, some] = slopes
        raviart_thomas.weighted(flux, root, mismatch[:, 0, some])
        mismatch[:2, 0, some] -= slopes[:2]
        missing[0, 0, some] = -width * flux.divergence(width)
        flux = raviart_thomas.potential_flux(mean)
        raviart_thomas.weighted(flux, root, mismatch[:, 1, some])
        missing[0, 1, some] = width * (mean - flux.divergence(width))
    return gradient, mismatch.reshape(4, 2 * count, -1), missing.reshape(1, 2 * count, -1)


def _at_times(
    fine: Frames, coefficient: bilinear.Cells, to_values: Mixing, to_slopes: Mixing
) -> Float[np.ndarray, "part time"]:
    """Σ η_K², Σ osc_K², ρ² and |||v|||² at several times; rows of the matrices make v and ∂v/∂t there from frames.

    All but the squares is linear in the frames, so each is treated once, however many times there are.
    """
    gradient, mismatch, missing = _fields(fine, coefficient)
    count, width, both = len(fine), 1.0 / coefficient.shape[0], np.hstack([to_values, to_slopes])
    slopes, twist = (_gram(part.reshape(len(part), count, -1)) for part in (gradient[:2], gradient[2:]))
    constitutive = _gram(mismatch)
    constitutive[:count, :count] += twist
    # on a cell a bilinear function varies by (h²/12)(|mean of ∇|² + half of what ∇ varies by) about its mean
    gradient *= (width**2 / np.pi) / np.sqrt(12.0) / coefficient
    gradient[2] *= np.sqrt(0.5)
    varying = _gram(gradient.reshape(3, count, -1))
    imbalance = FRIEDRICHS**2 / coefficient.min() * _squares(_gram(missing), both)
    size = _squares(slopes + twist, to_values, 0.0)
    return np.stack([_squares(constitutive, both), _squares(varying, to_slopes), imbalance, size])


def _residual(times: Times, frames: Frames, diffusivity: Nodal) -> _Residual:
    _, weights, to_values, to_slopes = _quadrature(tuple(times.tolist()))
    parts = _at_times(interpolate(frames, diffusivity), control_volumes(diffusivity), to_values, to_slopes)
    return _Residual(*(parts * weights).reshape(4, -1, GAUSS).sum(axis=2))


def _initial_error(given: Nodal, start: Nodal, diffusivity: Nodal) -> float:
    """‖u₀ − v(0)‖² of the interpolations, exactly: on a cell mean² and what a bilinear function varies by about it."""
    difference = interpolate((np.asarray(given, dtype=np.float64) - start)[None], diffusivity)
    along_x, along_y, twist = np.square(bilinear.gradient(difference))
    cells = np.square(_cell_means(difference)) + (along_x + along_y + 0.5 * twist) / 12.0
    return float(cells.mean(axis=(1, 2)).sum())


def _check(times: Times, frames: Frames, diffusivity: Nodal) -> None:
    if len(times) != len(frames) or len(times) < 4 or times[0] != 0.0 or np.any(np.diff(times) <= 0.0):
        raise OutOfRange("lead_time", "at least four, ascending from 0, one per frame", f"{len(times)}")
    if not np.isfinite(frames).all():
        raise OutOfRange("temperature", "finite", "values that are not")
    if np.any(frames[:, [0, -1]]) or np.any(frames[:, :, [0, -1]]):
        raise OutOfRange("temperature", "exactly zero on the boundary", "other boundary values")
    if not np.all(diffusivity > 0.0):
        raise OutOfRange("diffusivity", "positive", f"minimum {np.min(diffusivity):g}")


def error_bound(times: Times, frames: Frames, diffusivity: Nodal, initial: Nodal) -> TrajectoryBound:
    """Bounds for any trajectory given at ascending times from 0.

    Raises OutOfRange when the boundary values are not zero, the diffusivity not positive, or the frames not finite.
    """
    times, frames, medium = (np.asarray(v, dtype=np.float64) for v in (times, frames, diffusivity))
    _check(times, frames, medium)
    residual = _residual(times, frames, medium)
    start = _initial_error(initial, frames[0], medium)
    energy = np.sqrt(start + residual.integral(np.ones((1, len(times) - 1))))[0]
    rate = float(medium.min()) / FRIEDRICHS**2
    since = times[1:, None] - times[1:]  # from the end of each interval: its weights are no larger
    found = []
    for split in SPLITS:
        decay = (2.0 - split) * rate
        weights = np.where(since >= 0.0, np.exp(-decay * np.maximum(since, 0.0)), 0.0)
        found.append(np.sqrt(np.exp(-decay * times[1:]) * start + residual.integral(weights) / split))
    l2 = np.append(np.sqrt(start), np.min(found, axis=0))
    return TrajectoryBound(float(energy), float(np.sqrt(residual.size.sum())), times, l2)


def with_start(inputs: Arrays, outputs: Arrays) -> tuple[Times, Frames]:
    """Times and frames of one answer, the given initial state (zero on the boundary) before them."""
    start = np.pad(np.asarray(inputs["initial_temperature"], dtype=np.float64)[1:-1, 1:-1], 1)
    frames = np.concatenate([start[None], outputs["temperature"].astype(np.float64)])
    return np.append(0.0, LEAD_TIMES.values), frames


def _bound(inputs: Arrays, outputs: Arrays) -> TrajectoryBound:
    times, frames = with_start(inputs, outputs)
    return error_bound(times, frames, inputs["diffusivity"], inputs["initial_temperature"])


def statements(inputs: Arrays, outputs: Arrays) -> tuple[Statement, ...]:
    """The guaranteed statements about one answer: energy over space and time, relative too, and L2 at every lead time."""
    found = _bound(inputs, outputs)
    cells = inputs["diffusivity"].shape[0] - 1
    truth = (
        f"continuum, diffusivity constant on the control volume (side 1/{cells}) of each node, initial state the "
        "flux-continuous interpolation of the given values"
    )
    between = (
        "between nodes the answer is the flux-continuous interpolation of its nodal values, between lead times the cubic "
        "spline through the initial state and all lead times"
    )
    whole = f"bounds (∫₀ᵀ∫ a|∇(u − v)|² dx dt)^½, T = {LEAD_TIMES.stop:g}"
    energy = Statement("temperature", "space_time_energy", found.energy, "guaranteed", None, truth, (whole, between))
    if found.relative is None:
        reason = "the bound exceeds the energy of the answer itself"
        relative = replace(nothing("temperature", "space_time_energy", truth, reason), relative=True)
    else:
        relative = replace(energy, value=found.relative, relative=True)
    decay = ("past errors decay at least like the slowest mode, e^(−2π² a_min t)", between)
    l2 = [
        Statement("temperature", "l2", float(value), "guaranteed", None, truth, decay, lead_time=float(time))
        for time, value in zip(found.times[1:], found.l2[1:], strict=True)
    ]
    return energy, relative, *l2


def relative_bound(inputs: Arrays, outputs: Arrays) -> float:
    """Bound over the answer's own energy, a validity feature that sees input and answer together."""
    found = _bound(inputs, outputs)
    return found.energy / max(found.size, 1e-300)


def _energy_error(inputs: Arrays, times: Times, frames: Frames, refinement: int) -> tuple[float, float]:
    """∫|||w − v|||² and ∫|||w|||², w the reference on that many cells per served one, by fine quadrature in time."""
    medium = np.asarray(inputs["diffusivity"], dtype=np.float64)
    start, coefficient = reference.refined(medium, inputs["initial_temperature"], refinement)
    solution = reference.evolve(start, coefficient, AUDIT_BASIS)
    # what is fine in space settles at once: the first interval is cut where squares of the mesh width matter
    knots = np.union1d(times, times[1] * np.array([0.01, 0.03, 0.1, 0.3]))
    points, weights, *_ = _quadrature(tuple(knots.tolist()))
    spline = CubicSpline(times, interpolate(frames, medium), bc_type="not-a-knot")
    error = size = 0.0
    for first in range(0, len(points), TOGETHER):
        some = slice(first, first + TOGETHER)
        answer, truth = spline(points[some]), solution.at(points[some])
        while answer.shape[1] < truth.shape[1]:
            answer = np.stack([bilinear.prolong(one) for one in answer])
        for weight, v, w in zip(weights[some], answer, truth, strict=True):
            error += weight * bilinear.energy_squared(w - v, coefficient)
            size += weight * bilinear.energy_squared(w, coefficient)
    return error, size


def audit(inputs: Arrays, outputs: Arrays) -> Audit:
    """Compare the bound with the error against references on half and on quarter cells, both of which hold v.

    The distance to a Galerkin solution grows towards the error as the mesh is refined, by the square of what is left of
    the mesh's own error: the coarser of the two is the floor, and the best estimate adds a third of their difference.
    """
    times, frames = with_start(inputs, outputs)
    upper = _bound(inputs, outputs).energy
    (coarse, _), (fine, size) = (_energy_error(inputs, times, frames, refinement) for refinement in (2, 4))
    estimate = fine + max(fine - coarse, 0.0) / 3.0
    return Audit(upper, 0.0, float(np.sqrt(min(coarse, fine))), float(np.sqrt(estimate)), float(np.sqrt(size)))


def distances(inputs: Arrays, outputs: Arrays, others: Arrays) -> dict[str, float]:
    """(∫|||v − w|||²)^{1/2} of the functions that two answers stand for; both start alike."""
    medium = np.asarray(inputs["diffusivity"], dtype=np.float64)
    (times, frames), (_, beside) = with_start(inputs, outputs), with_start(inputs, others)
    _, weights, to_values, _ = _quadrature(tuple(times.tolist()))
    apart, coefficient = interpolate(frames - beside, medium), control_volumes(medium)
    squares = [bilinear.energy_squared(np.tensordot(row, apart, 1), coefficient) for row in to_values]
    return {"space_time_energy": float(np.sqrt(weights @ squares))}
