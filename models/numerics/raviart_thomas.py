"""Lowest-order Raviart–Thomas fluxes (RT0) on a square grid: one normal component per face.

along_x has shape (N+1, N), along_y (N, N+1). q_x is linear in x between the two faces of a cell and constant in y.
Leading axes (times) are allowed everywhere but in the tightening, `add_curl` and `curl_load`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from models.numerics import bilinear
from models.numerics.sine_transform import solve_five_point_cells


@dataclass(frozen=True)
class Flux:
    """Normal components on the faces."""

    along_x: Float[np.ndarray, "*time face_x cell_y"]
    along_y: Float[np.ndarray, "*time cell_x face_y"]

    def divergence(self, width: float) -> Float[np.ndarray, "*time cell_x cell_y"]:
        """Div q on each cell."""
        return np.asarray((np.diff(self.along_x, axis=-2) + np.diff(self.along_y, axis=-1)) / width)


def harmonic_flux(values: Float[np.ndarray, "*time x y"], coefficient: bilinear.Cells) -> Flux:
    """A ∇v averaged onto faces: X = (∂ₓv_left + ∂ₓv_right)/(1/a_left + 1/a_right), one-sided at the boundary."""
    cells = coefficient.shape[0]
    resistance = 1.0 / coefficient
    along_x, along_y = np.diff(values, axis=-2), np.diff(values, axis=-1)
    slope_x = (0.5 * cells) * (along_x[..., 1:] + along_x[..., :-1])
    slope_y = (0.5 * cells) * (along_y[..., 1:, :] + along_y[..., :-1, :])
    face_x = np.empty((*values.shape[:-2], cells + 1, cells))
    face_y = np.empty((*values.shape[:-2], cells, cells + 1))
    face_x[..., 1:-1, :] = (slope_x[..., 1:, :] + slope_x[..., :-1, :]) / (resistance[1:] + resistance[:-1])
    face_x[..., [0, -1], :] = (coefficient * slope_x)[..., [0, -1], :]
    face_y[..., 1:-1] = (slope_y[..., 1:] + slope_y[..., :-1]) / (resistance[:, 1:] + resistance[:, :-1])
    face_y[..., [0, -1]] = (coefficient * slope_y)[..., [0, -1]]
    return Flux(face_x, face_y)


def equilibrate(flux: Flux, source: Float[np.ndarray, "*time cell_x cell_y"]) -> Flux:
    """Add the gradient of one Poisson solution so that div q = −f on every cell, up to rounding."""
    cells = source.shape[-1]
    width = 1.0 / cells
    potential = solve_five_point_cells(-source - flux.divergence(width), width)
    face_x, face_y = flux.along_x.copy(), flux.along_y.copy()
    face_x[..., 1:-1, :] += cells * np.diff(potential, axis=-2)
    face_x[..., 0, :] += 2 * cells * potential[..., 0, :]
    face_x[..., -1, :] -= 2 * cells * potential[..., -1, :]
    face_y[..., 1:-1] += cells * np.diff(potential, axis=-1)
    face_y[..., 0] += 2 * cells * potential[..., 0]
    face_y[..., -1] -= 2 * cells * potential[..., -1]
    return Flux(face_x, face_y)


def add_curl(flux: Flux, stream: bilinear.Nodes) -> Flux:
    """Q + (∂_yψ, −∂ₓψ), ψ ∈ Q1: the divergence does not change."""
    cells = stream.shape[0] - 1
    return Flux(flux.along_x + cells * np.diff(stream, axis=1), flux.along_y - cells * np.diff(stream, axis=0))


def constitutive_error_squared(
    flux: Flux, values: Float[np.ndarray, "*time x y"], coefficient: bilinear.Cells
) -> Float[np.ndarray, "*time cell_x cell_y"]:
    """η_K² = ‖a^{−1/2}(q − a∇v)‖²_K, written as a sum of squares so that nothing cancels.

    On a cell q_x − a∂ₓv = (mean) + (linear in x) − (linear in y): mean² + Δq²/12 + a²Δd²/12, likewise in y.
    """
    cells = coefficient.shape[0]
    width = 1.0 / cells
    along_x, along_y = np.diff(values, axis=-2), np.diff(values, axis=-1)
    mean_x = 0.5 * width * (flux.along_x[..., 1:, :] + flux.along_x[..., :-1, :])
    mean_x -= 0.5 * coefficient * (along_x[..., 1:] + along_x[..., :-1])
    mean_y = 0.5 * width * (flux.along_y[..., 1:] + flux.along_y[..., :-1])
    mean_y -= 0.5 * coefficient * (along_y[..., 1:, :] + along_y[..., :-1, :])
    varying = np.square(width * np.diff(flux.along_x, axis=-2)) + np.square(width * np.diff(flux.along_y, axis=-1))
    twist = coefficient * np.diff(along_x, axis=-1)  # mixed difference, the same along both axes
    varying += 2.0 * np.square(twist)
    return np.asarray((np.square(mean_x) + np.square(mean_y) + varying / 12.0) / coefficient)


def curl_load(flux: Flux, values: bilinear.Nodes, coefficient: bilinear.Cells) -> bilinear.Nodes:
    """Minus half the derivative of Σ η_K² in the nodal values of ψ (q + curl ψ): the right-hand side of tightening."""
    cells = coefficient.shape[0]
    width = 1.0 / cells
    scale = width / coefficient  # h²/a, one h absorbed by the curl's 1/h
    along_x, along_y = np.diff(values, axis=0), np.diff(values, axis=1)
    mismatch = 0.25 * (flux.along_x[1:] + flux.along_x[:-1]) * scale
    mismatch -= 0.25 * (along_x[:, 1:] + along_x[:, :-1])
    slope = np.diff(flux.along_x, axis=0) * scale / 12.0
    force_x = np.zeros_like(flux.along_x)
    force_x[:-1] += mismatch - slope
    force_x[1:] += mismatch + slope
    mismatch = 0.25 * (flux.along_y[:, 1:] + flux.along_y[:, :-1]) * scale
    mismatch -= 0.25 * (along_y[1:] + along_y[:-1])
    slope = np.diff(flux.along_y, axis=1) * scale / 12.0
    force_y = np.zeros_like(flux.along_y)
    force_y[:, :-1] += mismatch - slope
    force_y[:, 1:] += mismatch + slope
    load = np.zeros((cells + 1, cells + 1))
    load[:, 1:] -= force_x
    load[:, :-1] += force_x
    load[1:] += force_y
    load[:-1] -= force_y
    return load
