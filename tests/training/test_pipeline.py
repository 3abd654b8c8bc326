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
from training import dataset, fit, losses, muon
from training.architectures.fourier import FourierBlock, Lift, PeriodicConvolution, PointwiseLinear, SpectralConvolution
from training.architectures.preconditioned_fno import PreconditionedFNO
from training.architectures.symmetry import turn_square

ROOT = Path(__file__).resolve().parents[2]
PARITY = 1e-5  # float32; measured 1e-7 to 1e-6
ROUNDING = 5e-7  # float32 sums of a layer in another order; measured 1e-7 to 2e-7


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


@pytest.mark.slow
def test_the_pipeline_writes_a_bundle_that_serves(tiny_builds, model_name):
    model = catalog.load(model_name)
    run = tiny_builds(model_name)
    surrogate = load_surrogate(run / "zoo" / model_name / "1", RuntimeOptions())
    assert surrogate.physics is model
    inputs, _ = dataset.load(run / "data", "test")
    if surrogate.lead_times is not None and surrogate.lead_times.input is not None:
        inputs[surrogate.lead_times.input] = np.full(len(next(iter(inputs.values()))), surrogate.lead_times.stop)
    answer = surrogate.predict({k: v[:1] for k, v in inputs.items()})
    kinds = {statement.kind for statement in answer.statements[0]}
    assert kinds & {"statistical", "none"}
    assert {one.kind for one in model.bounds} <= kinds
    log = [json.loads(line) for line in (run / "fit.jsonl").read_text().splitlines()]
    assert log[-1]["epoch"] == model.recipes["tiny"].epochs
    assert log[-1]["loss"] < log[0]["loss"]
    assert (run / "zoo" / model_name / "1" / "CARD.md").read_text().startswith(f"# {model.title}")


@pytest.mark.slow
def test_report_records_parity_and_derivative_checks(tiny_builds, model_name):
    checks = json.loads((tiny_builds(model_name) / "report.json").read_text())["derivatives"]
    for name in ("forward_parity", "vjp_parity", "jvp_parity", "adjoint_identity", "forward_equal_in_vjp"):
        assert checks[name] <= PARITY, name
    assert checks["finite_difference"] <= 1e-4  # float32 graph against float64 differences


@pytest.mark.slow
def test_the_logged_validation_error_is_that_of_the_checkpoint(tiny_builds, model_name):
    """Constants taken from the training samples are in place before the validation samples are prepared."""
    model, folder = catalog.load(model_name), tiny_builds(model_name)
    run = fit.Run(model, model.recipes["tiny"], fit.Place(torch.device("cpu"), 0, 1))
    run.restore(folder / fit.CHECKPOINT)
    found = fit.evaluate(run, run.prepare(*dataset.load(folder / "data", "validation")))
    log = [json.loads(line) for line in (folder / "fit.jsonl").read_text().splitlines()]
    assert found["ensemble"] == pytest.approx(log[-1]["ensemble"], rel=1e-5)


@pytest.fixture
def started(tiny_runs, tmp_path) -> Path:
    """A run with samples and nothing else."""
    folder = tmp_path / "darcy" / "tiny"
    shutil.copytree(tiny_runs / "data", folder / "data")
    return folder


def losses_of(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "fit.jsonl").read_text().splitlines()]


def test_an_interrupted_run_resumes_on_the_same_loss_curve(tiny_runs, started):
    """Killed in its third epoch, started again: the same losses and weights as in one go."""
    command = [sys.executable, "-m", "training", "fit", "darcy", "--preset", "tiny", "--runs", str(started.parents[1])]
    code = (
        "import os, sys\nfrom training import fit\nfrom training.command_line import main\n"
        "step, seen = fit._step, []\n"
        "def counted(*a):\n    seen.append(1)\n    return os._exit(9) if len(seen) == 14 else step(*a)\n"
        "fit._step = counted\nmain(sys.argv[1:])\n"
    )
    died = subprocess.run([sys.executable, "-c", code, *command[3:]], cwd=ROOT, capture_output=True, timeout=100)
    assert died.returncode == 9
    assert len(losses_of(started)) == 2
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-1500:]
    np.testing.assert_allclose(losses_of(started), losses_of(tiny_runs), rtol=1e-6)
    resumed, straight = (torch.load(f / "checkpoint.pt", weights_only=True)["network"] for f in (started, tiny_runs))
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-5, atol=1e-7)


