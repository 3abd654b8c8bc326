"""Is an input in the domain? Two-sided p-values of several detectors, combined by Bonferroni, and hard checks.

    p_j = min(1, 2 min((1 + #{s ≥ s_j}) / (n+1), (1 + #{s ≤ s_j}) / (n+1))),     p = min(1, min_j p_j / w_j),   Σ w_j = 1

Detectors of each input field: T² on principal components (is it extreme in known directions?), SPE (does it leave their
span?), spectrum (Mahalanobis distance of log shell energies, for fields with a grid), sharpest (does one bend stand out?);
of a scalar: its value; of the whole: task (relative error bound, where the physical model has one), and contradiction,
where it gives a summary: max_i |x_i − E[x_i | the rest]| / t_i, t_i what one training input in a thousand exceeds. That one
has half of the weight, for it is fitted to how inputs hang together; all others share alike (weighted Bonferroni:
Genovese, Roeder & Wasserman, Biometrika 93, 2006). Their reference scores come from n inputs that
took no part in fitting them. Fields may be taken free of their mean, where the answer does not depend on it. Media of few
values are checked for these, for the share of the largest, for the density of interfaces and for isolated nodes. Out of
domain does not imply wrong, nor the reverse; it voids statistical statements, and the reasons name what is off.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import dctn
from scipy.linalg import eigh

from models.errors import BrokenBundle
from models.physical_model import Summary

THRESHOLD = 0.01
SUMMARY_WEIGHT = 0.5
RARE = 1e-3  # share of training inputs whose number lies farther from what the rest suggests than its unit
SHELLS = 12
WHOLE = ("task", "summary")  # detectors that see all inputs
LEAST_NODES = 8  # along an axis, for shells and second differences
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
    return (len(shape) == 1 and shape[0] >= 32) or (len(shape) == 2 and min(shape) >= LEAST_NODES)


def shell_energies(fields: Fields, cosine: bool = False) -> Float[np.ndarray, "batch shell"]:
    """f_b = log(mean |FFT x|² over radial shell b + 1e−12): 12 shells up to the Nyquist frequency, fewer on small grids.

    `cosine` series where the field is not periodic: the jump from edge to edge would fill all shells.
    """
    grid = tuple(range(1, fields.ndim))
    shell, counts = _shells(fields.shape[1:], cosine)
    centred = fields - fields.mean(axis=grid, keepdims=True)
    if cosine:
        power = np.square(dctn(centred, axes=grid, norm="ortho"))
    else:
        power = np.abs(np.fft.rfftn(centred, axes=grid, norm="ortho")) ** 2
    sums = [np.bincount(shell, weights=sample.reshape(-1)) for sample in power]
    return np.asarray(np.log(np.stack(sums) / counts + 1e-12))


@lru_cache(64)
def _shells(shape: tuple[int, ...], cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Number of the shell of every frequency of a transform, flat, and how many each shell has."""
    shells = min(SHELLS, min(shape) // 2)
    frequencies: list[np.ndarray]
    if cosine:
        frequencies = [np.arange(n) / (2 * n) for n in shape]
    else:
        frequencies = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*frequencies, indexing="ij")))
    shell = np.minimum((radius * 2 * shells).astype(int), shells - 1).reshape(-1)
    return shell, np.bincount(shell)


def sharpest(fields: Fields) -> np.ndarray:
    """log of max |δ²x| over its root mean square, δ² the second difference along each axis of 8 nodes or more.

    Free of amplitude: a spike, a step or a dead sensor stands out of any field.
    """
    axes = [axis for axis in range(1, fields.ndim) if fields.shape[axis] >= LEAST_NODES]
    values, found = fields.astype(np.float64), []
    for axis in axes:
        along = np.moveaxis(values, axis, 1)
        bends = (along[:, 2:] - 2.0 * along[:, 1:-1] + along[:, :-2]).reshape(len(fields), -1)
        np.square(bends, out=bends)
        found.append(np.sqrt(bends.max(axis=1) / np.maximum(bends.mean(axis=1), 1e-24)))
    return np.asarray(np.log(np.maximum(np.maximum.reduce(found), 1e-12)))


def is_cosine(parameters: Mapping[str, np.ndarray]) -> bool:
    """Whether the spectrum was fitted in cosines."""
    return bool(parameters.get("spectrum_cosine", False))


