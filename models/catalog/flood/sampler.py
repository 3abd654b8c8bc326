"""Random terrains, roughness and rain.

Synthetic bed: white noise filtered by |k|^{−p}, scaled to 2–8 m standard deviation in windows of 1.28 km, plus a plane
that rises 2–15 m in 1.28 km; half of them with one carved channel. Real bed (30 % in training): a crop of a digital
elevation model of about 90 m, splined to 20 m, with |k|^{−p} detail below 180 m whose strength continues the crop's own
spectrum, in one of eight orientations. All lengths are physical and every bed is cut from 5.12 km of terrain, so the law
is the same at any number of points up to 256.

Splits differ in TERRAIN: a synthetic bed is never drawn twice, and the tiles of the western Jacksboro model belong to
the training seed, to the validation seed, or to all other seeds. The other families are for tests only:
`jacksboro_east` and `trinidad` are terrain no crop of which was trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.cbook import get_sample_data
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from models.catalog.flood.spec import CELL_SIZE, RAIN_STEP, RAIN_STEPS
from models.physical_model import Arrays

EXTENT = 256  # cells of terrain that each bed is cut from
WINDOW = 64  # cells in which standard deviations and ramps are meant
HALF_POWER = 0.187  # width of a Gaussian filter over the wavelength it passes with half amplitude
DETAIL_EXPONENTS = (1.6, 3.0)
FINEST_REAL = 180.0  # m, twice the spacing of the elevation models
METRES_PER_ARC_SECOND = 30.92
TILE_ROWS, TILE_COLUMNS = 10, 6  # each just above 128 cells of 20 m
WEST = 0.6

Cells = Float[np.ndarray, "y x"]
Bed = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class ElevationModel:
    """Spline coefficients of elevation (m) and its spacing (m) along rows and columns."""

    coefficients: np.ndarray
    spacing: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes along rows and columns."""
        rows, columns = self.coefficients.shape
        return rows, columns


@dataclass(frozen=True)
class Block:
    """A rectangle of an elevation model, in nodes."""

    top: float
    left: float
    rows: float
    columns: float


def _elevation_model(elevation: np.ndarray, latitude: float) -> ElevationModel:
    """Three arc-seconds between nodes; meridians converge with `latitude` (degrees)."""
    height = 3 * METRES_PER_ARC_SECOND
    return ElevationModel(spline_filter(elevation.astype(np.float64)), (height, height * np.cos(np.radians(latitude))))


@cache
def jacksboro() -> ElevationModel:
    """Shuttle radar topography around the Jacksboro fault, Tennessee, as shipped with matplotlib."""
    archive: Any = get_sample_data("jacksboro_fault_dem.npz")
    with archive:
        return _elevation_model(archive["elevation"], 36.6)


@cache
def trinidad() -> ElevationModel:
    """Foothills of the Spanish Peaks, sheet Trinidad, Colorado; see README.md."""
    with np.load(Path(__file__).with_name("terrain.npz")) as archive:
        return _elevation_model(archive["elevation"], 37.5)


