"""Wind, temperature and pressure at four sites, 1 to 24 hours ahead, from the last 25 hours.

    (speed, direction, temperature, pressure)(t − 24 h … t) at four points  →  their law at t + 1 h … t + 24 h

The sites are four neighbouring grid points of NASA's MERRA-2 reanalysis (NE, NW, SE, SW): wind at 50 m, temperature at
2 m, surface pressure, hourly. Nothing is known of the equations but persistence, seasons and what seventeen years show.
Good values: wind 0 to 30 m s⁻¹, temperature −10 to 30 °C, pressure 940 to 1045 hPa. Skill over the best statistical
baseline is largest 3 to 12 hours ahead and small at 24. Times are UTC labels.
"""

from models.fields import LEAD_TIME, Axis, Field, LeadTimes

STATIONS = ("NE", "NW", "SE", "SW")
HISTORY = 25
LEAD_TIMES = LeadTimes("h", 1.0, 24.0, 24)
EPOCH = "hours since 1970-01-01T00:00:00Z"
EARLIEST, LATEST = -175_320.0, 1_139_592.0  # 1950 and 2100


def _stations() -> Axis:
    return Axis("station", "1", len(STATIONS), 0.0, len(STATIONS) - 1.0, labels=STATIONS)


def _past() -> tuple[Axis, Axis]:
    return Axis("history", "h", HISTORY, 1.0 - HISTORY, 0.0), _stations()


def _ahead() -> tuple[Axis, Axis]:
    return Axis(LEAD_TIME, "h", LEAD_TIMES.frames, LEAD_TIMES.start, LEAD_TIMES.stop), _stations()


def inputs(points: int) -> tuple[Field, ...]:
    """The last 25 hours and the time of the last of them."""
    return (
        Field("wind_speed", "v", "m s-1", "Wind speed 50 m above ground.", _past(), 0.0, 75.0,
              role="history", standard_name="wind_speed"),
        Field("wind_direction", "φ", "degree", "Direction the wind comes from, clockwise from north.", _past(), 0.0, 360.0,
              role="history", standard_name="wind_from_direction"),
        Field("air_temperature", "T", "degC", "Air temperature 2 m above ground.", _past(), -60.0, 60.0,
              role="history", standard_name="air_temperature"),
        Field("surface_pressure", "p", "hPa", "Pressure at the surface.", _past(), 800.0, 1080.0,
              role="history", standard_name="surface_air_pressure"),
        Field("reference_time", "t", EPOCH, "Time of the last hour of the history.", (), EARLIEST, LATEST,
              role="reference_time", standard_name="forecast_reference_time"),
    )  # fmt: skip


def outputs(points: int) -> tuple[Field, ...]:
    """The three forecast quantities."""
    return (
        Field("wind_speed", "v", "m s-1", "Wind speed 50 m above ground.", _ahead(), 0.0, standard_name="wind_speed"),
        Field("air_temperature", "T", "degC", "Air temperature 2 m above ground.", _ahead(),
              standard_name="air_temperature"),
        Field("surface_pressure", "p", "hPa", "Pressure at the surface.", _ahead(),
              standard_name="surface_air_pressure"),
    )  # fmt: skip