def fit_detectors(
    inputs: Fields, components: int, mean_free: bool = False, periodic: bool = True
) -> dict[str, np.ndarray]:
    """Parameters of the detectors of one field from the training inputs."""
    flat = _flatten(inputs, mean_free).astype(np.float64)
    if flat.shape[1] == 1:
        return {}
    mean, deviation = flat.mean(axis=0), max(float(flat.std()), 1e-12)
    sigma, basis = principal_components((flat - mean) / deviation, components)
    kept = int((sigma > 1e-6 * sigma[0]).sum())
    found = {
        "mean": mean.astype(np.float32),
        "deviation": np.float64(deviation),
        "components": basis[:kept].astype(np.float32),
        "sigma": sigma[:kept],
    }
    # of a field that never changes (terrain of one place) the energies differ by rounding alone, which ranks cannot tell
    varies = bool(np.any(inputs != inputs[:1]))
    if varies and max(inputs.shape[1:]) >= LEAST_NODES and phase_values(inputs) is None:
        found["sharpest"] = np.float64(np.median(sharpest(inputs)))
    if has_spectrum(inputs.shape[1:]) and varies:
        energies = shell_energies(inputs, not periodic)
        found["spectrum_cosine"] = np.asarray(not periodic)
        precision = np.linalg.inv(np.cov(energies.T) + 1e-6 * np.eye(energies.shape[1]))
        found |= {"spectrum_mean": energies.mean(axis=0), "spectrum_precision": precision}
    return found


