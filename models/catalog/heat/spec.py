"""Heat conduction in a medium of varying diffusivity on the unit square.

    ∂u/∂t = ∇·(a ∇u) in Ω = (0,1)²,   u = 0 on ∂Ω,   u(0) = u₀,   t ∈ [0, 0.1]

a: diffusivity (x, y), u: temperature (lead time, x, y), both at the nodes of a uniform grid including the boundary,
dimensionless. With a = 1 the slowest mode has decayed to e^{−2π²/10} = 14 % at t = 0.1. Good values: smooth a between
0.29 and 3.5 of contrast up to 12, u₀ of a few units that vanishes on the boundary. Any a in [0.1, 10] is answered;
outside the training law the band is withdrawn and the guaranteed bound stands.
"""

from models.fields import LEAD_TIME, Axis, Field, LeadTimes

LOWEST, HIGHEST = 0.1, 10.0
WARMEST = 100.0
FRAMES, END = 25, 0.1
LEAD_TIMES = LeadTimes("1", END / FRAMES, END, FRAMES)


def _axes(points: int) -> tuple[Axis, Axis]:
    return Axis("x", "1", points, 0.0, 1.0), Axis("y", "1", points, 0.0, 1.0)


def inputs(points: int) -> tuple[Field, ...]:
    """Diffusivity and initial temperature at the nodes."""
    medium = "Diffusivity of the medium at the nodes; trained on smooth fields between 0.29 and 3.5."
    initial = "Temperature at time 0; boundary values other than zero are lost at once."
    return (
        Field("diffusivity", "a", "1", medium, _axes(points), LOWEST, HIGHEST, role="static"),
        Field("initial_temperature", "u₀", "1", initial, _axes(points), -WARMEST, WARMEST, role="initial_state"),
    )


def outputs(points: int) -> tuple[Field, ...]:
    """Temperature at the nodes, at every lead time."""
    times = Axis(LEAD_TIME, LEAD_TIMES.units, FRAMES, LEAD_TIMES.start, LEAD_TIMES.stop)
    return (Field("temperature", "u", "1", "Temperature at the nodes, zero on the boundary.", (times, *_axes(points))),)
