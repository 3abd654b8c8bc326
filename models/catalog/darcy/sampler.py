"""Random permeability fields.

The training law is that of the FNO paper (arXiv 2010.08895, appendix A.3.2): threshold a Gaussian field
N(0, (−Δ + 9)^{−2}) with Neumann boundary at zero, 12 above and 3 below, on 421² nodes; every fifth node is served.
The released files move the coefficient from cell centres to nodes by a cubic spline, which overshoots at jumps
(down to negative permeability); here it is sampled at the nodes: same law, node-consistent, not the same files.
The other families are for validity and robustness tests only; nothing is trained on them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from models.numerics.gaussian_random_field import neumann_field

Permeability = Float[np.ndarray, "x y"]
HIGH, LOW = 12.0, 3.0


def two_phase(generator: np.random.Generator, points: int) -> Permeability:
    """The training law: a ∈ {3, 12}, α = 2, τ = 3."""
    return np.asarray(np.where(neumann_field(generator, points, 2.0, 3.0) >= 0.0, HIGH, LOW))


def high_contrast(generator: np.random.Generator, points: int) -> Permeability:
    """Two phases, ratio log-uniform in [4, 300], geometric mean 6 as in training."""
    field = neumann_field(generator, points, 2.0, 3.0)
    root = np.sqrt(np.exp(generator.uniform(np.log(4.0), np.log(300.0))))
    return np.asarray(np.where(field >= 0.0, 6.0 * root, 6.0 / root))


def contrast_300(generator: np.random.Generator, points: int) -> Permeability:
    """Two phases at a ratio of exactly 300, geometric mean 6."""
    root = np.sqrt(300.0)
    return np.asarray(np.where(neumann_field(generator, points, 2.0, 3.0) >= 0.0, 6.0 * root, 6.0 / root))


def log_normal(generator: np.random.Generator, points: int) -> Permeability:
    """Smooth: 6·exp(g), g a Gaussian field (α = 3, τ = 7) scaled to a contrast uniform in [4, 300] (log)."""
    field = neumann_field(generator, points, 3.0, 7.0)
    span = generator.uniform(np.log(4.0), np.log(300.0))
    field = (field - field.min()) / (field.max() - field.min()) - 0.5
    return np.asarray(6.0 * np.exp(span * field))


def short_scale(generator: np.random.Generator, points: int) -> Permeability:
    """The training values with a shorter correlation length, τ = 7."""
    return np.asarray(np.where(neumann_field(generator, points, 2.0, 7.0) >= 0.0, HIGH, LOW))


def inclusion(generator: np.random.Generator, points: int) -> Permeability:
    """One permeable disc in a tight medium."""
    nodes = np.linspace(0.0, 1.0, points)
    centre, radius = generator.uniform(0.3, 0.7, size=2), generator.uniform(0.1, 0.25)
    inside = (nodes[:, None] - centre[0]) ** 2 + (nodes[None, :] - centre[1]) ** 2 <= radius**2
    return np.asarray(np.where(inside, HIGH, LOW))


def rotated_checkerboard(generator: np.random.Generator, points: int) -> Permeability:
    """Checkerboard turned by a random angle: corners, where the exact solution is singular."""
    nodes = np.linspace(-0.5, 0.5, points)
    angle, squares = generator.uniform(0.0, np.pi / 2), generator.uniform(3.0, 6.0)
    along = squares * (np.cos(angle) * nodes[:, None] + np.sin(angle) * nodes[None, :])
    across = squares * (np.cos(angle) * nodes[None, :] - np.sin(angle) * nodes[:, None])
    return np.asarray(np.where((np.floor(along) + np.floor(across)) % 2 == 0, HIGH, LOW))


FAMILIES: dict[str, Callable[[np.random.Generator, int], Permeability]] = {
    family.__name__: family
    for family in (
        two_phase, high_contrast, contrast_300, log_normal, short_scale, inclusion, rotated_checkerboard,
    )
}  # fmt: skip


def draw(seed: int, index: int, points: int, family: str = "two_phase") -> Permeability:
    """Field number `index` of the stream `seed` on `points`² nodes; equal arguments give equal fields."""
    return FAMILIES[family](np.random.default_rng([seed, index]), points)
