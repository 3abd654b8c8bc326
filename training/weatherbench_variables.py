"""ERA5 variables by their WeatherBench 2 names: units, CF names and the range in which values are plausible.

The ranges are wide: they are to catch wrong units (metres of geopotential height, degrees Celsius, hectopascals), not
weather. Geopotential has a range for each level, linear in the logarithm of pressure between those listed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantity:
    """What is known of a variable: CF name, symbol, unit, plausible range."""

    standard_name: str
    symbol: str
    units: str
    low: float
    high: float


KNOWN = {
    "geopotential": Quantity("geopotential", "Φ", "m2 s-2", -8e3, 5e5),
    "temperature": Quantity("air_temperature", "T", "K", 150.0, 340.0),
    "u_component_of_wind": Quantity("eastward_wind", "u", "m s-1", -200.0, 200.0),
    "v_component_of_wind": Quantity("northward_wind", "v", "m s-1", -200.0, 200.0),
    "vertical_velocity": Quantity("lagrangian_tendency_of_air_pressure", "ω", "Pa s-1", -50.0, 50.0),
    "specific_humidity": Quantity("specific_humidity", "q", "kg kg-1", -1e-3, 0.05),
    "2m_temperature": Quantity("air_temperature", "T2m", "K", 180.0, 340.0),
    "10m_u_component_of_wind": Quantity("eastward_wind", "u10", "m s-1", -100.0, 100.0),
    "10m_v_component_of_wind": Quantity("northward_wind", "v10", "m s-1", -100.0, 100.0),
    "10m_wind_speed": Quantity("wind_speed", "U10", "m s-1", 0.0, 100.0),
    "mean_sea_level_pressure": Quantity("air_pressure_at_mean_sea_level", "p0", "Pa", 8.5e4, 1.1e5),
    "surface_pressure": Quantity("surface_air_pressure", "ps", "Pa", 4e4, 1.1e5),
    "sea_surface_temperature": Quantity("sea_surface_temperature", "SST", "K", 260.0, 320.0),
    "total_column_water_vapour": Quantity("atmosphere_mass_content_of_water_vapor", "W", "kg m-2", -1.0, 150.0),
    "total_precipitation_6hr": Quantity("precipitation_amount", "P", "m", -1e-4, 2.0),
    "total_precipitation_24hr": Quantity("precipitation_amount", "P", "m", -1e-4, 4.0),
    "land_sea_mask": Quantity("land_area_fraction", "l", "1", -0.01, 1.01),
    "geopotential_at_surface": Quantity("surface_geopotential", "Φs", "m2 s-2", -8e3, 9e4),
}

# hPa: lowest and highest plausible geopotential, from the ICAO standard atmosphere and what ERA5 contains
GEOPOTENTIAL = {
    1: (4.0e5, 5.2e5),
    10: (2.6e5, 3.4e5),
    50: (1.75e5, 2.2e5),
    100: (1.4e5, 1.75e5),
    200: (9.8e4, 1.28e5),
    300: (7.4e4, 1.0e5),
    500: (4.5e4, 6.0e4),
    700: (2.1e4, 3.5e4),
    850: (7e3, 1.9e4),
    925: (0.0, 1.2e4),
    1000: (-8e3, 6e3),
}


def plausible_range(name: str, level: int | None) -> tuple[float, float] | None:
    """Lowest and highest plausible value; None of a variable that is not listed here."""
    if name == "geopotential" and level is not None:
        pressures = np.log(list(GEOPOTENTIAL))
        low, high = (np.interp(np.log(level), pressures, [r[k] for r in GEOPOTENTIAL.values()]) for k in (0, 1))
        return float(low), float(high)
    return (KNOWN[name].low, KNOWN[name].high) if name in KNOWN else None
