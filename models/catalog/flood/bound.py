"""What can be said about one answer: its water balance, and that no error bound is known.

    d = |Σ h(T) Δx² − A ∫ r dt| / (A ∫ r dt)

All edges are closed and nothing infiltrates, so an exact answer has d = 0; a wrong one may have it too.
"""

import numpy as np
from jaxtyping import Float

from models.catalog.flood.reference import MILLIMETRES_PER_HOUR
from models.catalog.flood.spec import RAIN_STEP
from models.statements import Statement, nothing

TRUTH = "continuum solution of the local inertial equations, closed edges"


def rain_depth(rain: Float[np.ndarray, "*batch step"]) -> Float[np.ndarray, "*batch"]:
    """Total rain in metres."""
    return np.asarray(rain.astype(np.float64).sum(axis=-1) * RAIN_STEP * MILLIMETRES_PER_HOUR)


def statements(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> tuple[Statement, ...]:
    """No bound for the depth; the water balance of the last depth map as an indicator."""
    reason = "no computable error bound is known for the local inertial equations"
    fallen, stored = float(rain_depth(inputs["rain"])), float(outputs["depth"][-1].astype(np.float64).mean())
    cause = "no rain fell, so there is no volume to compare with"
    if fallen <= 0.0:
        return nothing("depth", "l2", TRUTH, reason), nothing("depth", "mass", TRUTH, cause)
    necessary = "water balance of the last lead time: necessary for a right answer, not sufficient"
    defect = abs(stored - fallen) / fallen
    balance = Statement("depth", "mass", defect, "indicator", None, TRUTH, (necessary,), relative=True)
    return nothing("depth", "l2", TRUTH, reason), balance
