"""What an explanation can be held against, on every answer.

adjoint identity   ⟨w, J t⟩ = ⟨Jᵀw, t⟩ through the derivative graphs
solver's adjoint   cosine with ∂J/∂x of the reference solver, where it has one
linearity range    largest ε with |J(x+εd) − J(x) − ε g·d| ≤ 0.1 |ε g·d|, d the smoothed gradient of unit size
spectral noise     share of the gradient's energy beyond two thirds of the grid's largest wavenumber
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dct, fft

from models.explanation.functional import Functional
from models.explanation.grid import Grid, quadrature_weights, step
from models.explanation.quantities import Quantity
from models.fields import Axis, Field
from models.numerics.helmholtz import smooth
from models.physical_model import Arrays
from models.surrogate import Surrogate

CLOCKS = ("lead_time", "reference_time")
IDENTITY = 1e-5  # float32, five times what is measured
ALIGNED = 0.9
DEVIATION = 0.1
NOISY = 0.25  # white noise has 5/9 on a plane, 1/3 on a line
DIRECTION_SMOOTHING = 0.05  # of every axis
SIZES = 2.0 ** np.arange(-10, 1)
REFINED = 6
SHORT = 0.01  # a gradient that reaches less far is said to
ROUNDING = 4 * float(np.finfo(np.float32).eps)
FEWEST = 8  # points of an axis whose spectrum means something


@dataclass(frozen=True)
class Linearity:
    """How far the gradient reaches, in standard deviations of the explained inputs; `is_least` where nothing failed."""

    size: float
    is_least: bool

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "range": self.size,
            "at_least": self.is_least,
            "deviation": DEVIATION,
            "unit": "input standard deviations",
        }


def adjoint_identity(surrogate: Surrogate, sample: Arrays, generator: np.random.Generator) -> float:
    """|⟨w, J t⟩ − ⟨Jᵀw, t⟩| / (‖w‖ ‖J t‖) through the derivative graphs, over all fields but clocks.

    Where J t vanishes, as at a state of rest, the numerator alone.
    """
    inputs = {name: np.asarray(values, dtype=np.float32)[None] for name, values in sample.items()}
    tangents = {
        item.name: np.zeros_like(inputs[item.name])
        if item.role in CLOCKS
        else generator.standard_normal(inputs[item.name].shape) * 0.1 * (np.abs(inputs[item.name]).mean() or 1.0)
        for item in surrogate.manifest.inputs
    }
    _, pushed = surrogate.jvp(inputs, tangents)
    cotangents = {name: generator.standard_normal(values.shape) for name, values in pushed.items()}
    _, pulled = surrogate.vjp(inputs, cotangents)
    left = sum(float(np.vdot(cotangents[name], values.astype(np.float64))) for name, values in pushed.items())
    right = sum(float(np.vdot(pulled[name].astype(np.float64), values)) for name, values in tangents.items())
    size = np.sqrt(sum(float(np.square(w).sum()) for w in cotangents.values()))
    length = np.sqrt(sum(float(np.square(v).sum()) for v in pushed.values()))
    scale = float(size * length)
    return abs(left - right) / scale if scale > 0 else abs(left - right)


def solver_cosine(
    surrogate: Surrogate, sample: Arrays, quantity: Quantity, sensitivity: Mapping[str, Grid]
) -> float | None:
    """Cosine between the surrogate's gradient and that of the reference solver's own adjoint, where it has one."""
    physics = surrogate.physics
    if physics is None or physics.solver_gradient is None:
        return None
    inputs: Arrays = {name: values.astype(np.float64) for name, values in sample.items()}
    if not quantity.is_linear and physics.solve is None:
        return None
    name = quantity.field.name
    weights = quantity.field_weights
    if not quantity.is_linear and physics.solve is not None:
        weights = quantity.slope(physics.solve(inputs)[name][None])[0]
    return cosine(physics.solver_gradient(inputs, name, weights), sensitivity)


def cosine(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float | None:
    """⟨a, b⟩/(‖a‖‖b‖) over the fields of `right`; None where one vanishes."""
    inner = sum(float(np.vdot(left[name], values)) for name, values in right.items())
    sizes = [np.sqrt(sum(float(np.square(part[name]).sum()) for name in right)) for part in (left, right)]
    scale = float(sizes[0] * sizes[1])
    return inner / scale if scale > 0 else None


def smoothing_lengths(axes: Sequence[Axis], share: float) -> tuple[float, ...]:
    """ℓ of every axis in its steps, for ℓ = `share` of its extent; labels and single points are not smoothed."""
    return tuple(0.0 if axis.labels or axis.points < 2 else share * (axis.points - 1) for axis in axes)


def smoothed(item: Field, density: Grid, share: float) -> Grid:
    """(I − ℓ²Δ)⁻¹ of a density on the field's axes."""
    if not item.axes:
        return density
    return smooth(density, smoothing_lengths(item.axes, share), tuple(axis.periodic for axis in item.axes))


