"""Timings, printed and never asserted: forward, bound, full answer, solver, in one run. `make bench`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate

pytestmark = pytest.mark.benchmark
SEED = 41


def calls_of(surrogate: Surrogate) -> dict[str, Callable[[], object]]:
    physics, points = surrogate.physics, int(surrogate.manifest.document["points"])
    sample = physics.draw(SEED, 0, points, physics.held_out[0])
    lead = surrogate.lead_times
    if lead is not None and lead.input is not None:
        sample = sample | {lead.input: np.float32(lead.stop)}
    batch = {name: np.asarray(values, dtype=np.float32)[None] for name, values in sample.items()}
    found = surrogate.run(batch)
    cotangents = {name: np.ones_like(p.members) for name, p in found.items()}
    calls: dict[str, Callable[[], object]] = {
        "forward, all members": lambda: surrogate.run(batch),
        "vjp": lambda: surrogate.vjp(batch, cotangents),
        "jvp": lambda: surrogate.jvp(batch, batch),
        "full answer": lambda: surrogate.predict(batch),
    }
    if physics.relative_bound is not None:
        mean = {name: p.mean[0] for name, p in found.items()}
        calls["bound"] = lambda: physics.relative_bound(sample, mean)
        calls["bound and lower bound"] = lambda: physics.statements(sample, mean)
    if physics.solve is not None:
        calls["fallback solver"] = lambda: physics.solve(sample)
    return calls


@pytest.mark.parametrize("threads", [1, 2])
def test_print_times(bundle_folder: Path, threads: int):
    from training.costs import machine, timed

    surrogate = load_surrogate(bundle_folder, RuntimeOptions(threads=threads))
    if surrogate.physics is None:
        pytest.skip("no physical model to time")
    print(f"\n{surrogate.manifest.name}: {machine()}, seed {SEED}, {threads} threads; median [quartiles] of 30, ms")
    times = {label: timed(call) for label, call in calls_of(surrogate).items()}
    for label, t in times.items():
        print(f"  {label:<24} {t['median']:7.2f} [{t['quartile_1']:.2f}–{t['quartile_3']:.2f}]")
    forward = times["forward, all members"]["median"]
    print(f"  full answer / forward    {times['full answer']['median'] / forward:7.2f}")
    assert forward > 0
