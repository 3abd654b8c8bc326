"""Error measures, one implementation."""

import numpy as np
from jaxtyping import Float

Batch = Float[np.ndarray, "batch *grid"]


def _norm(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(values.astype(np.float64)).reshape(len(values), -1).sum(axis=1)))


def relative_l2(prediction: Batch, truth: Batch) -> Float[np.ndarray, " batch"]:
    """‖p − u‖₂ / ‖u‖₂ of each sample, the metric of the FNO tables."""
    return np.asarray(_norm(prediction.astype(np.float64) - truth) / _norm(truth))


def relative_h1(prediction: Float[np.ndarray, "batch x y"], truth: Float[np.ndarray, "batch x y"]) -> np.ndarray:
    """(‖e‖² + ‖∇e‖²)^½ relative to the same of u, first differences on the unit square."""

    def size(field: np.ndarray) -> np.ndarray:
        cells = field.shape[1] - 1
        square = _norm(field) ** 2
        for axis in (1, 2):
            square = square + cells**2 * _norm(np.diff(field.astype(np.float64), axis=axis)) ** 2
        return np.asarray(np.sqrt(square))

    return np.asarray(size(prediction.astype(np.float64) - truth) / size(truth))


def quantiles(errors: Float[np.ndarray, " batch"]) -> dict[str, float]:
    """Median, 90th and 99th percentile."""
    return {f"{q}%": float(np.percentile(errors, q)) for q in (50, 90, 99)}
