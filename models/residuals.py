"""Errors of calibration cases in a field's own units: conformal intervals of any linear quantity, without recalibration.

    Sᵢ = |Σ w rᵢ| / Σ |w| sᵢ,     Q(u) ∈ Q(m) ± q Σ |w| s,     q the k-th smallest Sᵢ, k = ⌈(n+1)·level⌉

rᵢ = uᵢ − mᵢ, sᵢ: the scale of a band there. The weights w must come from the request, not from having looked at rᵢ. They
ship in half precision, whose rounding is added to each numerator and taken from each denominator. A graph that takes its
lead time as an input, and a long trajectory, has them at some lead times only, each calibrated by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from models.physical_model import Arrays
from models.uncertainty import Stored, rank

SAME_TIME = 1e-6  # lead times travel in single precision


@dataclass(frozen=True)
class Residuals:
    """Those of one field: one entry of `stored` per lead time, or one for the field whole."""

    stored: tuple[Stored, ...]
    lead_times: tuple[float, ...] | None = None
    blocks: int | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], field: str) -> "Residuals | None":
        """From the arrays of a bundle's file of residuals; None where the field has none."""
        own = {key.removeprefix(f"{field}."): values for key, values in arrays.items() if key.startswith(f"{field}.")}
        if not own:
            return None
        if "lead_times" not in own:
            return cls((Stored.of(own),))
        times = tuple(float(time) for time in own["lead_times"])
        parts = [
            Stored.of(own | {key: own[key][:, index] for key in ("residuals", "scales")}) for index in range(len(times))
        ]
        return cls(tuple(parts), times)

    @property
    def count(self) -> int:
        """Number of calibration cases."""
        return len(self.stored[0].residuals)

    def at(self, time: float | None) -> Stored | None:
        """Those at a lead time; None where there are none."""
        if self.lead_times is None:
            return self.stored[0]
        if time is None:
            return None
        near = np.flatnonzero(np.abs(np.array(self.lead_times) - time) <= SAME_TIME)
        return self.stored[int(near[0])] if len(near) else None

    def half_widths(
        self, stored: Stored, weights: np.ndarray, scales: Float[np.ndarray, "case ..."], level: float
    ) -> Float[np.ndarray, " case"]:
        """Q Σ |w| s of answers with these scales; zero where the quantity looks at exact values only.

        Raises UnsupportedLevel.
        """
        k = rank(self.count, level, self.blocks)
        sizes = np.asarray((np.abs(weights) * scales).reshape(len(scales), -1).sum(axis=1))
        if not sizes.any():
            return sizes
        return np.asarray(sizes * stored.ratios(weights)[k - 1])


def half_precision(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half precision with a unit that keeps typical values far from the subnormals."""
    unit = np.asarray(np.abs(values).max() / 1024.0, dtype=np.float32)
    return (values / unit).astype(np.float16), unit


def packed(residuals: np.ndarray, scales: np.ndarray) -> Arrays:
    """What ships of the residuals of one field: what `Stored.of` reads."""
    (kept, unit), (kept_scale, scale_unit) = half_precision(residuals * (scales > 0)), half_precision(scales)
    return {"residuals": kept, "residual_unit": unit, "scales": kept_scale, "scale_unit": scale_unit}
