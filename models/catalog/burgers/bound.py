"""Guaranteed bounds for Burgers: distance to a guide, and what the guide's own residual proves, through fronts.

    ∂w/∂t + ∂(w²/2)/∂x = ν ∂²w/∂x² + r,   e = u − w,   ∫e dx = 0,   E, R the periodic primitives of e, r

    osc E(T) ≤ osc E(0) + ∫₀ᵀ osc R dt,   R = P(∂w/∂t) + w²/2 − ν ∂w/∂x,   osc = max − min,  P: primitive
    ‖e(T)‖₁ ≤ ‖e(0)‖₁ + ∫₀ᵀ ‖r‖₁ dt                                        (Kruzhkov 1970)

The first is the maximum principle for ∂E/∂t + ½(u + w) ∂E/∂x = ν ∂²E/∂x² − R + c(t). It bounds every region at once:
|∫_a^b (u − v) dx| ≤ osc E. Neither has a constant or an exponential in it, and both hold for any w whatever.

u is the continuum solution for the trigonometric interpolant of the given initial values. w, the guide, may be any
trajectory whatever: which one is taken decides how small the bound is, never whether it holds. A residual counts what the
equation itself would damp, so the answer's own trajectory gives several times its error, at large ν a hundred times. The
guide of an answer is therefore a coarse solve (as dear as any classical solve of that accuracy; its frames are read as a
cubic in time and a trigonometric polynomial of low degree K in x, of mean ∫u₀), and

    osc(primitive of u − v) ≤ |difference of v and w| + bound of w

at every time that is asked for; between those times nothing is stated. What separates a frame from w (its wrong mass,
its modes above K) is evaluated and added.
Sampling hides nothing: R is of degree 2K in x (`models.numerics.trigonometric`), and of degree 6 in time, where the
Bernstein coefficients bound the integral (`models.numerics.bernstein`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from scipy.interpolate import CubicSpline
from scipy.ndimage import maximum_filter1d

from models.catalog.burgers import reference
from models.errors import OutOfRange
from models.numerics import bernstein, trigonometric
from models.physical_model import Arrays, Audit
from models.statements import Statement

FRAMES = 65  # of the guide, up to the last requested time
GRADING = 1.75  # frames at (j/64)^1.75: what is fine in space decays at once
CLOSEST = 0.05  # of their spacing: a regular frame this near to a requested one is left out
GUIDE_COURANT = 1.5  # 2π k_max max|u| Δt; otherwise one step from frame to frame, whose cubic is no more accurate
GUIDE_NODES = 1.0  # per A/ν, A half the jump: two thirds of the reference's
SMALLEST_GUIDE, LARGEST_GUIDE = 64, 1024  # nodes; thinner fronts make the bound large, not wrong
OVERSAMPLING = 8  # points per degree of R for the oscillation: factor 1.08; half of them for the L1 norm: 1.41
CUT = 1e-4  # modes are left out while their residual would change the bound by this share of the primitive's size
FRONT = 0.45  # modes per A/ν that a front of jump 2A has
TOGETHER = 100_000  # numbers treated at once, so that the work stays in the cache
DIGITS = 13  # of times over the last one, by which slopes are remembered
ROUNDING = 1e-12  # of the sizes that cancel, float64 over some 10³ operations

EVERY = slice(None)
Frames = Float[np.ndarray, "frame x"]
Times = Float[np.ndarray, " frame"]
Modes = Complex[np.ndarray, "frame mode"]


@dataclass(frozen=True)
class TrajectoryBound:
    """At every frame: `oscillation` ≥ |∫_a^b (u − v) dx| for every interval, `l1` ≥ ∫|u − v| dx."""

    times: Times
    oscillation: Times
    l1: Times


@dataclass(frozen=True)
class _Trajectory:
    """Four Bernstein coefficients per time interval, first axis: `factor` of w, `linear` of P(∂w/∂t) − ν ∂w/∂x."""

    widths: Float[np.ndarray, " interval"]
    factor: Complex[np.ndarray, "4 interval mode"]
    linear: Complex[np.ndarray, "4 interval mode"]


def region_mean_bound(oscillation: float, start: float, stop: float) -> float:
    """Upper bound of |mean of u − v over [start, stop]|, from the oscillation bound of that time.

    Raises OutOfRange unless 0 < stop − start ≤ 1.
    """
    if not 0.0 < stop - start <= 1.0:
        raise OutOfRange("region", "of a length in (0, 1]", f"{stop - start:g}")
    return oscillation / (stop - start)


def bound_times(requested: Float[np.ndarray, " time"]) -> Times:
    """Ascending times at which the answer must be known: those that are asked for."""
    return np.unique(np.asarray(requested, dtype=np.float64))


def guide_times(requested: Float[np.ndarray, " time"]) -> Times:
    """Ascending times from zero of the guide's frames: graded ones and the requested ones."""
    wanted = np.unique(np.append(np.asarray(requested, dtype=np.float64), 0.0))
    if len(wanted) == 1:
        return wanted
    graded = wanted[-1] * np.linspace(0.0, 1.0, FRAMES) ** GRADING
    distance = np.abs(graded[:, None] - wanted).min(axis=1)
    return np.union1d(wanted, graded[distance > CLOSEST * np.gradient(graded)])