def principal_components(rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of the leading components, and these, one per row: from the smaller of the two Gram matrices."""
    wide = rows.shape[0] <= rows.shape[1]
    gram = rows @ rows.T if wide else rows.T @ rows
    size = len(gram)
    squares, vectors = eigh(gram, subset_by_index=[max(0, size - most), size - 1])
    squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
    basis = vectors.T @ rows / np.sqrt(np.maximum(squares, 1e-300))[:, None] if wide else vectors.T
    return np.sqrt(squares / max(1, len(rows) - 1)), basis


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
    squares = np.square(scores)
    found = {"T²": squares @ parameters["sigma"] ** -2.0}
    if len(parameters["sigma"]) < flat.shape[1]:
        found["SPE"] = np.einsum("bi,bi->b", flat, flat) - squares.sum(axis=1)
    if "spectrum_mean" in parameters:
        gap = shell_energies(inputs, is_cosine(parameters)) - parameters["spectrum_mean"]
        found["spectrum"] = np.einsum("bi,ij,bj->b", gap, parameters["spectrum_precision"], gap)
    if "sharpest" in parameters:
        found["sharpest"] = sharpest(inputs)
    return found


def fit_summary(numbers: Float[np.ndarray, "batch number"]) -> dict[str, np.ndarray]:
    """Parameters of `contradictions` from the summaries of the training inputs."""
    mean, deviation = numbers.mean(axis=0), np.maximum(numbers.std(axis=0), 1e-12)
    standard = (numbers - mean) / deviation
    precision = np.linalg.inv(standard.T @ standard / len(standard) + 1e-9 * np.eye(numbers.shape[1]))
    found = {"mean": mean, "deviation": deviation, "precision": precision}
    unit = np.quantile(np.abs(contradictions(found | {"unit": np.ones(len(mean))}, numbers)), 1 - RARE, axis=0)
    return found | {"unit": np.maximum(unit, 1e-12)}


def contradictions(
    parameters: Mapping[str, np.ndarray], numbers: Float[np.ndarray, "batch number"]
) -> Float[np.ndarray, "batch number"]:
    """(x_i − E[x_i | the rest]) / t_i: with P the precision of a Gaussian, x_i − E[x_i | the rest] = (P(x − mean))_i / P_ii."""
    standard = (numbers - parameters["mean"]) / parameters["deviation"]
    precision = parameters["precision"]
    return np.asarray(standard @ precision / np.diag(precision) / parameters["unit"])


def _changes(inputs: Fields) -> list[np.ndarray]:
    """Where neighbours along each axis differ."""
    along = (np.moveaxis(inputs, axis, 1) for axis in range(1, inputs.ndim))
    return [np.moveaxis(values[:, 1:] != values[:, :-1], 1, axis) for axis, values in enumerate(along, start=1)]


def interfaces(inputs: Fields) -> np.ndarray:
    """Share of neighbouring nodes of different value, of every input: the inverse of a correlation length."""
    changes = _changes(inputs)
    grid = tuple(range(1, inputs.ndim))
    count = sum(change[0].size for change in changes)
    return np.asarray(sum(np.count_nonzero(change, axis=grid) for change in changes) / count)


def specks(inputs: Fields) -> np.ndarray:
    """Number of nodes that differ from all their neighbours, of every input."""
    alone = np.ones(inputs.shape, dtype=bool)
    for axis, change in enumerate(_changes(inputs), start=1):
        along, changed = np.moveaxis(alone, axis, 1), np.moveaxis(change, axis, 1)
        along[:, 1:] &= changed
        along[:, :-1] &= changed
    return np.asarray(np.count_nonzero(alone, axis=tuple(range(1, inputs.ndim))))


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
        return (*reasons, *self._texture_reasons(values))

    def _texture_reasons(self, values: np.ndarray) -> tuple[str, ...]:
        """Media of few values: whether regions are of the size they had in training."""
        reasons = []
        low, high = self.checks.get("interfaces", (0.0, 1.0))
        found = float(interfaces(values[None])[0])
        if not low <= found <= high:
            size = "smaller" if found > high else "larger"
            reasons.append(
                f"{self.name}, interfaces: {found:.3f} of neighbours differ, trained on [{low:.3f}, {high:.3f}]; "
                f"regions are {size} than in training"
            )
        most, isolated = self.checks.get("specks", values.size), int(specks(values[None])[0])
        if isolated > most:
            reasons.append(f"{self.name}, specks: {isolated} isolated nodes, at most {most} in training")
        return tuple(reasons)

    def describe(self, detector: str, values: np.ndarray, too_high: bool) -> str:
        """What is off, in words."""
        level = "high" if too_high else "low"
        if detector == "value":
            return f"{float(values):.4g} is too {level}"
        if detector == "SPE":
            return (
                "detail that inputs of training do not have (noise, a spike, a step)" if too_high
                else "less fine detail than inputs of training have"
            )  # fmt: skip
        if detector == "sharpest":
            return "one bend far sharper than the rest (a spike)" if too_high else "no bend sharper than the rest"
        if detector == "spectrum":
            return self._worst_shell(values) if too_high else "a spectrum closer to the average than inputs of training"
        return self._worst_component(values) if too_high else "the usual patterns are all too weak"

    def _worst_shell(self, values: np.ndarray) -> str:
        """The shell whose energy is farthest off, by the wavelengths it holds."""
        covariance = np.linalg.inv(self.parameters["spectrum_precision"])
        gaps = shell_energies(values[None], is_cosine(self.parameters))[0] - self.parameters["spectrum_mean"]
        off = gaps / np.sqrt(np.diag(covariance))
        shell, count = int(np.abs(off).argmax()), len(off)
        longest = f"up to {2 * count / shell:.1f}" if shell else "or more"
        return (
            f"energy at wavelengths of {2 * count / (shell + 1):.1f} {longest} grid steps, {abs(off[shell]):.1f} standard "
            f"deviations too {'high' if off[shell] > 0 else 'low'}"
        )

    def _worst_component(self, values: np.ndarray) -> str:
        flat = _flatten(values[None], bool(self.checks.get("mean_free")))
        standard = (flat - self.parameters["mean"]) / self.parameters["deviation"]
        off = (standard @ self.parameters["components"].T)[0] / self.parameters["sigma"]
        worst = int(np.abs(off).argmax())
        return f"pattern {worst + 1} of training is {abs(off[worst]):.1f} standard deviations strong, or many are too strong"


class Domain:
    """The stored domain of a model: that of its input fields, of their summary, and the task detector where there is one.

    `checks` are the manifest's, by field; each names the prefix of its arrays. `summary` is the physical model's.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], checks: Mapping[str, Mapping[str, Any]], summary: Summary | None = None
    ) -> None:
        self._fields = tuple(
            FieldDomain(
                name,
                _double(_part(arrays, f"{facts['arrays']}validity.")),
                {k: _sorted(v) for k, v in _part(arrays, f"{facts['arrays']}reference.").items() if k not in WHOLE},
                facts,
            )
            for name, facts in checks.items()
        )
        self._task = _sorted(arrays["reference.task"]) if "reference.task" in arrays else None
        self._summary = summary if "reference.summary" in arrays else None
        self._summary_parameters = _double(_part(arrays, "summary."))
        references = [v for field in self._fields for v in field.reference.values()]
        references += [] if self._task is None else [self._task]
        left = 1.0 if self._summary is None else 1.0 - SUMMARY_WEIGHT
        self._weight = left / max(1, len(references))
        if self._summary is not None:
            self._summary_reference = _sorted(arrays["reference.summary"])
            references.append(self._summary_reference)
        self._count = len(references)
        self.floor = 2 / (min(len(v) for v in references) + 1) / self._weight if references else 1.0
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
        hard = [reason for field in self._fields for reason in field.hard_reasons(np.asarray(inputs[field.name]))]
        found = list(self._findings(inputs, task))
        p_value = min([1.0, *(p for p, _ in found)])
        reasons = (*hard, *(describe() for p, describe in found if p < THRESHOLD))
        return Validity(not reasons, 0.0 if hard else p_value, reasons)

    def _findings(
        self, inputs: Mapping[str, np.ndarray], task: float | None
    ) -> Iterator[tuple[float, Callable[[], str]]]:
        """p_j / w_j of every detector, and what it objects to in words."""
        for field in self._fields:
            values = np.asarray(inputs[field.name])
            for name, score in field.scores(values).items():
                p, high = _two_sided(field.reference[name], score)
                describe = partial(field.describe, name, values, high)
                yield p / self._weight, partial(_reason, f"{field.name}, {name}", describe, p)
        if task is not None and self._task is not None:
            p, high = _two_sided(self._task, task)
            words = f"the error bound is too {'high' if high else 'low'}"
            yield p / self._weight, partial(_reason, "task", lambda: words, p)
        if self._summary is not None:
            batch = {name: np.asarray(values)[None] for name, values in inputs.items()}
            off = contradictions(self._summary_parameters, self._summary.of(batch))[0]
            p, high = _two_sided(self._summary_reference, float(np.abs(off).max()))
            describe = partial(_contradiction, self._summary.labels, off, high)
            yield p / SUMMARY_WEIGHT, partial(_reason, "summary", describe, p)


