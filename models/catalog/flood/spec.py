"""Flood depth from rain over terrain: the local inertial form of the shallow-water equations.

    ∂h/∂t + ∇·q = r,   ∂q/∂t + g h ∇(h + z) + g n²|q|q / h^{7/3} = 0,   q·normal = 0 on the edges

h: depth (m), z: bed elevation (m), q: unit discharge (m² s⁻¹), r: effective rain, n: Manning's roughness, g = 9.81 m s⁻²;
cells of 20 m, dry at the start, two hours. Rain falls evenly over the domain in six steps of 15 minutes; nothing
infiltrates and nothing leaves, so all rain is somewhere at the end.
Good values: n in [0.02, 0.12], 15 to 75 mm of rain; then water stands 0.1 to 3 m deep in hollows and channels.
Limits: momentum advection is left out, so fast flow on steep slopes (Froude number near one) is only indicative.
Source: Bates, Horritt & Fewtrell (2010); de Almeida et al. (2012).
"""

from models.fields import LEAD_TIME, Axis, Field, LeadTimes

CELL_SIZE = 20.0
RAIN_STEP = 900.0
RAIN_STEPS = 6
LEAD_TIMES = LeadTimes("s", 3600.0, 7200.0, 3)


def _axis(name: str, points: int) -> Axis:
    standard_name = f"projection_{name}_coordinate"
    return Axis(name, "m", points, CELL_SIZE / 2, CELL_SIZE * (points - 0.5), standard_name=standard_name)


def _grid(points: int) -> tuple[Axis, Axis]:
    return _axis("y", points), _axis("x", points)


def inputs(points: int) -> tuple[Field, ...]:
    """Terrain, roughness and rain."""
    rain_time = Axis("rain_time", "s", RAIN_STEPS, 0.0, RAIN_STEP * (RAIN_STEPS - 1))
    return (
        Field("elevation", "z", "m", "Bed elevation at cell centres.", _grid(points), -500.0, 9000.0,
              role="static", standard_name="surface_altitude"),
        Field("roughness", "n", "s m-1/3", "Manning's roughness; trained on [0.02, 0.12].", _grid(points), 0.005, 0.5,
              role="static"),
        Field("rain", "r", "mm h-1", "Effective rain in steps of 900 s, by the start of each step; none afterwards.",
              (rain_time,), 0.0, 500.0, role="forcing"),
    )  # fmt: skip


def outputs(points: int) -> tuple[Field, ...]:
    """Greatest depth of the two hours, and depth at three times."""
    times = Axis(LEAD_TIME, LEAD_TIMES.units, LEAD_TIMES.frames, LEAD_TIMES.start, LEAD_TIMES.stop)
    return (
        Field("maximum_depth", "h_max", "m", "Greatest water depth during the two hours.", _grid(points), 0.0),
        Field("depth", "h", "m", "Water depth.", (times, *_grid(points)), 0.0),
    )
