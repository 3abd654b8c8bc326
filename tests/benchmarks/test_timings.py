"""Timings, printed and never asserted: forward, bound, full answer, solver, in one run. `make bench`."""

import platform

import numpy as np
import pytest

from models import catalog
from models.repository import SHIPPED, bundle_folders, load_surrogate
from models.runtime import RuntimeOptions

pytestmark = pytest.mark.benchmark
SEED = 41


@pytest.mark.parametrize("threads", [1, 2])
def test_print_times_of_every_bundle(threads):
    from training.report import machine, timed

    print(f"\n{machine()} seed {SEED}, {threads} threads, median [quartiles] of 30 in ms, {platform.system()}")
    for folder in bundle_folders(SHIPPED):
        surrogate = load_surrogate(folder, RuntimeOptions(threads=threads))
        physics = surrogate.physics
        if physics is None:
            continue
        points = surrogate.input.axes[0].points
        sample = physics.draw(SEED, 0, points, physics.training_family)
        batch = {name: values[None].astype(np.float32) for name, values in sample.items()}
        tangent = batch[surrogate.input.name]
        mean = {surrogate.output.name: surrogate.run(batch).mean[0]}
        cotangent = np.ones((1, surrogate.manifest.members, *surrogate.output.shape), dtype=np.float32)
        calls = {
            "forward, all members": lambda: surrogate.run(batch),
            "vjp": lambda: surrogate.vjp(batch, cotangent),
            "jvp": lambda: surrogate.jvp(batch, tangent),
            "bound": lambda: physics.relative_bound(sample, mean),
            "bound and lower bound": lambda: physics.statements(sample, mean),
            "full answer": lambda: surrogate.predict(batch),
            "fallback solver": lambda: physics.solve(sample),
        }
        times = {label: timed(call) for label, call in calls.items()}
        for label, t in times.items():
            print(
                f"{surrogate.manifest.name:>10} {label:<24} {t['median']:7.2f} [{t['quartile_1']:.2f}–{t['quartile_3']:.2f}]"
            )
        ratio = times["full answer"]["median"] / times["forward, all members"]["median"]
        print(f"{surrogate.manifest.name:>10} full answer / forward    {ratio:7.2f}")
    assert catalog.names()
