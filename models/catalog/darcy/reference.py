"""Reference solver for Darcy flow: five-point finite volumes at the nodes.

    −div(a ∇u) = f in (0,1)²,  u = 0 on ∂Ω.        a: (x, y) at nodes;  u: (x, y) at nodes, boundary zero

Order 2 for smooth a. Two settings are used: arithmetic face means on the 421² nodes where the medium is drawn make
the training truth (the scheme of the FNO paper); geometric means on the 85² served nodes are the fallback while
serving, because on a subsampled two-phase medium they come more than twice as close to that truth (0.31 % against
0.68 %, `python -m training report darcy`).
"""

import numpy as np
from jaxtyping import Float

from models.errors import OutOfRange
from models.numerics.finite_volume import FaceMean, assemble, solve_directly, solve_iteratively

DIRECT_LIMIT = 128  # nodes per side; above it the m⁴ of the band solver loses to iterations
ITERATIVE_CONTRAST = 12.0  # below it conjugate gradients beat the band solver at 85²


def solve(
    permeability: Float[np.ndarray, "x y"],
    source: Float[np.ndarray, "x y"] | float = 1.0,
    face_mean: FaceMean = "geometric",
    relative_tolerance: float = 1e-8,
) -> Float[np.ndarray, "x y"]:
    """Pressure at the nodes; `source` is a number or nodal values.

    Raises OutOfRange when the permeability is not positive and finite.
    """
    lowest, highest = float(np.min(permeability)), float(np.max(permeability))
    if not (lowest > 0.0 and np.isfinite(highest)):
        raise OutOfRange("permeability", "positive and finite", f"minimum {lowest:g}, maximum {highest:g}")
    points = permeability.shape[0]
    matrix = assemble(permeability, face_mean)
    values = np.broadcast_to(np.asarray(source, dtype=float), permeability.shape)[1:-1, 1:-1]
    load = values / (points - 1) ** 2
    if points <= DIRECT_LIMIT and highest > ITERATIVE_CONTRAST * lowest:
        return np.pad(solve_directly(matrix, load), 1)
    return np.pad(solve_iteratively(matrix, load, relative_tolerance), 1)


def residual(
    permeability: Float[np.ndarray, "x y"],
    pressure: Float[np.ndarray, "x y"],
    source: Float[np.ndarray, "x y"] | float = 1.0,
    face_mean: FaceMean = "geometric",
) -> Float[np.ndarray, "inner_x inner_y"]:
    """f + div_h(a ∇_h u) on interior nodes: what is left when `pressure` is put into the scheme."""
    cells = permeability.shape[0] - 1
    values = np.broadcast_to(np.asarray(source, dtype=float), permeability.shape)[1:-1, 1:-1]
    applied = assemble(permeability, face_mean).apply(pressure[1:-1, 1:-1]) * cells**2
    return np.asarray(values - applied)


def gradient(inputs: dict[str, np.ndarray], field: str, weights: Float[np.ndarray, "x y"]) -> dict[str, np.ndarray]:
    """∂(Σ w u)/∂a of the fallback scheme by its adjoint: A λ = w, and −λᵀ(∂A/∂a)u over the faces.

    A is symmetric, so the adjoint costs one more solve with the same matrix. Raises KeyError for another `field`.
    """
    if field != "pressure":
        raise KeyError(field)
    permeability = inputs["permeability"]
    pressure = solve(permeability)
    scaled = weights * (permeability.shape[0] - 1) ** 2
    adjoint = solve(permeability, scaled)
    result = np.zeros_like(permeability, dtype=float)
    for axis in (0, 1):
        lower = (slice(None, -1), slice(1, -1))[:: 1 if axis == 0 else -1]
        upper = (slice(1, None), slice(1, -1))[:: 1 if axis == 0 else -1]
        change = -(pressure[upper] - pressure[lower]) * (adjoint[upper] - adjoint[lower])
        half = 0.5 * change * np.sqrt(permeability[upper] * permeability[lower])
        result[lower] += half / permeability[lower]
        result[upper] += half / permeability[upper]
    return {"permeability": result}
