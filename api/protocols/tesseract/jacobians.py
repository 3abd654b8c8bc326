"""Whole Jacobians from products with unit vectors."""

import numpy as np

from api.protocols.ensemble import pull, push, require_finite
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Surrogate


def jacobians(
    surrogate: Surrogate, inputs: Arrays, along: tuple[Field, ...], of: tuple[Field, ...]
) -> dict[tuple[str, str], np.ndarray]:
    """By rows, one Jᵀ w per number of an output, or by columns, whichever are fewer."""
    rows, columns = _unit_directions(of), _unit_directions(along)
    by_rows = len(rows[of[0].name]) <= len(columns[along[0].name])
    kind = "vjp" if by_rows else "jvp"
    if kind not in surrogate.derivatives_offered:
        kind = surrogate.derivatives_offered[0]
    units = rows if kind == "vjp" else columns
    count = len(next(iter(units.values())))
    repeated = {name: np.repeat(values, count, axis=0) for name, values in inputs.items()}
    products = (pull if kind == "vjp" else push)(surrogate, repeated, units)
    found = {}
    for output in of:
        for item in along:
            mine, other = (output, item) if kind == "vjp" else (item, output)
            chosen = products[other.name][units[mine.name].reshape(count, -1).any(axis=1)]
            block = chosen.reshape(len(chosen), -1)
            block = block if kind == "vjp" else block.T
            found[output.name, item.name] = require_finite(output.name, block.reshape(*output.shape, *item.shape))
    return found


def _unit_directions(fields: tuple[Field, ...]) -> dict[str, np.ndarray]:
    """One direction for every number of the fields, (number, *shape), by field."""
    sizes = [int(np.prod(item.shape, dtype=int)) for item in fields]
    identity = np.eye(sum(sizes), dtype=np.float32)
    parts = np.split(identity, np.cumsum(sizes)[:-1], axis=1)
    return {item.name: part.reshape(-1, *item.shape) for item, part in zip(fields, parts, strict=True)}