@lru_cache(maxsize=8)
def _slope_matrix(times: tuple[float, ...]) -> Float[np.ndarray, "frame frame"]:
    return np.asarray(CubicSpline(times, np.eye(len(times)), bc_type="not-a-knot")(times, 1))


def _slopes(times: Times) -> Float[np.ndarray, "frame frame"]:
    """Slopes at the frames of the not-a-knot cubic spline, as a matrix on the values: fourth order, ends included.

    Any slopes make a trajectory, so times are rounded: one matrix then serves all last times, and frames that nearly
    coincide share their slope.
    """
    rounded, first, place = np.unique((times / times[-1]).round(DIGITS), return_index=True, return_inverse=True)
    matrix = np.zeros((len(times), len(times)))
    matrix[:, first] = _slope_matrix(tuple(rounded.tolist()))[place] / times[-1]
    return matrix


@lru_cache(maxsize=1)
def _to_bernstein() -> Float[np.ndarray, "coefficient term"]:
    """From four coefficients of the linear part and ten products of w's to the seven of R."""
    return np.hstack([bernstein.elevation(3, 6), 0.5 * bernstein.squaring(3)])


def _tail_sums(sizes: Float[np.ndarray, " mode"]) -> Float[np.ndarray, " mode"]:
    return np.cumsum(sizes[::-1])[::-1]


def choose_degree(modes: Modes, initial: Complex[np.ndarray, " mode"], viscosity: float, spacing: float) -> int:
    """K: what lies above must neither matter in the residual nor, where it does, belong to a front or to u₀."""
    order = np.arange(1, modes.shape[1])
    sizes = np.abs(modes[:, 1:]).max(axis=0)
    scale = CUT * float((np.abs(modes[:, 1:]) / order).sum(axis=1).max()) / np.pi
    speed = float(2.0 * np.abs(modes[:, 1:]).sum(axis=1).max())
    weight = 2.0 * (2 * np.pi * viscosity * order + speed + 1.0 / (2 * np.pi * order * spacing))
    smooth = int((_tail_sums(weight * sizes) > scale).sum())
    start = np.abs(initial[1:])
    given = int((_tail_sums(start / order) > np.pi * CUT / 10 * (start / order).sum()).sum())
    front = FRONT * float(np.ptp(trigonometric.evaluate(initial, 2 * len(initial)))) / (2 * viscosity)
    return max(1, min(smooth, max(given, int(min(front, len(order))), 8), len(order)))


def _trajectory(modes: Modes, times: Times, viscosity: float) -> _Trajectory:
    widths = np.diff(times)
    slopes = _slopes(times) @ modes
    factor = bernstein.from_hermite(modes[:-1], slopes[:-1], modes[1:], slopes[1:], widths[:, None])
    rate = bernstein.derivative(trigonometric.primitive(factor), widths[:, None])
    raised = np.tensordot(bernstein.elevation(2, 3), rate, 1)
    return _Trajectory(widths, factor, raised - viscosity * trigonometric.derivative(factor))


