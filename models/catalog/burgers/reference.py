"""Reference solver for Burgers: Fourier pseudo-spectral in x, integrating-factor Runge–Kutta of order 4 in t.

    dû/dt = −ν(2πk)² û + N(û),   N(û) = −iπk · FFT(u²),   |k| < grid/3 kept (2/3 rule)

The linear part is integrated exactly; classical RK4 runs on e^{ν(2πk)²t} û. Stable for 2π k_max max|u| Δt < 2.8, and
max|u| never grows. The grid resolves the thinnest front that can form: a jump of 2A has coefficients that fall like
e^{−2π²νk/A}, so `grid` ≥ 1.5 A/ν leaves out 5e−5 of the largest. Everything is float64; the frame at time 0 is the given one.
"""

import numpy as np
from jaxtyping import Complex, Float

from models import ticket
from models.errors import OutOfRange
from models.numerics import trigonometric
from models.physical_model import Arrays

COURANT = 1.0  # 2π k_max max|u| Δt
LONGEST_STEP = 5e-3
FRONT = 1.5  # nodes per A/ν
SMALLEST_GRID, LARGEST_GRID = 64, 16384
LARGEST_DENSE = 128  # nodes; products with matrices take a third of the time of transforms there, as long at 256
NEGLIGIBLE = 2e-6  # share of the initial spectrum that the grid may leave out

Batch = Float[np.ndarray, "batch x"]
State = Float[np.ndarray, "batch part"]


class _Scheme:
    """Runge–Kutta steps of a few lengths for a batch.

    The state has real and imaginary parts of the modes below grid/3 in turn. Where a transform takes longer to call than to
    do, N(û) is two products with matrices.
    """

    def __init__(self, grid: int, viscosity: Float[np.ndarray, " batch"], steps: Float[np.ndarray, " length"]) -> None:
        self.points, self.kept = grid, _kept(grid)
        order = np.arange(self.kept)
        decay = np.repeat(viscosity[:, None] * (2 * np.pi * order) ** 2, 2, axis=1)
        self.steps = steps
        self.half = np.exp(-0.5 * steps[:, None, None] * decay)
        self.flux = -1j * np.pi * order
        if grid <= LARGEST_DENSE:
            wave = np.exp(2j * np.pi * (np.outer(order, np.arange(grid)) % grid) / grid)
            to_values = np.stack([wave.real, -wave.imag], axis=1) * np.where(order, 2.0, 1.0)[:, None, None]
            self._to_values = to_values.reshape(2 * self.kept, grid)
            self._from_squares = np.ascontiguousarray((self.flux[:, None] * wave.conj() / grid).T).view(np.float64)

    def slope(self, state: State) -> State:
        """N(û)."""
        if self.points > LARGEST_DENSE:
            values = np.fft.irfft(state.view(np.complex128), self.points, norm="forward")
            values *= values
            return np.asarray((self.flux * np.fft.rfft(values, norm="forward")[:, : self.kept]).view(np.float64))
        values = state @ self._to_values
        values *= values
        return np.asarray(values @ self._from_squares)

    def advance(self, state: State, length: int) -> State:
        """One step of one of the lengths."""
        step, half = self.steps[length], self.half[length]
        first = self.slope(state)
        carried = half * state
        driven = half * first
        second = self.slope(carried + (0.5 * step) * driven)
        third = self.slope(carried + (0.5 * step) * second)
        fourth = self.slope(half * (carried + step * third))
        second += third
        second *= 2.0
        second += driven
        return np.asarray(half * (carried + (step / 6.0) * second) + (step / 6.0) * fourth)