def _filtered_noise(generator: np.random.Generator, exponent: float) -> Cells:
    """White noise times |k|^{−exponent}, periodic on EXTENT² cells, unit mean variance in windows of WINDOW² cells."""
    wavenumber = np.hypot(np.fft.fftfreq(EXTENT)[:, None], np.fft.rfftfreq(EXTENT)[None, :])
    wavenumber[0, 0] = np.inf
    noise = np.fft.rfft2(generator.standard_normal((EXTENT, EXTENT)))
    field = np.fft.irfft2(noise * wavenumber**-exponent, (EXTENT, EXTENT))
    windows = field.reshape(EXTENT // WINDOW, WINDOW, EXTENT // WINDOW, WINDOW)
    return np.asarray(field / np.sqrt(windows.var(axis=(1, 3)).mean()))


def _plan(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m) of cells from the middle, along rows and columns."""
    line = (np.arange(points) - (points - 1) / 2) * CELL_SIZE
    return line[:, None], line[None, :]


def _carved(generator: np.random.Generator, points: int, angle: float) -> Cells:
    """Depth of one meandering channel, Gaussian across, that runs down the ramp."""
    y, x = _plan(points)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    depth, width = generator.uniform(1.0, 4.0), generator.uniform(20.0, 50.0)
    amplitude, wavelength = generator.uniform(20.0, 120.0), generator.uniform(500.0, 1500.0)
    offset, phase = generator.uniform(-0.3, 0.3) * points * CELL_SIZE, generator.uniform(0.0, 2 * np.pi)
    turn = 2 * np.pi * along / wavelength + phase
    slope = amplitude * 2 * np.pi / wavelength * np.cos(turn)
    distance = (across - offset - amplitude * np.sin(turn)) / np.sqrt(1.0 + slope**2)
    return np.asarray(depth * np.exp(-((distance / width) ** 2)))


def synthetic_bed(
    generator: np.random.Generator,
    seed: int,
    points: int,
    ramp: tuple[float, float] = (2.0, 15.0),
    deviation: tuple[float, float] = (2.0, 8.0),
) -> Cells:
    """Noise on a ramp, perhaps with a channel; lowest cell between 0 and 500 m."""
    noise = _filtered_noise(generator, generator.uniform(1.6, 2.2))[:points, :points]
    angle, rise = generator.uniform(0.0, 2 * np.pi), generator.uniform(*ramp)
    y, x = _plan(points)
    plane = rise / (WINDOW * CELL_SIZE) * (np.cos(angle) * x + np.sin(angle) * y)
    bed = generator.uniform(*deviation) * noise + plane
    if generator.random() < 0.5:
        bed = bed - _carved(generator, points, angle)
    return np.asarray(bed - bed.min() + generator.uniform(0.0, 500.0))


def _band(field: np.ndarray, shortest: float, longest: float) -> np.ndarray:
    """Wavelengths (m) between the two."""
    short, long = (gaussian_filter(field, HALF_POWER * length / CELL_SIZE) for length in (shortest, longest))
    return np.asarray(short - long)


def _with_detail(generator: np.random.Generator, bed: Cells) -> Cells:
    """Add |k|^{−p} detail below FINEST_REAL that continues the strength and the slope of the two octaves above it.

    The standard deviation of an octave of a field |k|^{−p} in the plane goes as k^{1−p}.
    """
    fine, coarse = (_band(bed, octave * FINEST_REAL, 2 * octave * FINEST_REAL).std() for octave in (1, 2))
    exponent = float(np.clip(1.0 + np.log2(coarse / fine), *DETAIL_EXPONENTS))
    noise = _filtered_noise(generator, exponent)[: len(bed), : len(bed)]
    ratio = fine / _band(noise, FINEST_REAL, 2 * FINEST_REAL).std()
    return np.asarray(bed + ratio * (noise - gaussian_filter(noise, HALF_POWER * FINEST_REAL / CELL_SIZE)))


def real_bed(generator: np.random.Generator, model: ElevationModel, block: Block, points: int) -> Cells:
    """A crop inside `block`, at 20 m."""
    rows, columns = ((points - 1) * CELL_SIZE / spacing for spacing in model.spacing)
    top = block.top + generator.uniform(0.0, max(block.rows - 1 - rows, 0.0))
    left = block.left + generator.uniform(0.0, max(block.columns - 1 - columns, 0.0))
    lines = np.meshgrid(np.linspace(top, top + rows, points), np.linspace(left, left + columns, points), indexing="ij")
    bed = map_coordinates(model.coefficients, lines, order=3, prefilter=False, mode="nearest")
    bed = np.rot90(bed, int(generator.integers(4)))
    return _with_detail(generator, np.asarray(bed.T if generator.random() < 0.5 else bed))


def tiles(seed: int) -> tuple[int, ...]:
    """Tiles of the western Jacksboro model that belong to a seed: 60 % to training (seed 0), 10 % to validation (1).

    The others share the rest, so that calibration and test are exchangeable and nothing was chosen on them.
    """
    order = np.random.default_rng(0).permutation(TILE_ROWS * TILE_COLUMNS)
    training, validation = 36, 42
    part = {0: order[:training], 1: order[training:validation]}.get(seed, order[validation:])
    return tuple(int(tile) for tile in part)


def tile_block(tile: int) -> Block:
    """The rectangle of one western tile."""
    rows, columns = jacksboro().shape
    height, width = rows / TILE_ROWS, int(WEST * columns) / TILE_COLUMNS
    return Block(tile // TILE_COLUMNS * height, tile % TILE_COLUMNS * width, height, width)


def western_bed(generator: np.random.Generator, seed: int, points: int) -> Cells:
    """A crop of one of the seed's tiles."""
    return real_bed(generator, jacksboro(), tile_block(int(generator.choice(tiles(seed)))), points)


def eastern_bed(generator: np.random.Generator, seed: int, points: int) -> Cells:
    """A crop of the eastern 40 % of the Jacksboro model."""
    rows, columns = jacksboro().shape
    edge = int(np.ceil(WEST * columns))
    return real_bed(generator, jacksboro(), Block(0.0, float(edge), float(rows), float(columns - edge)), points)


def trinidad_bed(generator: np.random.Generator, seed: int, points: int) -> Cells:
    """A crop of another elevation model, a thousand miles away."""
    rows, columns = trinidad().shape
    return real_bed(generator, trinidad(), Block(0.0, 0.0, float(rows), float(columns)), points)


def mixed_bed(generator: np.random.Generator, seed: int, points: int) -> Cells:
    """The training law: 70 % synthetic, 30 % real."""
    return (synthetic_bed if generator.random() < 0.7 else western_bed)(generator, seed, points)


def _roughness(generator: np.random.Generator, points: int, lowest: float, highest: float) -> Cells:
    """Two land covers, divided by a level of a Gaussian field."""
    field = _filtered_noise(generator, 2.0)[:points, :points]
    one, other = np.exp(generator.uniform(np.log(lowest), np.log(highest), size=2))
    return np.asarray(np.where(field > np.quantile(field, generator.uniform(0.1, 0.9)), one, other))


def _rain(generator: np.random.Generator, lowest: float, highest: float) -> Float[np.ndarray, " step"]:
    """Six steps (mm/h) whose total (mm) is uniform and whose profile is Dirichlet(2, …, 2)."""
    total = generator.uniform(lowest, highest)
    return np.asarray(total * generator.dirichlet(np.full(RAIN_STEPS, 2.0)) * 3600.0 / RAIN_STEP)


@dataclass(frozen=True)
class Family:
    """A law: bed, range of roughness (s m^{−1/3}), range of total rain (mm)."""

    bed: Bed = mixed_bed
    roughness: tuple[float, float] = (0.02, 0.12)
    rain: tuple[float, float] = (15.0, 75.0)


FAMILIES = {
    "training": Family(),
    "jacksboro_east": Family(eastern_bed),
    "trinidad": Family(trinidad_bed),
    "steep": Family(partial(synthetic_bed, ramp=(30.0, 30.0))),
    "flat": Family(partial(synthetic_bed, ramp=(0.0, 0.0), deviation=(1.0, 1.0))),
    "heavy_rain": Family(rain=(100.0, 100.0)),
    "rough": Family(roughness=(0.12, 0.2)),
    "examples": Family(western_bed, rain=(40.0, 75.0)),  # storms on real terrain, within the training law
}


def draw(seed: int, index: int, points: int, family: str = "training") -> Arrays:
    """Event number `index` of the stream `seed` on `points`² cells; equal arguments give equal events."""
    law = FAMILIES[family]
    generator = np.random.default_rng([seed, index, list(FAMILIES).index(family)])
    return {
        "elevation": law.bed(generator, seed, points),
        "roughness": _roughness(generator, points, *law.roughness),
        "rain": _rain(generator, *law.rain),
    }
