"""Viscous Burgers equation on the unit circle.

    ∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x²,   x ∈ [0, 1) periodic,   u(0, x) = u₀(x),   t ∈ [0, 1]

u: velocity (x), ν: viscosity, all dimensionless; a function is its values at `points` nodes j/points and, between them,
their trigonometric interpolant. Waves steepen where u₀ falls, merge into fronts of width 4ν/jump, and decay.
Good values: ν in [1e−3, 0.1], |u₀| ≤ 1. Any ν in [1e−4, 1] is answered; outside the training law the band is withdrawn
and the guaranteed bound stands.
"""

from models.fields import Axis, Field, LeadTimes

LEAD_TIMES = LeadTimes("1", 0.0, 1.0, 101, input="time")


def _axis(points: int) -> Axis:
    return Axis("x", "1", points, 0.0, 1.0 - 1.0 / points, periodic=True)


def inputs(points: int) -> tuple[Field, ...]:
    """Initial velocity, viscosity and lead time."""
    return (
        Field("initial_velocity", "u₀", "1", "Velocity at time 0.", (_axis(points),), -5.0, 5.0, role="initial_state"),
        Field("viscosity", "ν", "1", "Viscosity; trained on [0.001, 0.1], log-uniform.", (), 1e-4, 1.0,
              role="parameter"),
        Field("time", "t", "1", "Time since the initial state.", (), LEAD_TIMES.start, LEAD_TIMES.stop,
              role="lead_time"),
    )  # fmt: skip


def outputs(points: int) -> tuple[Field, ...]:
    """Velocity at the nodes."""
    return (Field("velocity", "u", "1", "Velocity at the lead time.", (_axis(points),)),)
