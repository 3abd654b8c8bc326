"""The parabolic certificate: never below the error, whatever the answer; red when it is broken on purpose."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.sparse.linalg import spsolve

from models.catalog.heat import bound, reference, sampler
from models.catalog.heat.spec import LEAD_TIMES
from models.errors import OutOfRange
from models.numerics import bilinear, raviart_thomas
from models.numerics.control_volumes import control_volumes, interpolate
from models.physical_model import Arrays

POINTS = 9
SHARPEST = 1e-9  # relative rounding of a Galerkin residual against a sum of squares, float64


def answer(seed: int, family: str, size: float, points: int = POINTS) -> tuple[Arrays, Arrays]:
    """The solver's answer with an error of relative size `size`, of few sine modes in space and cosines in time."""
    inputs = sampler.draw(seed, 0, points, family)
    exact = reference.solve_sample(inputs)["temperature"]
    random = np.random.default_rng(seed)
    waves = np.sin(np.pi * np.linspace(0, 1, points)[:, None] * np.arange(1, points - 1))
    waves[[0, -1]] = 0.0
    steepness = random.uniform(0.0, 3.0)
    weights = random.standard_normal((4, points - 2, points - 2)) / np.arange(1, points - 1)[:, None] ** steepness
    turns = np.cos(np.pi * np.outer(LEAD_TIMES.values / LEAD_TIMES.stop, np.arange(4)))
    noise = waves @ np.tensordot(turns, weights, 1) @ waves.T
    noise *= np.linalg.norm(exact, axis=(1, 2), keepdims=True)
    return inputs, {"temperature": exact + size * np.linalg.norm(exact) / np.linalg.norm(noise) * noise}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    family=st.sampled_from(sorted(sampler.FAMILIES)),
    size=st.floats(-3.0, np.log10(0.3)).map(lambda exponent: 10.0**exponent),
)
def test_bound_is_never_below_the_error(seed: int, family: str, size: float):
    found = bound.audit(*answer(seed, family, size))
    assert found.upper >= found.error_floor  # no slack
    assert found.error_floor <= found.error


def test_the_audit_catches_a_bound_that_is_too_small():
    honest = bound.audit(*answer(1, "contrast_4", 0.02, 17))
    halved = replace(honest, upper=honest.upper / 2)
    assert halved.upper < halved.error_floor


@pytest.mark.parametrize("family", ["constant", "contrast_12", "two_phase"])
def test_residual_measure_exceeds_the_residual_on_any_finer_elements(family: str):
    """At single times, with no reference in time: sup of the residual over Q1 on quarter cells never exceeds m."""
    inputs, outputs = answer(3, family, 0.02)
    times, frames = bound.with_start(inputs, outputs)
    medium = inputs["diffusivity"].astype(np.float64)
    coefficient, fine = control_volumes(medium), interpolate(frames, medium)
    to_values, to_slopes = np.eye(4)[1:], np.diff(np.eye(4), axis=0) / times[1]
    values, slopes = (np.tensordot(matrix, fine[:4], 1) for matrix in (to_values, to_slopes))
    parts = bound._at_times(fine[:4], coefficient, to_values, to_slopes)
    measure = np.square(np.sqrt(parts[:3]).sum(axis=0))
    finer = np.kron(coefficient, np.ones((2, 2)))
    mass, stiffness = bilinear.mass_matrix(len(finer)), bilinear.stiffness_matrix(finer)
    for k in range(3):
        value, slope = (bilinear.prolong(v[k])[1:-1, 1:-1].ravel() for v in (values, slopes))
        residual = mass @ slope + stiffness @ value
        squared = float(residual @ spsolve(stiffness.tocsc(), residual))
        assert squared <= measure[k] * (1 + SHARPEST)
        assert measure[k] <= 2.0 * squared  # Prager–Synge: the flux is about as good as the answer


def test_four_gauss_points_integrate_the_residual_exactly(monkeypatch):
    inputs, outputs = answer(4, "contrast_12", 0.05)
    times, frames = bound.with_start(inputs, outputs)
    medium = inputs["diffusivity"].astype(np.float64)
    found = bound._residual(times, frames, medium)
    monkeypatch.setattr(bound, "GAUSS", 7)
    bound._quadrature.cache_clear()
    exact = bound._residual(times, frames, medium)
    monkeypatch.setattr(bound, "GAUSS", 2)
    bound._quadrature.cache_clear()
    wrong = bound._residual(times, frames, medium)
    monkeypatch.undo()
    bound._quadrature.cache_clear()
    np.testing.assert_allclose(found.constitutive, exact.constitutive, rtol=1e-10)
    np.testing.assert_allclose(found.oscillation, exact.oscillation, rtol=1e-10)
    assert np.abs(wrong.constitutive / exact.constitutive - 1).max() > 1e-6


def test_l2_bound_holds_at_every_lead_time():
    for seed, family in ((5, "smooth"), (6, "contrast_50"), (7, "two_phase")):
        inputs, outputs = answer(seed, family, 0.02)
        times, frames = bound.with_start(inputs, outputs)
        medium = inputs["diffusivity"].astype(np.float64)
        found = bound.error_bound(times, frames, medium, inputs["initial_temperature"])
        start, coefficient = reference.refined(medium, inputs["initial_temperature"], 4)
        truth = reference.evolve(start, coefficient).at(times)
        mass = bilinear.mass_matrix(len(coefficient))
        for k, value in enumerate(interpolate(frames, medium)[1:], start=1):
            error = (truth[k] - bilinear.prolong(value))[1:-1, 1:-1].ravel()
            assert found.l2[k] >= np.sqrt(error @ (mass @ error))


