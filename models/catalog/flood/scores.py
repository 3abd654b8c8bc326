"""Accuracy of flood maps.

    CSI = hits/(hits + misses + false alarms),   POD = hits/(hits + misses),   FAR = false alarms/(hits + false alarms)

of "deeper than θ", pooled over cells and events; NSE = 1 − Σ(p−u)²/Σ(u−ū)². All of the greatest depth; the water balance
is that of the last depth map.
"""

import numpy as np
from jaxtyping import Bool, Float

from models.catalog.flood.bound import rain_depth
from models.physical_model import Arrays

THRESHOLDS = (0.05, 0.1, 0.3, 1.0)

Maps = Float[np.ndarray, "batch y x"]
Events = Bool[np.ndarray, "batch y x"]


def _share(part: np.ndarray, whole: np.ndarray, empty: float) -> float:
    """Cells in `part` over cells in `whole`; `empty` where there are none."""
    count = int(whole.sum())
    return int(part.sum()) / count if count else empty


def csi(prediction: Events, truth: Events) -> float:
    """Critical success index; 1 when nothing happened and nothing was predicted."""
    return _share(prediction & truth, prediction | truth, 1.0)


def pod(prediction: Events, truth: Events) -> float:
    """Probability of detection; 1 when nothing happened."""
    return _share(prediction & truth, truth, 1.0)


def far(prediction: Events, truth: Events) -> float:
    """False alarm ratio; 0 when nothing was predicted."""
    return _share(prediction & ~truth, prediction, 0.0)


def nse(prediction: Maps, truth: Maps) -> float:
    """Nash–Sutcliffe efficiency."""
    return float(1.0 - np.square(prediction - truth).sum() / np.square(truth - truth.mean()).sum())


def skill(prediction: Maps, truth: Maps) -> dict[str, float]:
    """The figures by which methods are compared, of the greatest depth."""
    found = {f"CSI at {t:g} m": csi(prediction > t, truth > t) for t in (0.1, 0.05, 0.3, 1.0)}
    return found | {"NSE": nse(prediction.astype(np.float64), truth.astype(np.float64))}


def scores(inputs: Arrays, means: Arrays, deviations: Arrays, truths: Arrays) -> dict[str, float]:
    """All figures of a split; batch axis first."""
    prediction = means["maximum_depth"].astype(np.float64)
    truth = truths["maximum_depth"].astype(np.float64)
    error = np.abs(prediction - truth)
    result = {f"CSI at {t:g} m": csi(prediction > t, truth > t) for t in THRESHOLDS}
    result["POD at 0.1 m"] = pod(prediction > 0.1, truth > 0.1)
    result["FAR at 0.1 m"] = far(prediction > 0.1, truth > 0.1)
    result["NSE"] = nse(prediction, truth)
    result["RMSE, m"] = float(np.sqrt(np.square(error).mean()))
    for threshold in THRESHOLDS:
        wet = truth > threshold
        if wet.any():
            result[f"mean absolute error where deeper than {threshold:g} m, m"] = float(error[wet].mean())
    fallen = rain_depth(inputs["rain"])
    stored = means["depth"][:, -1].astype(np.float64).mean(axis=(1, 2))
    raining = fallen > 0.0
    if raining.any():
        defect = np.abs(stored - fallen)[raining] / fallen[raining]
        result["mean water balance defect at the last lead time"] = float(defect.mean())
    return result