def test_two_processes_follow_the_loss_curve_of_one(tiny_runs, started):
    """The same global batches, half of each on either process: equal but for the order of sums, in single precision."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611",
        "-m", "training", "fit", "darcy", "--preset", "tiny", "--runs", str(started.parents[1]),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-1500:]
    assert len(losses_of(started)) == 4  # one process writes
    np.testing.assert_allclose(losses_of(started), losses_of(tiny_runs), rtol=2e-3)  # bfloat16 steps amplify rounding


@pytest.mark.parametrize(("points", "period"), [(12, 12), (11, 16)])
def test_spectral_layer_equals_the_fast_transform(points, period):
    """The truncated DFT products against rfft2 and irfft2 of the padded field with the same complex weights."""
    torch.manual_seed(0)
    members, channels, modes = 2, 3, 4
    layer = SpectralConvolution(members, channels, modes, points, period)
    field, offset = torch.randn(5, members, channels, points, points), torch.randn(members, 1, channels)
    weight = torch.complex(layer.weight[:, :, 0], layer.weight[:, :, 1])
    weight = weight.reshape(members, 2 * modes, modes, channels, channels)
    spectrum = torch.fft.rfft2(field, s=(period, period), norm="ortho")
    kept = torch.zeros_like(spectrum)
    rows = torch.cat([torch.arange(modes), torch.arange(-modes, 0)])
    mixed = torch.einsum("bmixy,mxyio->bmoxy", spectrum[:, :, :, rows][..., :modes], weight)
    kept[:, :, :, rows[:, None], torch.arange(modes)[None, :]] = mixed
    expected = torch.fft.irfft2(kept, s=(period, period), norm="ortho")[..., :points, :points]
    # irfft2 drops the imaginary part of the k_y = 0 column's non-symmetric rows; so does taking the real part here
    found = layer(field.permute(0, 1, 4, 3, 2), offset).permute(0, 1, 4, 3, 2)
    assert distance(found, expected + offset.mT[..., None]) <= ROUNDING


def test_periodic_layer_equals_the_fast_transform():
    torch.manual_seed(0)
    members, channels, modes, points = 2, 3, 5, 16
    layer = PeriodicConvolution(members, channels, modes, points)
    field = torch.randn(4, members, channels, points)
    weight = torch.complex(layer.weight[:, :, 0], layer.weight[:, :, 1])
    spectrum = torch.fft.rfft(field)
    kept = torch.zeros_like(spectrum)
    kept[..., :modes] = torch.einsum("bmix,mxio->bmox", spectrum[..., :modes], weight)
    assert distance(layer(field), torch.fft.irfft(kept, n=points)) <= ROUNDING


@pytest.mark.parametrize("members", [1, 2])
def test_a_block_adds_both_convolutions_and_the_bias(members):
    """One member takes a way of its own, by one operator; both are the formula."""
    torch.manual_seed(1)
    block = FourierBlock(members, 3, 4, 9, 12)
    torch.nn.init.normal_(block.pointwise.bias)
    field = torch.randn(5, members, 9, 9, 3)
    far = block.spectral(field, torch.zeros(members, 1, 3))
    near = block.pointwise(field.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
    assert distance(block(field), torch.nn.functional.gelu(far + near)) <= ROUNDING


def test_a_lift_is_a_pointwise_layer_whose_bias_weighs_a_feature_of_ones():
    torch.manual_seed(2)
    lift, layer = Lift(2, 3, 5), PointwiseLinear(2, 3, 5)
    torch.nn.init.normal_(lift.bias)
    layer.load_state_dict(lift.state_dict())
    features = torch.randn(4, 1, 3, 6, 7)
    found = lift(torch.cat([features, torch.ones_like(features[:, :, :1])], 2))
    assert distance(found, layer(features).permute(0, 1, 3, 4, 2)) <= ROUNDING


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


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
    torch.testing.assert_close(losses.relative_l2(1.1 * truth, truth, 2), torch.full((3, 2), 0.1))
    torch.testing.assert_close(losses.relative_gradient(1.1 * truth, truth, 2), torch.full((3, 2), 0.1))


def test_laplace_score_is_least_at_the_mean_absolute_error():
    torch.manual_seed(3)
    prediction = torch.zeros(200, 1, 9, 9)
    truth = 0.7 * torch.distributions.Laplace(0.0, 1.0).sample((200, 1, 9, 9))
    scores = {
        s: float(losses.laplace_score(prediction, torch.full_like(truth, s), truth).mean()) for s in (0.5, 0.7, 1.0)
    }
    assert min(scores, key=scores.get) == 0.7


def test_the_eight_symmetries_are_different_and_keep_the_equation(medium):
    from models.catalog.darcy import reference

    def turn(values: torch.Tensor, element: int) -> torch.Tensor:
        return turn_square(values[None], torch.tensor([element]))[0]

    images = [turn(medium, e) for e in range(8)]
    assert len({image.numpy().tobytes() for image in images}) == 8
    pressure = torch.from_numpy(reference.solve(medium[0].double().numpy()))
    for element in range(8):
        turned = turn(medium[0].double(), element).numpy()
        expected = turn(pressure, element).numpy()
        np.testing.assert_allclose(reference.solve(turned), expected, atol=1e-9)


def test_every_shipped_figure_has_its_seeds_in_the_manifest():
    for folder in SHIPPED.glob("*/*"):
        seeds = json.loads((folder / "manifest.json").read_text())["provenance"].get("seeds", {})
        values = [seed for name, seed in seeds.items() if name != "weights"]
        assert len(values) == len(set(values)) >= 6