def _kept(grid: int) -> int:
    """Number of modes below grid/3."""
    return -(-grid // 3)


def choose_grid(initial: Batch, viscosity: Float[np.ndarray, " batch"]) -> int:
    """The coarsest grid, a power of two times or part of the given one, that resolves the data and every front.

    Raises OutOfRange when fronts would be thinner than the finest grid can carry.
    """
    amplitude = 0.5 * (initial.max(axis=1) - initial.min(axis=1))
    least = max(SMALLEST_GRID, float((FRONT * amplitude / viscosity).max()))
    size = np.abs(trigonometric.coefficients(initial))[:, 1:]
    beyond = np.cumsum(size[:, ::-1], axis=1)[:, ::-1] > NEGLIGIBLE * np.maximum(size.sum(axis=1), 1e-300)[:, None]
    least = max(least, 3.0 * int(beyond.any(axis=0).sum()) + 1.0)
    grid: int = initial.shape[1]
    while grid % 4 == 0 and grid // 2 >= least:
        grid //= 2
    while grid < least:
        grid *= 2
    if grid > LARGEST_GRID:
        lowest = FRONT * float(amplitude.max()) / LARGEST_GRID
        raise OutOfRange("viscosity", f"at least {lowest:.2g} for these initial values", f"{viscosity.min():g}")
    return grid


def _on_grid(initial: Batch, grid: int) -> State:
    """The interpolant's modes below grid/3."""
    given = trigonometric.coefficients(initial)[:, : _kept(grid)]
    return np.pad(given, ((0, 0), (0, _kept(grid) - given.shape[1]))).view(np.float64)


def _to_nodes(spectrum: Complex[np.ndarray, "*rows mode"], grid: int, points: int) -> Float[np.ndarray, "*rows x"]:
    """Values at j/points; points divide the grid or are divided by it."""
    if points >= grid:
        return np.asarray(np.fft.irfft(spectrum, points, norm="forward"))
    return np.asarray(np.fft.irfft(spectrum, grid, norm="forward")[..., :: grid // points])


def integrate(
    initial: Batch,
    viscosity: Float[np.ndarray, " batch"],
    times: Float[np.ndarray, " time"],
    grid: int,
    longest_step: float,
) -> Float[np.ndarray, "batch time x"]:
    """Velocity at ascending times on a given grid; steps are equal between two times and at most `longest_step`.

    Raises what ends the request: fast waves and thin fronts take a thousand times the usual steps.
    """
    widths = np.diff(times, prepend=0.0)
    counts = np.ceil(widths / longest_step - 1e-9).astype(int)
    # equal frames share one length despite rounding
    steps, lengths = np.unique(np.round(widths / np.maximum(counts, 1), 15), return_inverse=True)
    scheme, state = _Scheme(grid, viscosity, steps), _on_grid(initial, grid)
    found = np.empty((len(initial), len(times), _kept(grid)), dtype=np.complex128)
    for index, (count, length) in enumerate(zip(counts.tolist(), lengths.tolist(), strict=True)):
        for _ in range(count):
            ticket.current().check()
            state = scheme.advance(state, length)
        found[:, index] = state.view(np.complex128)
    result = _to_nodes(found, grid, initial.shape[1])
    result[:, times == 0.0] = initial[:, None]
    return result


def step_for(initial: Batch, grid: int, courant: float = COURANT, longest: float = LONGEST_STEP) -> float:
    """The longest step on this grid, by default the reference's."""
    fastest = float(np.abs(initial).max())
    return min(longest, courant / max(2 * np.pi * (grid / 3) * fastest, 1e-300))


def solve(
    initial: Batch, viscosity: Float[np.ndarray, " batch"], times: Float[np.ndarray, " time"], refinement: int = 1
) -> Float[np.ndarray, "batch time x"]:
    """Velocity at ascending times from 0; `refinement` refines grid and step together.

    Raises OutOfRange when the fronts cannot be resolved.
    """
    exact = np.asarray(initial, dtype=np.float64)
    nu = np.asarray(viscosity, dtype=np.float64)
    grid = refinement * choose_grid(exact, nu)
    step = min(LONGEST_STEP / refinement, step_for(exact, grid))
    return integrate(exact, nu, np.asarray(times, dtype=np.float64), grid, step)


def solve_sample(inputs: Arrays) -> Arrays:
    """The fallback: one sample at its lead time, or at several ascending ones."""
    times = np.asarray(inputs["time"], dtype=np.float64)
    initial, viscosity = inputs["initial_velocity"][None], np.reshape(inputs["viscosity"], 1)
    found = solve(initial, viscosity, np.atleast_1d(times))[0]
    return {"velocity": found if times.ndim else found[0]}
