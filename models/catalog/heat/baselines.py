"""Classical methods the surrogate is compared with: the reference's elements on fewer cells, and few sine modes.

All give every lead time at once: one factorisation and a small Krylov basis, or one small symmetric eigenproblem.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from models.catalog.heat import reference
from models.catalog.heat.spec import LEAD_TIMES
from models.physical_model import Arrays

Nodal = Float[np.ndarray, "x y"]
Frames = Float[np.ndarray, "time x y"]
KRYLOV = (8, 12, 16)
MODES = (8, 12)


def served_cells(diffusivity: Nodal, initial: Nodal, basis: int) -> Frames:
    """Bilinear elements on the served cells, each with the geometric mean of its corners."""
    logarithm = np.log(diffusivity)
    medium = np.exp(0.25 * (logarithm[1:, 1:] + logarithm[:-1, 1:] + logarithm[1:, :-1] + logarithm[:-1, :-1]))
    return np.asarray(reference.evolve(initial, medium, basis).at(LEAD_TIMES.values))


def half_cells(diffusivity: Nodal, initial: Nodal, basis: int) -> Frames:
    """The fallback solver with a smaller basis."""
    found = reference.evolve(*reference.refined(diffusivity, initial, 2), basis)
    return np.asarray(found.at(LEAD_TIMES.values)[:, ::2, ::2])


def sine_modes(diffusivity: Nodal, initial: Nodal, count: int) -> Frames:
    """Galerkin in count² sine functions, integrals by the trapezoidal rule at the nodes, exact in time."""
    cells = diffusivity.shape[0] - 1
    nodes, modes = np.linspace(0.0, 1.0, cells + 1), np.pi * np.arange(1, count + 1)
    weights = np.full(cells + 1, 2.0 / cells)
    weights[[0, -1]] /= 2.0
    sine, cosine = np.sin(nodes[:, None] * modes), np.cos(nodes[:, None] * modes) * modes
    sines, slopes = (np.einsum("i,ik,il->ikl", weights, f, f).reshape(cells + 1, -1) for f in (sine, cosine))
    stiffness = slopes.T @ diffusivity @ sines + sines.T @ diffusivity @ slopes
    stiffness = stiffness.reshape(count, count, count, count).transpose(0, 2, 1, 3).reshape(count**2, count**2)
    rates, vectors = eigh(stiffness)
    analysis = weights[:, None] * sine * np.sinc(modes / (2.0 * np.pi * cells)) ** 2  # of the bilinear interpolant
    start = vectors.T @ (analysis.T @ initial @ analysis).ravel()
    decayed = vectors @ (start[:, None] * np.exp(-np.outer(rates, LEAD_TIMES.values)))
    return np.asarray(sine @ decayed.T.reshape(-1, count, count) @ sine.T)


def methods(fine_inputs: Arrays) -> Mapping[str, Callable[[], np.ndarray]]:
    """Named solvers of one sample; each call solves once and returns temperature at all lead times."""
    medium, initial = (fine_inputs[name].astype(np.float64) for name in ("diffusivity", "initial_temperature"))
    cells = medium.shape[0] - 1
    found: dict[str, Callable[[], np.ndarray]] = {
        f"{count}² sine modes": partial(sine_modes, medium, initial, count) for count in MODES if count < cells
    }
    for basis in KRYLOV:
        found[f"elements on {cells}² cells, Krylov {basis}"] = partial(served_cells, medium, initial, basis)
    found[f"elements on {2 * cells}² cells, Krylov 16"] = partial(half_cells, medium, initial, 16)
    return found
