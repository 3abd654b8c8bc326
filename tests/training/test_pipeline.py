"""The whole offline pipeline at the tiny preset, its resumption, and the parts it is made of."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from training import dataset, export, fit, losses, muon
from training.architectures.fourier import SpectralConvolution
from training.architectures.preconditioned_fno import PreconditionedFNO

ROOT = Path(__file__).resolve().parents[2]
PARITY = 1e-5  # float32; measured 1e-7 to 1e-6


@pytest.fixture
def tiny():
    return catalog.load("darcy").recipes["tiny"]


@pytest.fixture
def network(tiny) -> PreconditionedFNO:
    torch.manual_seed(3)
    return PreconditionedFNO.from_recipe(tiny).eval()


@pytest.fixture
def medium(tiny) -> torch.Tensor:
    model = catalog.load("darcy")
    rows = [model.draw(11, i, tiny.points, "two_phase")["permeability"] for i in range(3)]
    return torch.from_numpy(np.stack(rows)).float()


def test_the_pipeline_writes_a_bundle_that_serves(tiny_runs):
    surrogate = load_surrogate(tiny_runs / "zoo" / "darcy" / "1", RuntimeOptions())
    inputs = surrogate.physics.draw(12, 0, 17, "two_phase")
    answer = surrogate.predict({k: v[None] for k, v in inputs.items()})
    kinds = {statement.kind for statement in answer.statements[0]}
    assert {"guaranteed", "statistical"} <= kinds
    log = [json.loads(line) for line in (tiny_runs / "fit.jsonl").read_text().splitlines()]
    assert log[-1]["epoch"] == 4
    assert log[-1]["loss"] < log[0]["loss"]


def test_report_records_parity_and_derivative_checks(tiny_runs):
    checks = json.loads((tiny_runs / "report.json").read_text())["derivatives"]
    for name in ("forward_parity", "vjp_parity", "jvp_parity", "adjoint_identity", "forward_equal_in_vjp"):
        assert checks[name] <= PARITY, name
    assert checks["finite_difference"] <= 1e-4  # float32 graph against float64 differences


def test_sampling_again_computes_only_what_is_missing(tiny_runs, tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_runs / "data", data)
    victim = data / "validation-00000.npz"
    before = dataset.load(data, "validation")[0]["permeability"]
    victim.unlink()
    ages = {path: path.stat().st_mtime_ns for path in data.glob("*.npz")}
    dataset.sample(catalog.load("darcy"), tiny, data, None)
    np.testing.assert_array_equal(dataset.load(data, "validation")[0]["permeability"], before)
    assert all(path.stat().st_mtime_ns == age for path, age in ages.items())


def test_samples_of_another_recipe_are_not_mixed_in(tiny_runs, tiny, tmp_path):
    from dataclasses import replace

    data = tmp_path / "data"
    shutil.copytree(tiny_runs / "data", data)
    other = replace(tiny, splits={**tiny.splits, "train": replace(tiny.splits["train"], count=60)})
    with pytest.raises(ValueError, match="another's"):
        dataset.sample(catalog.load("darcy"), other, data, None)


def test_training_resumes_where_it_stopped(tiny_runs, tiny, tmp_path):
    """Two epochs, then a fresh process's two more, equal four in one go."""
    shutil.copytree(tiny_runs / "data", tmp_path / "data")
    model = catalog.load("darcy")
    run = fit.Run(tiny, tiny.splits["train"].count, fit.find_place())
    train = fit.load_prepared(run.network, tmp_path / "data", "train")
    for _ in range(2):
        fit.train_epoch(run, train, fast=fit.has_fast_bfloat16(run.place.device))
    run.save(tmp_path / "checkpoint.pt")
    fit.fit(model, tiny, tmp_path)
    resumed = export.load_network(tiny, tmp_path / "checkpoint.pt").state_dict()
    straight = export.load_network(tiny, tiny_runs / "checkpoint.pt").state_dict()
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=2e-3, atol=2e-4)  # stored in half precision


def test_training_under_torchrun_keeps_the_processes_together(tiny_runs, tmp_path):
    target = tmp_path / "darcy" / "tiny"
    shutil.copytree(tiny_runs / "data", target / "data")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611",
        "-m", "training", "fit", "darcy", "--preset", "tiny", "--runs", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-1500:]
    log = (target / "fit.jsonl").read_text().splitlines()
    assert len(log) == 4  # one process writes


