"""Random requests under the tolerance contract of Darcy, and how often "met" was not true.

    python -m tests.benchmarks.contract --count 1000 --seed 50

Media of the training law and of the harder families, tolerances from loose to tight, all norms and all on_miss. What is
said to be guaranteed is held against the solution on a mesh twice as fine as any the answer stands on: its energy is at
least the minimum, so the distance found is below the true one, without a tolerance. What is said to be statistical is
held against the truth the band is calibrated for.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta

from models.catalog.darcy import STRIDE, bound, correction, reference, sampler
from models.contract import ACCEPTED, Costs, Tolerance, Verdict, Wish, require_possible, settle
from models.errors import ToleranceNotMet, UnknownOption
from models.numerics import bilinear
from models.numerics.conjugate_gradients import conjugate_gradient_steps
from models.numerics.sine_transform import solve_bilinear_nodes
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Answer, Clock, Question, Surrogate

TYPICAL = {
    ("energy", False): 3e-3,
    ("energy", True): 0.05,
    ("l2", False): 4e-4,
    ("sup", False): 9e-4,
    ("band", False): 9e-4,
}
SPREAD = (0.03, 30.0)  # of the typical value: from far below what any route reaches to far above
CONVERGED = 1e-6  # of the energy gained so far, in one step


@dataclass(frozen=True)
class Request:
    """A medium where it is drawn and where it is served, and what is asked for."""

    family: str
    fine: np.ndarray
    inputs: dict[str, np.ndarray]
    wish: Wish


def draw(surrogate: Surrogate, seed: int, index: int, points: int) -> Request:
    """Request number `index`; half of them are of the training law."""
    generator = np.random.default_rng([seed, index])
    others = sorted(set(sampler.FAMILIES) - {"two_phase"})
    family = "two_phase" if generator.random() < 0.5 else str(generator.choice(others))
    fine = sampler.draw(seed, index, STRIDE * (points - 1) + 1, family)
    inputs = {"permeability": fine[::STRIDE, ::STRIDE][None].astype(np.float32)}
    while True:
        norm, relative = list(TYPICAL)[generator.integers(len(TYPICAL))]
        value = TYPICAL[norm, relative] * float(np.exp(generator.uniform(*np.log(SPREAD))))
        accept = ACCEPTED if generator.random() < 0.5 else ("guaranteed", "statistical")
        on_miss = ("flag", "correct", "solve", "refuse")[generator.integers(4)]
        wish = Wish(Tolerance("pressure", norm, value, relative), on_miss, accept)
        try:
            require_possible(surrogate, wish, Question())
        except UnknownOption:
            continue
        return Request(family, fine, inputs, wish)


@contextmanager
def finer_functions() -> Iterator[list[np.ndarray]]:
    """The functions on the refined grid that are made meanwhile: an answer has only their nodal values."""
    made, original = list[np.ndarray](), correction._refined

    def recorded(nodal, values, *rest):
        made.append(values)
        return original(nodal, values, *rest)

    correction._refined = recorded
    try:
        yield made
    finally:
        correction._refined = original


def distance(function: np.ndarray, permeability: np.ndarray) -> tuple[float, float, float]:
    """|||u − v||| from below, ‖u − v‖ nearly, |||v|||, by the solution on cells of half the width; v is Q1 on (kN)² cells."""
    halves = (function.shape[0] - 1) // (permeability.shape[0] - 1) // 2
    coefficient = np.kron(bound.control_volumes(permeability), np.ones((2 * halves, 2 * halves)))
    values, cells = bilinear.prolong(function), coefficient.shape[0]

    def apply(inner: np.ndarray) -> np.ndarray:
        return bilinear.apply_stiffness(np.pad(inner, 1), coefficient)[1:-1, 1:-1]

    residual = (bilinear.cell_load(np.ones_like(coefficient)) - bilinear.apply_stiffness(values, coefficient))[
        1:-1, 1:-1
    ]
    gained, error = 0.0, np.zeros_like(residual)
    for step in conjugate_gradient_steps(apply, solve_bilinear_nodes, residual, error):
        gained, error = gained + step.energy_drop, step.values
        if step.energy_drop <= CONVERGED * gained:
            break
    energy = float(np.sqrt(bilinear.energy_squared(values, coefficient)))
    return float(np.sqrt(gained)), float(np.linalg.norm(error)) / cells, energy


def true_error(request: Request, answer: Answer, verdict: Verdict, function: np.ndarray | None) -> float:
    """The error in the norm, and against the truth, of the statement that is said to meet the tolerance; from below."""
    statement, nodal = verdict.statement, request.inputs["permeability"][0].astype(np.float64)
    shown = answer.predictions["pressure"].mean[0].astype(np.float64)
    if statement.kind == "statistical":
        truth = reference.solve(request.fine, face_mean="arithmetic")[::STRIDE, ::STRIDE]
        return float(np.abs(truth - shown).max())
    if statement.kind == "guaranteed_vs_discrete" and function is None:
        system = correction.System.of({"permeability": nodal})
        error = system.matrix.solve(system.load) - shown[1:-1, 1:-1]
        if statement.norm == "sup":
            return float(np.abs(error).max())
        energy = system.matrix.energy(error)
        return (
            energy / (system.matrix.energy(shown[1:-1, 1:-1]) + energy)
            if statement.relative
            else energy * _l2(statement)
        )
    energy, l2, size = distance(bound.interpolate(shown, nodal) if function is None else function, nodal)
    if statement.norm == "l2":
        return l2
    return energy / (size + statement.value * size) if statement.relative else energy


def _l2(statement) -> float:
    """Nothing is known of the L2 distance but that it is below the energy's: not held against it here."""
    return 0.0 if statement.norm == "l2" else 1.0


