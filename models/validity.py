"""Is an input in the domain? Two-sided p-values of several detectors, combined by Bonferroni, and hard checks.

    p_j = min(1, 2 min((1 + #{s ≥ s_j}) / (n+1), (1 + #{s ≤ s_j}) / (n+1))),     p = min(1, m·min_j p_j)

Detectors of each input field: T² on principal components (is it extreme in known directions?), SPE (does it leave their
span?), spectrum (Mahalanobis distance of log shell energies, for fields with a grid); of a scalar: its value; of the
whole: task (relative error bound, where the physical model has one). Their reference scores come from n inputs that
took no part in fitting them. Fields may be taken free of their mean, where the answer does not depend on it. Out of
domain does not imply wrong, nor the reverse; it voids statistical statements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
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


def has_spectrum(shape: tuple[int, ...]) -> bool:
    """Shell energies make sense on a line of 32 nodes or a grid of 8² and more."""
    return (len(shape) == 1 and shape[0] >= 32) or (len(shape) == 2 and min(shape) >= 8)


def shell_energies(fields: Fields) -> Float[np.ndarray, "batch shell"]:
    """f_b = log(mean |FFT x|² over radial shell b + 1e−12): 12 shells up to the Nyquist frequency, fewer on small grids."""
    grid = tuple(range(1, fields.ndim))
    shell, counts = _shells(fields.shape[1:])
    centred = fields - fields.mean(axis=grid, keepdims=True)
    power = np.abs(np.fft.rfftn(centred, axes=grid, norm="ortho")) ** 2
    sums = [np.bincount(shell, weights=sample.reshape(-1)) for sample in power]
    return np.asarray(np.log(np.stack(sums) / counts + 1e-12))


@lru_cache(64)
def _shells(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Number of the shell of every frequency of a real transform, flat, and how many each shell has."""
    shells = min(SHELLS, min(shape) // 2)
    frequencies = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*frequencies, indexing="ij")))
    shell = np.minimum((radius * 2 * shells).astype(int), shells - 1).reshape(-1)
    return shell, np.bincount(shell)


def fit_detectors(inputs: Fields, components: int, mean_free: bool = False) -> dict[str, np.ndarray]:
    """Parameters of the detectors of one field from the training inputs."""
    flat = _flatten(inputs, mean_free).astype(np.float64)
    if flat.shape[1] == 1:
        return {}
    mean, deviation = flat.mean(axis=0), max(float(flat.std()), 1e-12)
    _, singular, basis = np.linalg.svd((flat - mean) / deviation, full_matrices=False)
    sigma = singular / np.sqrt(max(1, len(flat) - 1))
    kept = min(components, int((sigma > 1e-6 * sigma[0]).sum()))
    found = {
        "mean": mean.astype(np.float32),
        "deviation": np.float64(deviation),
        "components": basis[:kept].astype(np.float32),
        "sigma": sigma[:kept],
    }
    # of a field that never changes (terrain of one place) the energies differ by rounding alone, which ranks cannot tell
    if has_spectrum(inputs.shape[1:]) and np.any(inputs != inputs[:1]):
        energies = shell_energies(inputs)
        precision = np.linalg.inv(np.cov(energies.T) + 1e-6 * np.eye(energies.shape[1]))
        found |= {"spectrum_mean": energies.mean(axis=0), "spectrum_precision": precision}
    return found


def _flatten(inputs: np.ndarray, mean_free: bool) -> np.ndarray:
    flat = inputs.reshape(len(inputs), -1)
    return flat - flat.mean(axis=1, keepdims=True) if mean_free else flat


def detector_scores(
    parameters: Mapping[str, np.ndarray], inputs: Fields, mean_free: bool = False
) -> dict[str, np.ndarray]:
    """Scores of every detector of one field."""
    flat = _flatten(inputs, mean_free)
    if flat.shape[1] == 1:
        return {"value": flat[:, 0].astype(np.float64)}
    flat = (flat - parameters["mean"]) / parameters["deviation"]
    scores = flat @ parameters["components"].T
    found = {"T²": np.square(scores / parameters["sigma"]).sum(axis=1)}
    if len(parameters["sigma"]) < flat.shape[1]:
        found["SPE"] = np.square(flat).sum(axis=1) - np.square(scores).sum(axis=1)
    if "spectrum_mean" in parameters:
        gap = shell_energies(inputs) - parameters["spectrum_mean"]
        found["spectrum"] = np.einsum("bi,ij,bj->b", gap, parameters["spectrum_precision"], gap)
    return found


def phase_values(inputs: Fields) -> list[float] | None:
    """The values of a medium of few phases, or None when the inputs are continuous."""
    values = np.unique(inputs)
    return [float(v) for v in values] if len(values) <= 16 else None