def test_spectral_layer_equals_the_fast_transform():
    """The truncated DFT products against rfft2 and irfft2 with the same complex weights."""
    torch.manual_seed(0)
    members, channels, modes, points = 2, 3, 4, 12
    layer = SpectralConvolution(members, channels, modes, points, points)
    field = torch.randn(5, members, channels, points, points)
    weight = torch.complex(layer.weight[:, :, 0], layer.weight[:, :, 1])
    weight = weight.reshape(members, 2 * modes, modes, channels, channels)
    spectrum = torch.fft.rfft2(field, norm="ortho")
    kept = torch.zeros_like(spectrum)
    rows = torch.cat([torch.arange(modes), torch.arange(-modes, 0)])
    mixed = torch.einsum("bmixy,mxyio->bmoxy", spectrum[:, :, :, rows][..., :modes], weight)
    kept[:, :, :, rows[:, None], torch.arange(modes)[None, :]] = mixed
    expected = torch.fft.irfft2(kept, s=(points, points), norm="ortho")
    # irfft2 drops the imaginary part of the k_y = 0 column's non-symmetric rows; so does taking the real part here
    torch.testing.assert_close(layer(field), expected, rtol=1e-4, atol=1e-5)


def test_network_keeps_its_hard_constraints(network, medium):
    """U = 0 on the boundary, and u(ca) = u(a)/c for any unit of permeability."""
    pressure, scale = network(medium)
    for field in (pressure, scale):
        assert torch.count_nonzero(field[..., [0, -1], :]) == 0
        assert torch.count_nonzero(field[..., :, [0, -1]]) == 0
    torch.testing.assert_close(network(7.0 * medium)[0], pressure / 7.0, rtol=1e-4, atol=1e-7)


def test_unrolled_steps_are_conjugate_gradients(network, medium, tiny):
    """Three unrolled steps equal three steps of the reference implementation."""
    from models.numerics.conjugate_gradients import conjugate_gradient_steps
    from models.numerics.finite_volume import assemble
    from models.numerics.sine_transform import solve_five_point_nodes

    matrix = assemble(medium[0].double().numpy(), "geometric")
    load = np.full((tiny.points - 2,) * 2, 1.0 / (tiny.points - 1) ** 2)
    steps = conjugate_gradient_steps(matrix.apply, solve_five_point_nodes, load, np.zeros_like(load))
    for _ in range(tiny.settings["steps"]):
        values = next(steps).values
    solved = network.solver(medium[:1])[0, 1:-1, 1:-1].numpy()
    assert np.linalg.norm(solved - values) <= 1e-5 * np.linalg.norm(values)


def test_unrolled_steps_survive_a_medium_they_solve_at_once(network, tiny):
    constant = torch.full((1, tiny.points, tiny.points), 5.0)
    point = constant.clone().requires_grad_()
    value = network(point)[0].sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(point.grad).all()


def test_orthogonalised_updates_have_singular_values_near_one():
    torch.manual_seed(1)
    for shape in ((3, 8, 8), (5, 4, 9), (2, 9, 4)):
        values = torch.linalg.svdvals(muon.orthogonalise(torch.randn(shape)))
        assert values.min() > 0.3  # five quintic steps bring random matrices into about [0.6, 1.2]
        assert values.max() < 1.4


def test_muon_descends_a_quadratic():
    torch.manual_seed(2)
    target, parameter = torch.randn(2, 6, 6), torch.nn.Parameter(torch.zeros(2, 6, 6))
    optimiser = muon.Muon([parameter], lr=0.05)
    first = float((parameter.detach() - target).square().sum())
    for _ in range(200):
        optimiser.zero_grad()
        (parameter - target).square().sum().backward()
        optimiser.step()
    assert float((parameter.detach() - target).square().sum()) < 0.1 * first


def test_losses_of_a_scaled_field():
    truth = torch.randn(3, 2, 9, 9)
    torch.testing.assert_close(losses.relative_l2(1.1 * truth, truth), torch.full((3, 2), 0.1))
    torch.testing.assert_close(losses.relative_gradient(1.1 * truth, truth), torch.full((3, 2), 0.1))


def test_laplace_score_is_least_at_the_mean_absolute_error():
    torch.manual_seed(3)
    prediction, unit = torch.zeros(200, 1, 9, 9), torch.ones(9, 9)
    truth = 0.7 * torch.distributions.Laplace(0.0, 1.0).sample((200, 1, 9, 9))
    scores = {
        s: float(losses.laplace_score(prediction, torch.full_like(truth, s), truth, unit).mean())
        for s in (0.5, 0.7, 1.0)
    }
    assert min(scores, key=scores.get) == 0.7


def test_the_eight_symmetries_are_different_and_keep_the_equation(medium):
    from models.catalog.darcy import reference

    images = [fit.transform(medium, e) for e in range(8)]
    assert len({image.numpy().tobytes() for image in images}) == 8
    pressure = torch.from_numpy(reference.solve(medium[0].double().numpy()))
    for element in range(8):
        turned = fit.transform(medium[0].double(), element).numpy()
        expected = fit.transform(pressure, element).numpy()
        np.testing.assert_allclose(reference.solve(turned), expected, atol=1e-9)


def test_every_shipped_figure_has_its_seeds_in_the_manifest():
    for folder in SHIPPED.glob("*/*"):
        seeds = json.loads((folder / "manifest.json").read_text())["provenance"].get("seeds", {})
        values = [seed for name, seed in seeds.items() if name != "weights"]
        assert len(values) == len(set(values)) >= 6