def _evaluate_shared(coefficients: Complex[np.ndarray, "4 interval mode"], points: int) -> np.ndarray:
    """Values; the last Bernstein coefficient of an interval is the first of the next and evaluated once."""
    values = np.empty((4, coefficients.shape[1], points))
    values[:3] = trigonometric.evaluate(coefficients[:3], points)
    values[3, :-1] = values[0, 1:]
    values[3, -1] = trigonometric.evaluate(coefficients[3, -1], points)
    return values


def _coefficients(linear: np.ndarray, products: Iterator[np.ndarray]) -> Float[np.ndarray, "7 interval x"]:
    """Seven Bernstein coefficients of the linear part plus half the square."""
    terms = np.empty((14, *linear.shape[1:]))
    terms[:4] = linear
    for row, product in zip(terms[4:], products, strict=True):
        row[...] = product
    return np.asarray((_to_bernstein() @ terms.reshape(14, -1)).reshape(7, *linear.shape[1:]))


def _oscillation_of_residual(path: _Trajectory, points: int) -> Float[np.ndarray, " interval"]:
    """∫ osc R dt over each interval, from above."""
    degree = 2 * (path.factor.shape[2] - 1)
    w, linear = _evaluate_shared(path.factor, points), _evaluate_shared(path.linear, points)
    residual = _coefficients(linear, (w[i] * w[j] for i, j in bernstein.square_pairs(3)))
    return np.asarray(path.widths * trigonometric.oscillation_bound(residual, degree).mean(axis=0))


def _integral_of_residual(path: _Trajectory, points: int) -> Float[np.ndarray, " interval"]:
    """∫ ‖r‖₁ dt over each interval, from above; r = ∂R/∂x by the product rule."""
    degree = 2 * (path.factor.shape[2] - 1)
    w = _evaluate_shared(path.factor, points)
    slope = _evaluate_shared(trigonometric.derivative(path.factor), points)
    linear = _evaluate_shared(trigonometric.derivative(path.linear), points)
    products = (w[i] * slope[j] + slope[i] * w[j] for i, j in bernstein.square_pairs(3))
    residual = _coefficients(linear, products)
    return np.asarray(path.widths * trigonometric.integral_bound(residual, degree).mean(axis=0))