def ask(surrogate: Surrogate, costs: Costs, request: Request) -> tuple[str, float | None]:
    """The outcome, or the kind with which the tolerance was met; with the latter true error / tolerance."""
    clock = Clock()
    with finer_functions() as made:
        answer = surrogate.predict(request.inputs, Question())
        try:
            answer, (verdict,) = settle(surrogate, request.inputs, answer, request.wish, costs, clock)
        except ToleranceNotMet:
            return "refused", None
    if not verdict.met:
        return verdict.outcome, None
    is_finer = verdict.outcome == "solved" and "bilinear function on" in " ".join(verdict.statement.assumptions)
    error = true_error(request, answer, verdict, made[-1] if is_finer else None)
    return f"{verdict.outcome}, {verdict.statement.kind}", error / request.wish.tolerance.value


def run(surrogate: Surrogate, seed: int, count: int, points: int, log: Path | None = None) -> list[dict]:
    """All requests; with a log, those in it are not asked again."""
    costs, found = Costs(), []
    done = log.read_text(encoding="utf-8").splitlines() if log is not None and log.exists() else []
    for index in range(count):
        if index < len(done):
            found.append(json.loads(done[index]))
            continue
        started = time.perf_counter()
        request = draw(surrogate, seed, index, points)
        result, ratio = ask(surrogate, costs, request)
        wish = request.wish
        found.append({
            "family": request.family, "norm": wish.tolerance.norm, "on_miss": wish.on_miss, "result": result,
            "ratio": ratio, "seconds": time.perf_counter() - started,
        })  # fmt: skip
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    return found


def false_claims(found: list[dict], kind: str) -> tuple[int, int]:
    """How many requests were said to be met with this kind of statement, and how many of those were not."""
    ratios = [entry["ratio"] for entry in found if entry["result"].endswith(f", {kind}")]
    return len(ratios), sum(ratio > 1.0 for ratio in ratios)


def summary(found: list[dict], calibrated: int, level: float = 0.9) -> str:
    """Counts by outcome, and by kind how many claims were false."""
    lines = [f"  {count:5d}  {result}" for result, count in Counter(entry["result"] for entry in found).most_common()]
    for kind in ACCEPTED:
        total, false = false_claims(found, kind)
        lines.append(f"met, {kind}: {total}, of which {false} false")
        if kind == "statistical" and total:
            k = int(np.ceil((calibrated + 1) * level - 1e-9))
            low, high = beta(k, calibrated + 1 - k).ppf([0.05, 0.95])
            lines.append(
                f"  true in {100 * (1 - false / total):.1f} % (Beta interval {100 * low:.1f} %–{100 * high:.1f} %)"
            )
    return "\n".join([f"{len(found)} requests", *lines])


def main() -> None:
    """Ask, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=50)
    parser.add_argument("--log", type=Path, default=None, help="file to resume from")
    options = parser.parse_args()
    surrogate = load_surrogate(max(SHIPPED.glob("darcy/*")), RuntimeOptions())
    points = surrogate.manifest.inputs[0].shape[0]
    found = run(surrogate, options.seed, options.count, points, options.log)
    print(summary(found, surrogate.calibrations["pressure"].independent))


if __name__ == "__main__":
    main()
