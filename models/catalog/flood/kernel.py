"""The inner loops of the compiled flood solver: the scheme of `reference.py` in float32, eight faces at a time.

Arrays are flat, rows one after another, with one empty row before and after: neighbours are at ±1 and ±columns, so both
directions share one loop that the compiler vectorises. A closed edge is a wall 10¹² m high: no depth of water survives
the subtraction of two such levels. No array as large as the domain is made while stepping.
Importing this module imports numba.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np

from models.catalog.flood.reference import COURANT, INSTANT, LONGEST_STEP, SHALLOWEST

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Flat = np.ndarray[tuple[int], np.dtype[np.float32]]
Planes = np.ndarray[tuple[int, int], np.dtype[np.float32]]

FLAGS = {"contract", "nsz", "arcp", "nnan", "ninf"}  # NaN and ∞ cannot occur; sums keep their order
WALL = np.float32(1e12)
CENTRE, BESIDE = np.float32(0.9), np.float32(0.05)
DRY = np.float32(1e-3)
ZERO, ONE, TWO, TINY = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(1e-30)
THIRD, TWO_NINTHS = np.float32(1 / 3), np.float32(2 / 9)
CUBE_ROOT_BITS = np.int32(0x54A2FA8C)


def compile_kernel(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Numba's version of the bare function: run-time type checks, present while testing, cannot be compiled.

    Kept on disk between processes where this folder, or the one NUMBA_CACHE_DIR names, can be written.
    """
    bare = inspect.unwrap(function)
    keep = os.access(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent, os.W_OK)
    compiled = numba.njit(fastmath=FLAGS, error_model="numpy", cache=keep, nogil=True)(bare)
    return cast("Callable[Arguments, Result]", compiled)


@compile_kernel
def reciprocal_cube_root(depth: np.float32) -> np.float32:
    """h^{−1/3} to 1e−7, h > 0: a bit trick, then two third-order Newton steps, so neither division nor branch."""
    guess = np.float32(depth).view(np.int32)
    root = np.int32(CUBE_ROOT_BITS - np.int32(np.float32(guess) * THIRD)).view(np.float32)
    for _ in range(2):
        error = ONE - depth * root * root * root
        root = root * (ONE + error * (THIRD + error * TWO_NINTHS))
    return root


@compile_kernel
def discharge(
    old: Flat, new: Flat, depth: Flat, rise: Flat, friction: Flat, stride: int, start: int, stop: int,
    four_dt: np.float32, pull: np.float32,
) -> None:  # fmt: skip
    """Momentum on faces start … stop−1; face k lies between cells k−stride and k; `pull` is g Δt/Δx, `friction` g n²."""
    centre, before, after = old[start:stop], old[start - stride : stop - stride], old[start + stride : stop + stride]
    left, right = depth[start - stride : stop - stride], depth[start:stop]
    rises, frictions, result = rise[start:stop], friction[start:stop], new[start:stop]
    for k in range(stop - start):
        level = right[k] + rises[k]
        flow_depth = max(left[k], level) - max(rises[k], ZERO)
        wet = flow_depth > DRY
        flow_depth = flow_depth if wet else ONE
        driven = CENTRE * centre[k] + BESIDE * (before[k] + after[k]) - pull * flow_depth * (level - left[k])
        root = reciprocal_cube_root(flow_depth)
        square = root * root
        resistance = four_dt * frictions[k] * (square * square * square * root)
        driven = TWO * driven / (ONE + np.sqrt(ONE + resistance * abs(driven)))
        result[k] = driven if wet else ZERO


@compile_kernel
def share(
    result: Flat, depth: Flat, along_x: Flat, along_y: Flat, columns: int, start: int, stop: int,
    rain: np.float32, width_per_step: np.float32,
) -> None:  # fmt: skip
    """What part of its outgoing discharge each cell can give; `rain` in m per step."""
    west, east = along_x[start:stop], along_x[start + 1 : stop + 1]
    south, north = along_y[start:stop], along_y[start + columns : stop + columns]
    cells, shares = depth[start:stop], result[start:stop]
    for k in range(stop - start):
        outgoing = max(east[k], ZERO) + max(-west[k], ZERO) + max(north[k], ZERO) + max(-south[k], ZERO)
        shares[k] = min(ONE, (cells[k] + rain) * width_per_step / (outgoing + TINY))