def test_index_is_near_one_and_the_bound_falls_with_the_mesh_width():
    coarse, fine = (bound.audit(*answer(8, "contrast_4", 0.0, points)) for points in (9, 17))
    assert fine.upper / fine.error < 1.35  # measured 1.23
    assert fine.upper / fine.size < 0.6 * coarse.upper / coarse.size  # order 1


def test_heat_that_starts_on_the_boundary_counts_as_an_initial_error():
    inputs, outputs = answer(9, "smooth", 0.0)
    warm = inputs["initial_temperature"].copy()
    warm[0] = 1.0
    times, frames = bound.with_start(inputs, outputs)
    found = bound.error_bound(times, frames, inputs["diffusivity"], warm)
    cold = bound.error_bound(times, frames, inputs["diffusivity"], inputs["initial_temperature"])
    assert cold.l2[0] < 1e-12
    assert found.l2[0] == pytest.approx(np.sqrt(1 / 3 / (POINTS - 1)), rel=0.1)  # a ramp over one cell
    assert found.energy > cold.energy


def test_a_faulty_flux_only_loosens_the_bound(monkeypatch):
    inputs, outputs = answer(10, "smooth", 0.02)
    honest = bound.audit(inputs, outputs)
    right = raviart_thomas.equilibrate

    def faulty(flux: raviart_thomas.Flux, source: np.ndarray) -> raviart_thomas.Flux:
        found = right(flux, source)
        return raviart_thomas.Flux(1.01 * found.along_x, found.along_y)

    monkeypatch.setattr(bound.raviart_thomas, "equilibrate", faulty)
    assert bound.relative_bound(inputs, outputs) * honest.size > honest.upper


def test_what_the_theorem_does_not_cover_is_refused():
    inputs, outputs = answer(11, "smooth", 0.0)
    times, frames = bound.with_start(inputs, outputs)
    warm = frames.copy()
    warm[3, 0, 4] = 1e-3
    broken = frames.copy()
    broken[2, 3, 3] = np.nan
    medium, initial = inputs["diffusivity"], inputs["initial_temperature"]
    with pytest.raises(OutOfRange, match="boundary"):
        bound.error_bound(times, warm, medium, initial)
    with pytest.raises(OutOfRange, match="finite"):
        bound.error_bound(times, broken, medium, initial)
    with pytest.raises(OutOfRange, match="ascending"):
        bound.error_bound(times[::-1], frames, medium, initial)
    with pytest.raises(OutOfRange, match="positive"):
        bound.error_bound(times, frames, -medium, initial)


def test_the_reference_refuses_a_medium_that_is_not_positive():
    with pytest.raises(OutOfRange, match="diffusivity"):
        reference.solve(np.zeros((5, 5)), np.zeros((5, 5)), LEAD_TIMES.values)


def test_reference_agrees_with_quadratic_elements_of_scikit_fem():
    """Independent oracle: Q2 on quarter cells, all its eigenvectors, the same initial function."""
    skfem = pytest.importorskip("skfem")
    from skfem.helpers import dot, grad

    points = 7
    inputs = sampler.draw(12, 0, points, "contrast_4")
    medium, initial = (inputs[name].astype(np.float64) for name in ("diffusivity", "initial_temperature"))
    cells = 2 * (points - 1)
    coefficient, start = control_volumes(medium), interpolate(initial, medium)
    basis = skfem.Basis(skfem.MeshQuad.init_tensor(*[np.linspace(0, 1, cells + 1)] * 2), skfem.ElementQuad2())

    def cell(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.minimum((x * cells).astype(int), cells - 1))

    def initial_at(x: np.ndarray) -> np.ndarray:
        i, j = cell(x)
        p, q = x[0] * cells - i, x[1] * cells - j
        low = (1 - p) * start[i, j] + p * start[i + 1, j]
        return (1 - q) * low + q * ((1 - p) * start[i, j + 1] + p * start[i + 1, j + 1])

    stiffness = skfem.BilinearForm(lambda u, v, w: coefficient[cell(w.x)] * dot(grad(u), grad(v))).assemble(basis)
    mass = skfem.BilinearForm(lambda u, v, _: u * v).assemble(basis)
    load = skfem.LinearForm(lambda v, w: initial_at(w.x) * v).assemble(basis)
    inner = basis.complement_dofs(basis.get_dofs())
    rates, vectors = eigh(stiffness[inner][:, inner].toarray(), mass[inner][:, inner].toarray())
    solution = np.zeros(basis.N)
    times = LEAD_TIMES.values[[0, 9, 24]]
    found = reference.solve(medium, initial, times, 8)
    nodes = [np.flatnonzero((np.abs(basis.doflocs.T - p) < 1e-9).all(axis=1))[0] for p in
             np.stack(np.meshgrid(*[np.linspace(0, 1, points)] * 2, indexing="ij"), -1).reshape(-1, 2)]  # fmt: skip
    for time, values in zip(times, found, strict=True):
        solution[inner] = vectors @ (np.exp(-rates * time) * (vectors.T @ load[inner]))
        expected = solution[nodes].reshape(points, points)
        distance = np.linalg.norm(values - expected)
        assert distance <= 3e-3 * np.linalg.norm(expected)  # h² on eighths of 1/6, eight decay times
