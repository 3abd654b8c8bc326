"""Standing water as features of the network, with their exact derivatives; every array has a leading batch axis.

The network learns what roughness and time change about where water stands when all of it has run down (`depressions.py`).
"""

from typing import TYPE_CHECKING

import numpy as np

from models.catalog.flood.bound import rain_depth
from models.physical_model import Arrays, Features

if TYPE_CHECKING:
    from models.catalog.flood.depressions import Drainage

NAMES = ("standing_depth", "runoff")


def _bed_and_rain(inputs: Arrays, index: int) -> tuple[np.ndarray, float]:
    bed = inputs["elevation"][index].astype(np.float64).ravel()
    return bed, float(rain_depth(inputs["rain"][index]))


def _drainage(inputs: Arrays, index: int) -> "Drainage":
    from models.catalog.flood import depressions

    bed, rain = _bed_and_rain(inputs, index)
    return depressions.analyse(bed, inputs["elevation"].shape[-1], rain)


def _apply(inputs: Arrays, values: Arrays) -> Arrays:
    """The map that is linear at `inputs`, on `values`."""
    from models.catalog.flood import depressions

    found = [
        depressions.apply(*_bed_and_rain(values, index), _drainage(inputs, index))
        for index in range(len(inputs["rain"]))
    ]
    shape, kind = inputs["elevation"].shape, inputs["elevation"].dtype
    columns = zip(*found, strict=True)
    return {name: np.stack(part).reshape(shape).astype(kind) for name, part in zip(NAMES, columns, strict=True)}


def of(inputs: Arrays) -> Arrays:
    """Depth of standing water and water that arrives at each cell (m)."""
    return _apply(inputs, inputs)


def push(inputs: Arrays, tangents: Arrays) -> Arrays:
    """Their derivative in the direction of `tangents`."""
    return _apply(inputs, tangents)


def pull(inputs: Arrays, cotangents: Arrays) -> Arrays:
    """Cotangents of elevation and rain."""
    from models.catalog.flood import depressions

    beds, rains = [], []
    for index in range(len(inputs["rain"])):
        depth, arrived = (cotangents[name][index].astype(np.float64).ravel() for name in NAMES)
        bed, rain = depressions.transpose(depth, arrived, _drainage(inputs, index))
        beds.append(bed)
        rains.append(rain * rain_depth(np.eye(inputs["rain"].shape[1])))
    return {"elevation": np.stack(beds).reshape(inputs["elevation"].shape), "rain": np.stack(rains)}


FEATURES = Features(NAMES, of, push, pull)