@compile_kernel
def limit(flux: Flat, shares: Flat, stride: int, start: int, stop: int) -> None:
    """Scale each flux by the share of the cell it leaves."""
    fluxes, left, right = flux[start:stop], shares[start - stride : stop - stride], shares[start:stop]
    for k in range(stop - start):
        value = fluxes[k]
        fluxes[k] = max(value, ZERO) * left[k] + min(value, ZERO) * right[k]


@compile_kernel
def balance(
    depth: Flat, along_x: Flat, along_y: Flat, columns: int, start: int, stop: int,
    rain: np.float32, step_per_width: np.float32,
) -> None:  # fmt: skip
    """Mass of cells start … stop−1."""
    west, east = along_x[start:stop], along_x[start + 1 : stop + 1]
    south, north = along_y[start:stop], along_y[start + columns : stop + columns]
    cells = depth[start:stop]
    for k in range(stop - start):
        net = west[k] - east[k] + south[k] - north[k]
        cells[k] = max(cells[k] + (rain + step_per_width * net), ZERO)


@compile_kernel
def record(depth: Flat, maximum: Flat, start: int, stop: int) -> np.float32:
    """Keep the greatest depth of each cell; returns the deepest water now.

    Apart from `balance`, where a second output would need more overlap checks than the vectoriser allows. Bits of floats
    that are not negative sort as integers, whose maximum vectorises.
    """
    cells, peaks = depth[start:stop], maximum[start:stop]
    bits = cells.view(np.int32)
    for k in range(stop - start):
        peaks[k] = max(peaks[k], cells[k])
    deepest = np.int32(0)
    for k in range(stop - start):
        deepest = max(deepest, bits[k])
    return np.int32(deepest).view(np.float32)


@compile_kernel
def advance(
    depth: Flat, maximum: Flat, flux_x: Planes, flux_y: Planes, rises: Planes, frictions: Planes, shares: Flat,
    columns: int, cell_size: float, rain: float, duration: float,
) -> int:  # fmt: skip
    """Run for `duration` seconds under constant `rain` (m s⁻¹); returns the number of steps.

    `flux_x`, `flux_y` hold two planes, the first of which is current before and after; `rises` and `frictions` hold one
    for each direction.
    """
    start, stop = columns, depth.size - columns
    time, steps, now = 0.0, 0, 0
    deepest = record(depth, maximum, start, stop)
    while duration - time > INSTANT:
        size = min(LONGEST_STEP, COURANT * cell_size / np.sqrt(9.81 * max(float(deepest), SHALLOWEST)))
        size = min(size, duration - time)
        four_dt, pull = np.float32(4.0 * size), np.float32(9.81 * size / cell_size)
        water, ratio = np.float32(size * rain), np.float32(size / cell_size)
        along_x, along_y = flux_x[1 - now], flux_y[1 - now]
        discharge(flux_x[now], along_x, depth, rises[0], frictions[0], 1, start, stop, four_dt, pull)
        discharge(flux_y[now], along_y, depth, rises[1], frictions[1], columns, start, stop, four_dt, pull)
        share(shares, depth, along_x, along_y, columns, start, stop, water, np.float32(1.0) / ratio)
        limit(along_x, shares, 1, start, stop)
        limit(along_y, shares, columns, start, stop)
        balance(depth, along_x, along_y, columns, start, stop, water, ratio)
        deepest = record(depth, maximum, start, stop)
        time, steps, now = time + size, steps + 1, 1 - now
    if now == 1:
        flux_x[0], flux_y[0] = flux_x[1], flux_y[1]
    return steps
