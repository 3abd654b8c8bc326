"""Hold the guaranteed bounds of a surrogate against a finer reference: index = bound / true error, and violations."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from models import catalog
from models.coverage import Progress, silently
from models.errors import NotOffered
from models.physical_model import Arrays, Audit, PhysicalModel
from models.surrogate import Surrogate

Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def measure(
    surrogate: Surrogate, model: PhysicalModel, seed: int, audits: Mapping[str, int], run: Run,
    progress: Progress = silently,
) -> dict[str, Any]:  # fmt: skip
    """Audits of so many fresh inputs of each family; violations count against error_floor."""
    points = int(surrogate.manifest.document["points"])
    tasks = [
        (model.name, family, *answered(model, surrogate, model.draw(seed, index, points, family)))
        for family, count in audits.items()
        for index in progress(range(count), f"answers {family}")
    ]
    found: dict[str, list[Audit]] = {}
    for family, result in progress(run(_audit, tasks), f"audit of {len(tasks)} bounds"):
        found.setdefault(family, []).append(result)
    return {family: _summary(found[family]) for family in audits}


def _audit(task: tuple[str, str, Arrays, Arrays]) -> tuple[str, Audit]:
    name, family, inputs, outputs = task
    audit = catalog.load(name).audit
    if audit is None:
        raise NotOffered(f"audits of the bounds of {name}", "audits where a finer reference exists")
    return family, audit(inputs, outputs)


def answered(model: PhysicalModel, surrogate: Surrogate, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """One sample and its answer; where the bound needs a trajectory, at the times it needs up to the last lead time."""
    sample = {name: np.asarray(values, dtype=np.float32) for name, values in inputs.items()}
    lead = surrogate.lead_times
    if model.bound_times is None or lead is None or lead.input is None:
        found = surrogate.run({name: values[None] for name, values in sample.items()})
        return inputs, {name: p.mean[0] for name, p in found.items()}
    times = model.bound_times(np.array([lead.stop]))
    rows = {name: np.repeat(values[None], len(times), axis=0) for name, values in sample.items()}
    return inputs | {lead.input: times}, surrogate.means(rows | {lead.input: times.astype(np.float32)})


def _summary(audits: list[Audit]) -> dict[str, Any]:
    index = np.array([a.upper / a.error for a in audits])
    strict = np.array([a.upper / a.error_floor for a in audits])
    two_sided = [a.upper / a.lower for a in audits if a.lower > 0]
    return {
        "cases": len(audits),
        "violations": int(sum(a.upper < a.error_floor for a in audits)),
        "lower_bound_violations": int(sum(a.lower > a.error for a in audits)),
        "index_median": float(np.median(index)),
        "index_max": float(index.max()),
        "index_against_finest_median": float(np.median(strict)),
        "index_against_finest_max": float(strict.max()),
        "relative_error_median": float(np.median([a.error / a.size for a in audits])),
        "upper_over_lower_median": float(np.median(two_sided)) if two_sided else None,
    }
