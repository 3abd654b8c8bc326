"""Lowest-order Raviart–Thomas fluxes (RT0) on a square grid: one normal component per face.

along_x has shape (N+1, N), along_y (N, N+1). q_x is linear in x between the two faces of a cell and constant in y.
Leading axes (times) are allowed everywhere but in the tightening, `add_curl` and `curl_load`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from models.numerics import bilinear
from models.numerics.sine_transform import solve_five_point_cells

Gradient = Float[np.ndarray, "3 *time cell_x cell_y"]  # that of `bilinear.gradient`
Mismatch = Float[np.ndarray, "5 *time cell_x cell_y"]


@dataclass(frozen=True)
class Flux:
    """Normal components on the faces."""

    along_x: Float[np.ndarray, "*time face_x cell_y"]
    along_y: Float[np.ndarray, "*time cell_x face_y"]

    def divergence(self, width: float) -> Float[np.ndarray, "*time cell_x cell_y"]:
        """Div q on each cell."""
        found = self.along_x[..., 1:, :] - self.along_x[..., :-1, :]
        found += self.along_y[..., 1:]
        found -= self.along_y[..., :-1]
        found /= width
        return np.asarray(found)


def harmonic_flux(gradient: Gradient, coefficient: bilinear.Cells) -> Flux:
    """A ∇v averaged onto faces: X = (∂ₓv_left + ∂ₓv_right)/(1/a_left + 1/a_right), one-sided at the boundary."""
    cells = coefficient.shape[0]
    resistance = 1.0 / coefficient
    slope_x, slope_y, _ = gradient
    face_x = np.empty((*slope_x.shape[:-2], cells + 1, cells))
    face_y = np.empty((*slope_y.shape[:-2], cells, cells + 1))
    np.add(slope_x[..., 1:, :], slope_x[..., :-1, :], out=face_x[..., 1:-1, :])
    face_x[..., 1:-1, :] *= cells / (resistance[1:] + resistance[:-1])
    face_x[..., [0, -1], :] = cells * coefficient[[0, -1]] * slope_x[..., [0, -1], :]
    np.add(slope_y[..., 1:], slope_y[..., :-1], out=face_y[..., 1:-1])
    face_y[..., 1:-1] *= cells / (resistance[:, 1:] + resistance[:, :-1])
    face_y[..., [0, -1]] = cells * coefficient[:, [0, -1]] * slope_y[..., [0, -1]]
    return Flux(face_x, face_y)


def potential_flux(divergence: Float[np.ndarray, "*time cell_x cell_y"]) -> Flux:
    """The gradient of one Poisson solution, with this divergence on every cell, up to rounding."""
    cells = divergence.shape[-1]
    potential = solve_five_point_cells(divergence, 1.0 / cells)
    potential *= cells
    face_x = np.empty((*potential.shape[:-2], cells + 1, cells))
    face_y = np.empty((*potential.shape[:-2], cells, cells + 1))
    np.subtract(potential[..., 1:, :], potential[..., :-1, :], out=face_x[..., 1:-1, :])
    face_x[..., 0, :], face_x[..., -1, :] = 2.0 * potential[..., 0, :], -2.0 * potential[..., -1, :]
    np.subtract(potential[..., 1:], potential[..., :-1], out=face_y[..., 1:-1])
    face_y[..., 0], face_y[..., -1] = 2.0 * potential[..., 0], -2.0 * potential[..., -1]
    return Flux(face_x, face_y)


def equilibrate(flux: Flux, source: Float[np.ndarray, "*time cell_x cell_y"] | float) -> Flux:
    """Add the gradient of one Poisson solution so that div q = −f on every cell, up to rounding."""
    missing = flux.divergence(1.0 / flux.along_x.shape[-1])
    missing += source
    added = potential_flux(np.negative(missing, out=missing))
    np.add(added.along_x, flux.along_x, out=added.along_x)
    np.add(added.along_y, flux.along_y, out=added.along_y)
    return added


def add_curl(flux: Flux, stream: bilinear.Nodes) -> Flux:
    """Q + (∂_yψ, −∂ₓψ), ψ ∈ Q1: the divergence does not change."""
    cells = stream.shape[0] - 1
    return Flux(flux.along_x + cells * np.diff(stream, axis=1), flux.along_y - cells * np.diff(stream, axis=0))


def weighted(
    flux: Flux, root: bilinear.Cells, out: Float[np.ndarray, "part *time cell_x cell_y"]
) -> Float[np.ndarray, "part *time cell_x cell_y"]:
    """a^{−1/2} q as means along x and y, then what varies along x and y: Σ of the squares = ‖a^{−1/2} q‖²_K; `root` = √a."""
    half = (0.5 / root.shape[0]) / root
    varying = half * (2.0 / np.sqrt(12.0))
    for axis, (before, after) in enumerate(
        (
            (flux.along_x[..., :-1, :], flux.along_x[..., 1:, :]),
            (flux.along_y[..., :-1], flux.along_y[..., 1:]),
        )
    ):
        np.add(after, before, out=out[axis])
        out[axis] *= half
        np.subtract(after, before, out=out[2 + axis])
        out[2 + axis] *= varying
    return out


def constitutive_error(flux: Flux, gradient: Gradient, coefficient: bilinear.Cells) -> Mismatch:
    """a^{−1/2}(q − a∇v) as `weighted`, and the variation of √a ∇v last: Σ of the squares = η_K², and nothing cancels.

    On a cell q_x − a∂ₓv = (mean) + (linear in x) − (linear in y): mean² + Δq²/12 + a²Δd²/12, likewise in y.
    """
    root, parts = np.sqrt(coefficient), np.empty((5, *gradient.shape[1:]))
    weighted(flux, root, parts[:4])
    parts[0] -= root * gradient[0]
    parts[1] -= root * gradient[1]
    np.multiply(root, gradient[2], out=parts[4])
    return parts


def constitutive_error_squared(
    flux: Flux, gradient: Gradient, coefficient: bilinear.Cells
) -> Float[np.ndarray, "*time cell_x cell_y"]:
    """η_K² = ‖a^{−1/2}(q − a∇v)‖²_K."""
    parts = constitutive_error(flux, gradient, coefficient)
    return np.asarray(np.square(parts, out=parts).sum(axis=0))


def curl_load(mismatch: Mismatch, coefficient: bilinear.Cells) -> bilinear.Nodes:
    """Minus half the derivative of Σ η_K² in the nodal values of ψ (q + curl ψ): the right-hand side of tightening."""
    along_x, along_y, varying_x, varying_y, _ = mismatch
    inverse = 1.0 / np.sqrt(coefficient)
    parts = np.empty((3, *coefficient.shape))
    np.multiply(inverse, along_y, out=parts[0])
    np.multiply(-inverse, along_x, out=parts[1])
    np.subtract(varying_y, varying_x, out=parts[2])
    parts[2] *= np.sqrt(0.5) * inverse
    return bilinear.gradient_adjoint(parts)
