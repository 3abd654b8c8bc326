"""Is an input in the domain? Two-sided p-values of several detectors, combined by Bonferroni, and hard checks.

    p_j = min(1, 2 min((1 + #{s ≥ s_j}) / (n+1), (1 + #{s ≤ s_j}) / (n+1))),     p = min(1, m·min_j p_j)

Detectors of an input field: T² on principal components (is it extreme in known directions?), SPE (does it leave their
span?), spectrum (Mahalanobis distance of log shell energies), task (relative error bound, where the physical model
has one). Their reference scores come from n inputs that took no part in fitting them. Out of domain does not imply
wrong, nor the reverse; it voids statistical statements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from models.errors import BrokenBundle

THRESHOLD = 0.01
SHELLS = 12
Fields = Float[np.ndarray, "batch *grid"]


@dataclass(frozen=True)
class Validity:
    """The verdict on one input."""

    in_domain: bool
    p_value: float
    reasons: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {"in_domain": self.in_domain, "p_value": self.p_value, "reasons": list(self.reasons)}


def shell_energies(fields: Float[np.ndarray, "batch x y"]) -> Float[np.ndarray, "batch shell"]:
    """f_b = log(mean |FFT x|² over radial shell b + 1e−12): 12 shells up to the Nyquist frequency, fewer on small grids."""
    shells = min(SHELLS, min(fields.shape[1:]) // 2)
    centred = fields - fields.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(centred, norm="ortho")) ** 2
    along_x = np.fft.fftfreq(fields.shape[1])[:, None]
    along_y = np.fft.rfftfreq(fields.shape[2])[None, :]
    shell = np.minimum((np.hypot(along_x, along_y) * 2 * shells).astype(int), shells - 1)
    result = np.stack([power[:, shell == b].mean(axis=1) for b in range(shells)], axis=1)
    return np.asarray(np.log(result + 1e-12))


def fit_detectors(inputs: Fields, components: int) -> dict[str, np.ndarray]:
    """Parameters of T², SPE and spectrum from the training inputs."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    mean, deviation = flat.mean(axis=0), max(float(flat.std()), 1e-12)
    _, singular, basis = np.linalg.svd((flat - mean) / deviation, full_matrices=False)
    sigma = singular / np.sqrt(max(1, len(flat) - 1))
    kept = min(components, int((sigma > 1e-6 * sigma[0]).sum()))
    energies = shell_energies(inputs)
    precision = np.linalg.inv(np.cov(energies.T) + 1e-6 * np.eye(energies.shape[1]))
    return {
        "mean": mean.astype(np.float32),
        "deviation": np.float64(deviation),
        "components": basis[:kept].astype(np.float32),
        "sigma": sigma[:kept],
        "spectrum_mean": energies.mean(axis=0),
        "spectrum_precision": precision,
    }


def detector_scores(parameters: Mapping[str, np.ndarray], inputs: Fields) -> dict[str, np.ndarray]:
    """T², SPE and spectrum of each input."""
    flat = (inputs.reshape(len(inputs), -1) - parameters["mean"]) / parameters["deviation"]
    scores = flat @ parameters["components"].T
    gap = shell_energies(inputs) - parameters["spectrum_mean"]
    return {
        "T²": np.square(scores / parameters["sigma"]).sum(axis=1),
        "SPE": np.square(flat).sum(axis=1) - np.square(scores).sum(axis=1),
        "spectrum": np.einsum("bi,ij,bj->b", gap, parameters["spectrum_precision"], gap),
    }


def phase_values(inputs: Fields) -> list[float] | None:
    """The values of a medium of few phases, or None when the inputs are continuous."""
    values = np.unique(inputs)
    return [float(v) for v in values] if len(values) <= 16 else None


class Domain:
    """The stored domain of one input field."""

    def __init__(self, arrays: Mapping[str, np.ndarray], checks: Mapping[str, Any]) -> None:
        prefix = "validity."
        self._parameters = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        self._reference = {
            k.removeprefix("reference."): np.sort(v) for k, v in arrays.items() if k.startswith("reference.")
        }
        self._checks = checks
        sizes = {len(v) for v in self._reference.values()}
        self.floor = 2 * len(self._reference) / (min(sizes) + 1) if sizes else 1.0
        if self.floor >= THRESHOLD:
            raise BrokenBundle(
                "calibration.npz", f"a p-value floor below {THRESHOLD}", f"{self.floor:.4f} (too few inputs)"
            )

    @property
    def uses_task(self) -> bool:
        """Whether the relative bound is one of the detectors."""
        return "task" in self._reference

    def assess(self, values: Float[np.ndarray, " *grid"], task: float | None) -> Validity:
        """The verdict on one input, without its batch axis."""
        scores = {k: float(v[0]) for k, v in detector_scores(self._parameters, values[None]).items()}
        if task is not None and self.uses_task:
            scores["task"] = task
        p_values = {name: self._two_sided(name, score) for name, score in scores.items()}
        p_value = min(1.0, len(self._reference) * min(p_values.values()))
        hard = self._hard_reasons(values)
        reasons = list(hard)
        if p_value < THRESHOLD:
            limit = THRESHOLD / len(self._reference)
            reasons += [f"{name}: p = {p:.4f}" for name, p in p_values.items() if p < limit]
        return Validity(not reasons, 0.0 if hard else p_value, tuple(reasons))

    def _two_sided(self, name: str, score: float) -> float:
        reference = self._reference[name]
        below = int(np.searchsorted(reference, score, side="right"))
        above = len(reference) - int(np.searchsorted(reference, score, side="left"))
        return min(1.0, 2.0 * (1 + min(below, above)) / (len(reference) + 1))

    def _hard_reasons(self, values: np.ndarray) -> tuple[str, ...]:
        reasons = []
        if "values" in self._checks:
            known = np.asarray(self._checks["values"])
            distance = np.abs(values[..., None] - known).min(axis=-1)
            if np.any(distance > 1e-4 * np.abs(known).max()):
                listed = ", ".join(f"{v:g}" for v in known)
                reasons.append(f"values: trained on {{{listed}}} only")
            low, high = self._checks["share"]
            share = float(np.mean(np.abs(values - known[-1]) <= 1e-4 * np.abs(known[-1])))
            if not low <= share <= high:
                reasons.append(f"share of {known[-1]:g}: {share:.2f}, trained on [{low:.2f}, {high:.2f}]")
        else:
            low, high = self._checks["range"]
            if values.min() < low or values.max() > high:
                reasons.append(f"range: trained on [{low:g}, {high:g}]")
        return tuple(reasons)


def hard_checks(inputs: Fields) -> dict[str, Any]:
    """What the hard checks compare with: phase values and their share, or the range."""
    values = phase_values(inputs)
    if values is None:
        return {"range": [float(inputs.min()), float(inputs.max())]}
    share = (inputs == np.float32(values[-1])).reshape(len(inputs), -1).mean(axis=1)
    return {"values": values, "share": [float(share.min()), float(share.max())]}