@dataclass(frozen=True)
class FieldDomain:
    """The stored domain of one input field."""

    name: str
    parameters: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    checks: Mapping[str, Any]

    def scores(self, values: Float[np.ndarray, " *grid"]) -> dict[str, float]:
        """Scores of one input."""
        found = detector_scores(self.parameters, values[None], bool(self.checks.get("mean_free")))
        return {name: float(score[0]) for name, score in found.items()}

    def hard_reasons(self, values: np.ndarray) -> tuple[str, ...]:
        """What the hard checks object to."""
        if "values" not in self.checks:
            low, high = self.checks["range"]
            shown = values - values.mean() if self.checks.get("mean_free") else values
            outside = shown.min() < low or shown.max() > high
            return (f"{self.name}, range: trained on [{low:g}, {high:g}]",) if outside else ()
        reasons = []
        known = np.asarray(self.checks["values"])
        distance = np.minimum.reduce([np.abs(values - value) for value in known])
        if distance.max() > 1e-4 * np.abs(known).max():
            listed = ", ".join(f"{v:g}" for v in known)
            reasons.append(f"{self.name}, values: trained on {{{listed}}} only")
        low, high = self.checks["share"]
        share = float(np.mean(np.abs(values - known[-1]) <= 1e-4 * np.abs(known[-1])))
        if not low <= share <= high:
            reasons.append(f"{self.name}, share of {known[-1]:g}: {share:.2f}, trained on [{low:.2f}, {high:.2f}]")
        return tuple(reasons)


class Domain:
    """The stored domain of a model: that of its input fields, and the task detector where there is one.

    `checks` are the manifest's, by field; each names the prefix of its arrays.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], checks: Mapping[str, Mapping[str, Any]]) -> None:
        self._fields = tuple(
            FieldDomain(
                name,
                _double(_part(arrays, f"{facts['arrays']}validity.")),
                {k: np.sort(v) for k, v in _part(arrays, f"{facts['arrays']}reference.").items() if k != "task"},
                facts,
            )
            for name, facts in checks.items()
        )
        self._task = np.sort(arrays["reference.task"]) if "reference.task" in arrays else None
        references = [v for field in self._fields for v in field.reference.values()]
        references += [] if self._task is None else [self._task]
        self._count = len(references)
        self.floor = 2 * self._count / (min(len(v) for v in references) + 1) if references else 1.0
        if self.floor >= THRESHOLD:
            raise BrokenBundle(
                "calibration.npz", f"a p-value floor below {THRESHOLD}", f"{self.floor:.4f} (too few inputs)"
            )

    @property
    def uses_task(self) -> bool:
        """Whether the relative bound is one of the detectors."""
        return self._task is not None

    def mean(self, name: str, values: np.ndarray) -> np.ndarray | None:
        """The mean of one training input, of the level of `values` where the answer does not depend on it."""
        for field in self._fields:
            if field.name == name and "mean" in field.parameters:
                level = values.mean() if field.checks.get("mean_free") else 0.0
                return np.asarray(field.parameters["mean"] + level, dtype=np.float64)
            if field.name == name and "value" in field.reference:
                return np.asarray(field.reference["value"].mean(dtype=np.float64))
        return None

    def assess(self, inputs: Mapping[str, np.ndarray], task: float | None) -> Validity:
        """The verdict on one input, without its batch axis."""
        p_values: dict[str, float] = {}
        hard: list[str] = []
        for field in self._fields:
            values = np.asarray(inputs[field.name])
            hard += field.hard_reasons(values)
            for name, score in field.scores(values).items():
                p_values[f"{field.name}, {name}"] = _two_sided(field.reference[name], score)
        if task is not None and self._task is not None:
            p_values["task"] = _two_sided(self._task, task)
        p_value = min(1.0, self._count * min(p_values.values()))
        reasons = list(hard)
        if p_value < THRESHOLD:
            limit = THRESHOLD / self._count
            reasons += [f"{name}: p = {p:.4f}" for name, p in p_values.items() if p < limit]
        return Validity(not reasons, 0.0 if hard else p_value, tuple(reasons))


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _double(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In the precision in which scores are computed, so that no request has to convert them."""
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def _two_sided(reference: np.ndarray, score: float) -> float:
    below = int(np.searchsorted(reference, score, side="right"))
    above = len(reference) - int(np.searchsorted(reference, score, side="left"))
    return min(1.0, 2.0 * (1 + min(below, above)) / (len(reference) + 1))


def hard_checks(inputs: Fields, mean_free: bool = False) -> dict[str, Any]:
    """What the hard checks compare with: phase values and their share, or the range."""
    values = phase_values(inputs)
    if values is None or inputs.ndim == 1:
        shown = _flatten(inputs, mean_free)
        return {"range": [float(shown.min()), float(shown.max())], "mean_free": mean_free}
    share = (inputs == np.float32(values[-1])).reshape(len(inputs), -1).mean(axis=1)
    return {"values": values, "share": [float(share.min()), float(share.max())]}
