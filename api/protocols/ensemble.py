"""What the protocols with derivatives share: checked directions, and exact derivatives of the ensemble mean.

    push: J t        pull: Jᵀ w        J = ∂(mean over members)/∂inputs

Arrays have a leading batch axis; whatever is not given a direction counts as zero.
"""

import numpy as np
from starlette.exceptions import HTTPException

from models.fields import Field, check_numbers
from models.physical_model import Arrays
from models.surrogate import Surrogate


def differentiable_inputs(surrogate: Surrogate) -> tuple[Field, ...]:
    """Inputs with derivatives: all but times of the calendar."""
    return tuple(item for item in surrogate.manifest.inputs if item.role != "reference_time")


def single(name: str, values: np.ndarray) -> np.ndarray:
    """The values in single precision, in which graphs compute.

    Raises NotFinite, OutOfRange.
    """
    check_numbers(name, values)
    return np.ascontiguousarray(values, dtype=np.float32)


def push(surrogate: Surrogate, inputs: Arrays, tangents: Arrays) -> dict[str, np.ndarray]:
    """J t by output, (batch, *shape).

    Raises InvalidInput in one of its forms for the inputs, NotOffered.
    """
    checked = surrogate.validate(inputs)
    count = len(next(iter(checked.values())))
    every = {f.name: tangents.get(f.name, np.zeros((count, *f.shape), np.float32)) for f in surrogate.manifest.inputs}
    _, pushed = surrogate.jvp(checked, every)
    return {name: values.mean(axis=1) for name, values in pushed.items()}


def pull(surrogate: Surrogate, inputs: Arrays, cotangents: Arrays) -> dict[str, np.ndarray]:
    """Jᵀ w by input, (batch, *shape).

    Raises InvalidInput in one of its forms for the inputs, NotOffered.
    """
    checked = surrogate.validate(inputs)
    count, members = len(next(iter(checked.values()))), surrogate.manifest.members
    every = {}
    for item in surrogate.manifest.outputs:
        weights = cotangents.get(item.name, np.zeros((count, *item.shape), np.float32))
        every[item.name] = np.repeat(weights[:, None] / members, members, axis=1)
    _, pulled = surrogate.vjp(checked, every)
    return {item.name: pulled[item.name] for item in surrogate.manifest.inputs}


def require_finite(name: str, values: np.ndarray) -> np.ndarray:
    """Raises HTTPException with status 500 where an answer is not a number."""
    if not np.isfinite(values).all():
        raise HTTPException(500, f"The answer for {name} is not finite; the model failed on this input.")
    return values