def _reason(place: str, describe: Callable[[], str], p: float) -> str:
    return f"{place}: {describe()} (p = {p:.4f})"


def _contradiction(labels: tuple[str, ...], off: np.ndarray, too_high: bool) -> str:
    """The number that is off, in words."""
    if not too_high:
        return "its numbers fit each other better than those of training"
    worst = int(np.abs(off).argmax())
    return (
        f"{labels[worst]} is {'higher' if off[worst] > 0 else 'lower'} than all else suggests, {abs(off[worst]):.1f} times "
        "as far as in one training input of a thousand"
    )


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _double(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In the precision in which scores are computed, so that no request has to convert them."""
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def _sorted(scores: np.ndarray) -> np.ndarray:
    """In the precision in which scores are looked up: of any other, every look-up would make a copy."""
    return np.sort(scores).astype(np.float64)


def _two_sided(reference: np.ndarray, score: float) -> tuple[float, bool]:
    """The p-value, and whether the score lies in the upper tail."""
    below = int(reference.searchsorted(score, side="right"))
    above = len(reference) - int(reference.searchsorted(score, side="left"))
    return min(1.0, 2.0 * (1 + min(below, above)) / (len(reference) + 1)), above < below


def hard_checks(inputs: Fields, mean_free: bool = False) -> dict[str, Any]:
    """What the hard checks compare with: phase values and their share, or the range."""
    values = phase_values(inputs)
    if values is None or inputs.ndim == 1:
        shown = _flatten(inputs, mean_free)
        return {"range": [float(shown.min()), float(shown.max())], "mean_free": mean_free}
    share = (inputs == np.float32(values[-1])).reshape(len(inputs), -1).mean(axis=1)
    density = interfaces(inputs)
    return {
        "values": values, "share": [float(share.min()), float(share.max())],
        "interfaces": [float(density.min()), float(density.max())], "specks": int(specks(inputs).max()),
    }  # fmt: skip