def _accumulated(path: _Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Both integrals from time 0 to every frame."""
    points = trigonometric.fast_points(2 * OVERSAMPLING * (path.factor.shape[2] - 1))
    coarse = trigonometric.fast_points(OVERSAMPLING * (path.factor.shape[2] - 1))
    parts, intervals = [], max(1, TOGETHER // (14 * points))
    for first in range(0, len(path.widths), intervals):
        some = slice(first, first + intervals)
        part = _Trajectory(path.widths[some], path.factor[:, some], path.linear[:, some])
        parts.append((_oscillation_of_residual(part, points), _integral_of_residual(part, coarse)))
    oscillation, integral = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    return np.append(0.0, np.cumsum(oscillation)), np.append(0.0, np.cumsum(integral))


def _distances(difference: Modes) -> tuple[Times, Times]:
    """Upper bounds of |∫_a^b d dx| over all intervals and of ∫|d| dx; a wrong mean counts with full length."""
    degree = difference.shape[-1] - 1
    values = trigonometric.evaluate(trigonometric.primitive(difference), trigonometric.fast_points(8 * degree))
    oscillation = trigonometric.oscillation_bound(values, degree) + np.abs(difference[..., 0])
    square = np.abs(difference[..., 0]) ** 2 + 2.0 * np.sum(np.abs(difference[..., 1:]) ** 2, axis=-1)
    return oscillation, np.sqrt(square)


def _check(times: Times, velocity: Frames) -> None:
    if len(times) != len(velocity) or times[0] != 0.0 or np.any(np.diff(times) <= 0.0):
        raise OutOfRange("time", "ascending from 0, one per frame", f"{len(times)} from {times[0]:g} to {times[-1]:g}")
    if not np.isfinite(velocity).all():
        raise OutOfRange("velocity", "finite", "values that are not")


def error_bound(
    times: Times,
    velocity: Frames,
    viscosity: float,
    initial_velocity: Float[np.ndarray, " x"],
    degree: int | None = None,
    at: np.ndarray | slice = EVERY,
) -> TrajectoryBound:
    """Bounds of any trajectory `velocity`, from its residual; `degree` is K, chosen when not given, `at` the frames wanted.

    Raises OutOfRange when times do not ascend from 0 or the answer is not finite.
    """
    times = np.asarray(times, dtype=np.float64)
    _check(times, velocity)
    initial = trigonometric.coefficients(initial_velocity)
    answer = trigonometric.coefficients(velocity)
    if len(times) == 1:
        return TrajectoryBound(times, *_distances(initial - answer))
    spacing = float(times[-1]) / (len(times) - 1)
    top = (choose_degree(answer, initial, viscosity, spacing) if degree is None else degree) + 1
    kept = answer[:, :top].copy()
    kept[:, 0] = initial[0]
    padded = np.pad(kept, ((0, 0), (0, answer.shape[1] - top)))
    grown, start = _accumulated(_trajectory(kept, times, viscosity)), _distances((initial - padded[0])[None])
    given = _distances((initial - answer[0])[None])
    oscillation, l1 = (
        np.where(times[at] == 0.0, known, total[at] + before + rest)
        for total, before, rest, known in zip(grown, start, _distances((answer - padded)[at]), given, strict=True)
    )
    size = 1.0 + float(np.abs(velocity).max()) + float(np.abs(initial_velocity).max())
    slack = ROUNDING * size * (1.0 + size + viscosity * velocity.shape[1])
    return TrajectoryBound(times[at], oscillation + slack, l1 + slack * velocity.shape[1])


def guide(times: Times, viscosity: float, initial_velocity: Float[np.ndarray, " x"]) -> Frames:
    """A coarse solve by the reference's scheme, its frame at time 0 as the coarse grid sees it."""
    grid, points = _guide_grid(initial_velocity, viscosity), len(initial_velocity)
    step = reference.step_for(initial_velocity[None], grid, GUIDE_COURANT, np.inf)
    frames = reference.integrate(initial_velocity[None], np.array([viscosity]), times, grid, step)[0]
    start = trigonometric.coefficients(initial_velocity)
    start[-(-grid // 3) :] = 0.0
    frames[0] = np.fft.irfft(start, points, norm="forward")
    return np.asarray(frames)


def _guide_grid(initial: Float[np.ndarray, " x"], viscosity: float) -> int:
    """A power of two times or part of the given nodes, coarser than the reference's and never beyond LARGEST_GUIDE."""
    least = min(max(GUIDE_NODES * 0.5 * float(np.ptp(initial)) / viscosity, SMALLEST_GUIDE), LARGEST_GUIDE)
    grid = len(initial)
    while grid % 4 == 0 and grid // 2 >= least:
        grid //= 2
    while grid < least and 2 * grid <= LARGEST_GUIDE:
        grid *= 2
    return grid


def answer_bound(
    times: Times, velocity: Frames, viscosity: float, initial_velocity: Float[np.ndarray, " x"]
) -> TrajectoryBound:
    """Bounds at every frame of the answer `velocity`, at ascending times, by way of a guide.

    Raises OutOfRange when times do not ascend or the answer is not finite.
    """
    times = np.asarray(times, dtype=np.float64)
    if not np.isfinite(velocity).all():
        raise OutOfRange("velocity", "finite", "values that are not")
    every = guide_times(times)
    frames = guide(every, viscosity, initial_velocity)
    asked = np.searchsorted(every, times)
    proven = error_bound(every, frames, viscosity, initial_velocity, at=asked)
    difference = trigonometric.coefficients(velocity) - trigonometric.coefficients(frames[asked])
    oscillation, l1 = _distances(difference)
    return TrajectoryBound(times, oscillation + proven.oscillation, l1 + proven.l1)


def _bound(inputs: Arrays, outputs: Arrays) -> TrajectoryBound:
    times = np.atleast_1d(np.asarray(inputs["time"], dtype=np.float64))
    initial = np.asarray(inputs["initial_velocity"], dtype=np.float64)
    return answer_bound(times, outputs["velocity"].astype(np.float64), float(inputs["viscosity"]), initial)


def statements(inputs: Arrays, outputs: Arrays) -> tuple[Statement, ...]:
    """Two guaranteed statements for every time: any region's integral, and the L1 norm."""
    found = _bound(inputs, outputs)
    truth = "continuum, initial velocity the trigonometric interpolant of the given values"
    guided = "distance to a coarse solve plus that solve's own error, proven from its residual"
    interpolated = "between nodes the answer is the trigonometric interpolant of its nodal values"
    regions = "bounds |∫(u − v)dx| over every interval; divide by its length for the mean over a region"
    result = []
    for time, oscillation, l1 in zip(found.times, found.oscillation, found.l1, strict=True):
        for norm, value, says in (("primitive_oscillation", oscillation, regions), ("l1", l1, "bounds ∫|u − v|dx")):
            result.append(
                Statement(
                    "velocity",
                    norm,
                    float(value),
                    "guaranteed",
                    None,
                    truth,
                    (says, guided, interpolated),
                    lead_time=float(time),
                )
            )
    return tuple(result)


def largest_interval_integral(error: Float[np.ndarray, " x"]) -> float:
    """Max over intervals between nodes of |∫ e dx|, e the interpolant: never above the supremum over all intervals."""
    modes = trigonometric.coefficients(error)
    points = len(error)
    periodic = trigonometric.evaluate(trigonometric.primitive(modes), points + 2)
    drift = float(modes[0].real) * np.arange(2 * len(periodic)) / len(periodic)
    twice = np.tile(periodic, 2) + drift
    reach = len(periodic) + 1
    ahead = {sign: maximum_filter1d(sign * twice, reach, origin=-(reach // 2)) for sign in (1.0, -1.0)}
    return max(float((values - sign * twice)[: len(periodic)].max()) for sign, values in ahead.items())


def distances(inputs: Arrays, outputs: Arrays, others: Arrays) -> dict[str, float]:
    """The largest integral between nodes of what two answers at one time differ by."""
    apart = outputs["velocity"].astype(np.float64) - others["velocity"]
    return {"primitive_oscillation": largest_interval_integral(apart.reshape(-1))}


def audit(inputs: Arrays, outputs: Arrays) -> Audit:
    """Compare with the reference on a four times finer grid at the last time.

    The error's floor is the largest integral between nodes of the fine grid, less all that a reference of twice the
    resolution differs by; its best estimate leaves that out.
    """
    upper = float(_bound(inputs, outputs).oscillation[-1])
    last = np.atleast_1d(np.asarray(inputs["time"], dtype=np.float64))[-1:]
    initial = inputs["initial_velocity"].astype(np.float64)
    fine, middle = (_fine_truth(initial, float(inputs["viscosity"]), last, refinement) for refinement in (4, 2))
    answer = trigonometric.evaluate(trigonometric.coefficients(outputs["velocity"][-1].astype(np.float64)), len(fine))
    error = largest_interval_integral(fine - answer)
    doubt = largest_interval_integral(fine - middle)
    return Audit(upper, 0.0, max(error - doubt, 0.0), error, largest_interval_integral(fine))


def _fine_truth(initial: Float[np.ndarray, " x"], viscosity: float, times: np.ndarray, refinement: int) -> np.ndarray:
    """Velocity at the last time on four times the given nodes."""
    nodes = trigonometric.evaluate(trigonometric.coefficients(initial), 4 * len(initial))
    return np.asarray(reference.solve(nodes[None], np.array([viscosity]), times, refinement)[0, -1])
