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
    physics, points = surrogate.physics, surrogate.input.axes[0].points
    sample = physics.draw(SEED, 0, points, physics.training_family)
    batch = {name: values[None].astype(np.float32) for name, values in sample.items()}
    mean = {surrogate.output.name: surrogate.run(batch).mean[0]}
    cotangent = np.ones((1, surrogate.manifest.members, *surrogate.output.shape), dtype=np.float32)
    return {
        "forward, all members": lambda: surrogate.run(batch),
        "vjp": lambda: surrogate.vjp(batch, cotangent),
        "jvp": lambda: surrogate.jvp(batch, batch[surrogate.input.name]),
        "bound": lambda: physics.relative_bound(sample, mean),
        "bound and lower bound": lambda: physics.statements(sample, mean),
        "full answer": lambda: surrogate.predict(batch),
        "fallback solver": lambda: physics.solve(sample),
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_print_times(bundle_folder: Path, threads: int):
    from training.report import machine, timed

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
