"""Adjoint-corrected quantities of Darcy flow: the remainder is never exceeded, whatever the answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from models.catalog.darcy import bound, quantity, reference, sampler
from models.errors import OutOfRange

POINTS = 17
ROUNDING = 1e-12  # of |Q|: the sums of both sides


def medium(seed: int, family: str) -> np.ndarray:
    return sampler.draw(seed, 0, 5 * (POINTS - 1) + 1, family)[::5, ::5]


def answer(permeability: np.ndarray, seed: int, size: float) -> np.ndarray:
    """The solver's answer with a relative perturbation of the given size, zero on the boundary."""
    exact = reference.solve(permeability)
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(exact.shape), 1.5)
    noise[[0, -1]] = noise[:, [0, -1]] = 0.0
    return exact + size * np.linalg.norm(exact) / np.linalg.norm(noise) * noise


def weights_of(seed: int) -> np.ndarray:
    """The mean over a random box, or random weights of both signs."""
    generator = np.random.default_rng(seed)
    if seed % 3 == 0:
        return generator.standard_normal((POINTS, POINTS))
    low, high = np.sort(generator.integers(0, POINTS, (2, 2)), axis=0)
    weights = np.zeros((POINTS, POINTS))
    weights[low[0] : high[0] + 1, low[1] : high[1] + 1] = 1.0
    return weights / weights.sum()


def found(seed: int, family: str, size: float):
    permeability = medium(seed, family)
    inputs = {"permeability": permeability}
    weights = weights_of(seed)
    result = quantity.corrected(inputs, {"pressure": answer(permeability, seed, size)}, "pressure", weights)
    return result, quantity.fine_quantity(inputs, "pressure", weights)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), family=st.sampled_from(sorted(sampler.FAMILIES)), size=st.floats(1e-3, 0.3))
def test_the_remainder_is_never_exceeded(seed: int, family: str, size: float):
    result, truth = found(seed, family, size)
    slack = ROUNDING * abs(truth)
    assert abs(truth - result.corrected) <= result.bound + slack
    assert abs(truth - result.midpoint) <= result.midpoint_bound + slack


def test_the_remainder_is_read_in_a_sentence():
    result, _ = found(3, "two_phase", 0.05)
    reading = result.document()["reading"]
    assert reading.startswith("Whatever the input, the sum over all nodes of each node's weight")
    assert f"at most {result.midpoint_bound:.3g}" in reading and reading.endswith("this is a theorem.")


def test_a_hundredth_of_the_remainder_would_be_exceeded():
    results = [found(seed, "two_phase", 0.05) for seed in range(6)]
    assert any(abs(truth - r.corrected) > replace(r, bound=r.bound / 100).bound for r, truth in results)


def test_corrections_bring_the_quantity_closer():
    results = [found(seed, "two_phase", 0.02) for seed in range(1, 10)]
    raw, corrected, midpoint = np.median(
        [[abs(r.raw - t), abs(r.corrected - t), abs(r.midpoint - t)] / np.abs(t) for r, t in results], axis=0
    )
    assert corrected < raw / 2 and midpoint < corrected  # on a coarse 17² grid


def test_the_corrected_value_does_not_depend_on_the_answer_when_the_dual_is_exact():
    permeability = medium(1, "log_normal")
    coefficient = bound.control_volumes(permeability)
    dual = quantity._solve(coefficient, quantity._density(weights_of(1)), 1e-16, 400)
    values = [bound.interpolate(answer(permeability, s, 0.1), permeability) for s in (1, 2)]
    corrected = []
    for v in values:
        load = quantity.bilinear.cell_load(quantity._density(weights_of(1)))
        residual = quantity.bilinear.cell_load(np.ones_like(coefficient)) - quantity.bilinear.apply_stiffness(
            v, coefficient
        )
        corrected.append(float(np.vdot(load, v) + np.vdot(residual, dual)))
    assert corrected[0] == pytest.approx(corrected[1], rel=1e-7)


def test_other_boundary_values_are_refused():
    pressure = np.full((POINTS, POINTS), 1e-3)
    with pytest.raises(OutOfRange, match="boundary"):
        quantity.corrected({"permeability": np.ones_like(pressure)}, {"pressure": pressure}, "pressure", weights_of(1))
