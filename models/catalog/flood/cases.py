"""Problems with known answers, for the reference solver.

Each case runs on the given number of cells along x and returns depths to compare with the exact ones. The first two are
exact for the local inertial equations themselves; the last two are met to round-off on any grid, so they have no order.
"""

import numpy as np

from models.catalog.flood.reference import GRAVITY, MILLIMETRES_PER_HOUR, Cells, Terrain, simulate
from models.catalog.flood.spec import RAIN_STEP, RAIN_STEPS
from models.physical_model import Case

NO_RAIN = np.zeros(1)
ROUND_OFF = 1e-12

WAVE_SPEED, WAVE_ROUGHNESS, WAVE_LENGTH, WAVE_TIME = 0.5, 0.05, 1000.0, 1500.0
BEHIND_FRONT = 0.5  # compared where the water came in first: at the front itself the depth jumps

SHEET_RAIN, SHEET_ROUGHNESS, SHEET_SLOPE, SHEET_LENGTH = 60.0, 0.05, 0.001, 400.0  # mm/h, s m^{−1/3}, 1, m
SHEET_START = 0.1  # compared where the sheet is over a centimetre deep, far above the dry threshold


def _centres(points: int, length: float) -> np.ndarray:
    return np.asarray((np.arange(points) + 0.5) * length / points)


def _strip(elevation: np.ndarray, roughness: float, length: float) -> Terrain:
    """One row of cells."""
    bed = elevation[None, :]
    return Terrain(bed, np.full_like(bed, roughness), length / len(elevation))


def wave_depth(distance: np.ndarray) -> np.ndarray:
    """Depth at a `distance` ξ = ut − x behind the front: (3/7) g h^{7/3} − ¾ u² h^{4/3} = g n² u² ξ + constant.

    It follows from q = u h, h = h(ξ) on a flat bed. The constant makes h(0) = u²/g, the least depth there can be; the
    left side is convex above it, so Newton from above converges.
    """
    least = WAVE_SPEED**2 / GRAVITY

    def left(h: np.ndarray | float) -> np.ndarray:
        return np.asarray(3 / 7 * GRAVITY * h ** (7 / 3) - 0.75 * WAVE_SPEED**2 * h ** (4 / 3))

    right = left(least) + GRAVITY * (WAVE_ROUGHNESS * WAVE_SPEED) ** 2 * np.maximum(distance, 1e-9)
    depth = least + (7 / 3 * right / GRAVITY + least ** (7 / 3)) ** (3 / 7)
    for _ in range(40):
        slope = GRAVITY * depth ** (4 / 3) - WAVE_SPEED**2 * depth ** (1 / 3)
        depth = depth - (left(depth) - right) / slope
    return np.where(distance > 0.0, depth, 0.0)


def _wave_inflow(time: float, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inflow = WAVE_SPEED * wave_depth(np.array([WAVE_SPEED * time]))
    return inflow, np.zeros(1)


def _behind_front(points: int) -> np.ndarray:
    return _centres(points, WAVE_LENGTH) < BEHIND_FRONT * WAVE_SPEED * WAVE_TIME


def _wave(points: int) -> Cells:
    terrain = _strip(np.zeros(points), WAVE_ROUGHNESS, WAVE_LENGTH)
    run = simulate(terrain, NO_RAIN, np.array([WAVE_TIME]), _wave_inflow)
    return np.asarray(run.depth[0][:, _behind_front(points)])


def _wave_exact(points: int) -> Cells:
    distance = WAVE_SPEED * WAVE_TIME - _centres(points, WAVE_LENGTH)
    return wave_depth(distance)[None, _behind_front(points)]


def sheet_depth(x: np.ndarray) -> np.ndarray:
    """H = (r x n/√S)^{3/5}: friction slope S everywhere when q = r x."""
    discharge = SHEET_RAIN * MILLIMETRES_PER_HOUR * x
    return np.asarray((discharge * SHEET_ROUGHNESS / np.sqrt(SHEET_SLOPE)) ** 0.6)


def _open_edge(time: float, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The uniform flow of the last cell leaves."""
    return np.zeros(len(depth)), depth[:, -1] ** (5 / 3) * np.sqrt(SHEET_SLOPE) / SHEET_ROUGHNESS


def _sheet(points: int) -> Cells:
    """The bed lies h below a plane of slope S, so the surface is that plane and the formula is exact."""
    x = _centres(points, SHEET_LENGTH)
    terrain = _strip(-SHEET_SLOPE * x - sheet_depth(x), SHEET_ROUGHNESS, SHEET_LENGTH)
    steady = 8
    run = simulate(terrain, np.full(steady, SHEET_RAIN), np.array([steady * RAIN_STEP]), _open_edge)
    return np.asarray(run.depth[0][:, x > SHEET_START * SHEET_LENGTH])


def _sheet_exact(points: int) -> Cells:
    x = _centres(points, SHEET_LENGTH)
    return sheet_depth(x[x > SHEET_START * SHEET_LENGTH])[None, :]


def _lake_bed(points: int) -> np.ndarray:
    y, x = np.meshgrid(*2 * (np.linspace(0.0, 1.0, points),), indexing="ij")
    return np.asarray(300.0 + 3.0 * np.sin(7.0 * x) * np.cos(5.0 * y) + x)


def _lake_exact(points: int) -> Cells:
    """Level surface at 301 m with islands."""
    return np.asarray(np.maximum(301.0 - _lake_bed(points), 0.0))


def _lake(points: int) -> Cells:
    bed = _lake_bed(points)
    terrain = Terrain(bed, np.full_like(bed, 0.03))
    run = simulate(terrain, NO_RAIN, np.array([1800.0]), initial_depth=_lake_exact(points))
    return np.asarray(run.depth[0])


PROFILE = np.array([10.0, 40.0, 90.0, 5.0, 0.0, 20.0])


def _basin(points: int) -> Cells:
    bed = np.full((points, points), 120.0)
    run = simulate(Terrain(bed, np.full_like(bed, 0.05)), PROFILE, np.array([RAIN_STEP * RAIN_STEPS]))
    return np.asarray(run.depth[0])


def _basin_exact(points: int) -> Cells:
    return np.full((points, points), PROFILE.sum() * RAIN_STEP * MILLIMETRES_PER_HOUR)


CASES = (
    Case("travelling wave", _wave, _wave_exact, (51, 101, 201), 1e-2, 1.0,
         "q = uh, h(ut − x), exact for these equations; greatest error behind the front; first order, so Δx/(1 km)"),
    Case("steady sheet flow", _sheet, _sheet_exact, (41, 81, 161), 2e-2, 1.0,
         "h = (r x n/√S)^{3/5} on a bed whose water surface is a plane; first order (depth is taken upstream)"),
    Case("lake at rest", _lake, _lake_exact, (9, 17, 33), ROUND_OFF, None,
         "level water among islands stays level to round-off"),
    Case("rain on a flat basin", _basin, _basin_exact, (9, 17, 33), ROUND_OFF, None,
         "h = ∫ r dt to round-off"),
)  # fmt: skip
