"""Darcy flow on the unit square.

    −∇·(a ∇u) = 1 in Ω = (0,1)²,   u = 0 on ∂Ω

a: permeability (x, y), u: pressure (x, y), both at the nodes of a uniform grid including the boundary, dimensionless.
Good values: a ∈ {3, 12} as in the FNO paper, where max u ≈ 0.013. Any positive field in [1e−3, 1e3] is answered;
outside the training law the band is withdrawn and the guaranteed bound stands.
"""

from models.fields import Axis, Field

LOWEST, HIGHEST = 1e-3, 1e3


def _axes(points: int) -> tuple[Axis, Axis]:
    return Axis("x", "1", points, 0.0, 1.0), Axis("y", "1", points, 0.0, 1.0)


def inputs(points: int) -> tuple[Field, ...]:
    """Permeability at the nodes."""
    text = "Permeability of the medium at the nodes; trained on {3, 12}."
    return (Field("permeability", "a", "1", text, _axes(points), LOWEST, HIGHEST),)


def outputs(points: int) -> tuple[Field, ...]:
    """Pressure at the nodes."""
    return (Field("pressure", "u", "1", "Pressure at the nodes, zero on the boundary.", _axes(points)),)