def lengths_text(axes: Sequence[Axis], share: float) -> dict[str, float]:
    """ℓ by axis, in the axis's own unit."""
    lengths = zip(axes, smoothing_lengths(axes, share), strict=True)
    return {axis.name: length * step(axis) for axis, length in lengths if length > 0.0}


def unit_change(values: np.ndarray) -> float:
    """What counts as one unit of change of an input."""
    return float(values.std(dtype=np.float64)) or abs(float(values.mean(dtype=np.float64))) or 1.0


def direction(sample: Arrays, fields: Sequence[Field], gradient: Mapping[str, Grid]) -> Arrays:
    """C g for C = σ²(I − ℓ²Δ)⁻¹ by field, scaled to a mean square of one in units of σ."""
    deviations = {item.name: unit_change(sample[item.name]) for item in fields}
    found = {
        item.name: deviations[item.name] ** 2
        * smoothed(item, gradient[item.name] / quadrature_weights(item.axes), DIRECTION_SMOOTHING)
        * quadrature_weights(item.axes).mean()
        for item in fields
    }
    size = np.sqrt(sum(float(np.square(found[name] / deviations[name]).mean()) for name in found))
    return {name: values / size for name, values in found.items()} if size > 0 else found


def _largest(sample: Arrays, fields: Sequence[Field], direction: Arrays) -> float:
    """The largest ε for which x + ε d is accepted."""
    limits = [np.inf]
    for item in fields:
        for bound, sign in ((item.maximum, 1.0), (item.minimum, -1.0)):
            away = sign * direction[item.name]
            if bound is not None and (away > 0).any():
                limits.append(float(np.min((sign * (bound - sample[item.name]))[away > 0] / away[away > 0])))
    return min(limits)


def linearity_range(functional: Functional, fields: Sequence[Field], gradient: Mapping[str, Grid]) -> Linearity | None:
    """How far along the smoothed gradient the first-order response holds; None where the gradient vanishes."""
    along = direction(functional.sample, fields, gradient)
    slope = sum(float(np.vdot(gradient[name], d)) for name, d in along.items())
    if slope == 0.0:
        return None
    largest = _largest(functional.sample, fields, along)

    def holds(sizes: np.ndarray) -> np.ndarray:
        """Whether the response is within a tenth of the first-order one, up to rounding."""
        sizes_and_zero = np.concatenate([[0.0], sizes])
        rows = {n: functional.sample[n] + np.multiply.outer(sizes_and_zero, d) for n, d in along.items()}
        values = functional.values(rows).mean
        gap = np.abs(values[1:] - values[0] - sizes * slope)
        return np.asarray(gap <= DEVIATION * np.abs(sizes * slope) + ROUNDING * abs(values[0]))

    sizes = SIZES[largest >= SIZES]
    if not len(sizes):
        return Linearity(0.0, True)
    good = holds(sizes)
    if good.all():
        return Linearity(float(sizes[-1]), True)
    first = int(np.argmin(good))
    if first == 0:
        return Linearity(0.0, False)
    between = np.geomspace(sizes[first - 1], sizes[first], REFINED + 2)[1:-1]
    finer = holds(between)
    known = [float(sizes[first - 1]), *between[: len(finer) if finer.all() else int(np.argmin(finer))].tolist()]
    return Linearity(known[-1], False)


def spectral_noise(item: Field, gradient: Grid) -> float | None:
    """Share of ∫g² beyond ⅔ of the largest wavenumber along any axis; None for fields without a fine axis."""
    chosen = [k for k, axis in enumerate(item.axes) if not axis.labels and axis.points >= FEWEST]
    if not chosen:
        return None
    spectrum: np.ndarray = np.asarray(gradient / quadrature_weights(item.axes), dtype=np.complex128)
    beyond = np.zeros(spectrum.shape, dtype=bool)
    for k in chosen:
        axis = item.axes[k]
        transform = fft if axis.periodic else dct
        spectrum = transform(spectrum, axis=k, norm="ortho")
        modes = np.abs(np.fft.fftfreq(axis.points)) * 2 if axis.periodic else np.arange(axis.points) / (axis.points - 1)
        beyond |= (modes > 2 / 3).reshape([-1 if other == k else 1 for other in range(spectrum.ndim)])
    energy = np.square(np.abs(spectrum))
    total = float(energy.sum())
    return float(energy[beyond].sum()) / total if total > 0 else 0.0
