"""What every architecture promises by construction, whatever its weights."""

import math

import numpy as np
import pytest
import torch

from training.architectures.conv_unet import ConvUNet, ConvUNetSettings
from training.architectures.fno_1d import FNO1d, FNO1dSettings
from training.architectures.forecast_mlp import (
    HARMONICS,
    LEADS,
    OUTPUTS,
    ForecastMLP,
    ForecastMLPSettings,
    gaussian_crps,
    harmonics,
)
from training.architectures.modal_fno import ModalFNO, SineDecay

POINTS = 64


@pytest.fixture
def line() -> FNO1d:
    torch.manual_seed(0)
    settings = FNO1dSettings(
        points=POINTS, members=3, channels=8, modes=6, layers=2, characteristic_modes=8, amplitude=0.2, error=1e-3,
        gradient_weight=0.3, scale_weight=1e-3,
    )  # fmt: skip
    return FNO1d(settings).eval().requires_grad_(False)


@pytest.fixture
def initial() -> torch.Tensor:
    x = 2 * math.pi * torch.arange(POINTS) / POINTS
    return torch.stack([0.3 * torch.sin(x) + 0.1, 0.2 * torch.cos(2 * x), 0.1 * torch.sin(3 * x) - 0.05])


def test_initial_values_and_mean_are_exact(line, initial):
    viscosity = torch.tensor([1e-3, 1e-2, 1e-1])
    start, scale = line(initial, viscosity, torch.zeros(3))
    torch.testing.assert_close(start, initial[:, None].expand_as(start), rtol=1e-5, atol=1e-6)
    assert float(scale.max()) < 1e-6
    later, _ = line(initial, viscosity, torch.full((3,), 0.7))
    assert float((later - start).abs().max()) > 1e-3
    torch.testing.assert_close(later.mean(-1), initial.mean(-1)[:, None].expand(-1, 3), rtol=1e-4, atol=1e-6)


def test_heat_semigroup_is_exact(line, initial):
    """cos 2πkx decays as exp(−4π²k²νt)."""
    viscosity, time = torch.tensor([1e-3, 1e-2, 1e-1]), torch.tensor([1.0, 0.5, 0.2])
    _, heat = line.features(initial, viscosity, time)
    expected = torch.exp(-4 * math.pi**2 * 4 * viscosity[1] * time[1]) * initial[1]
    torch.testing.assert_close(heat[1], expected, rtol=1e-4, atol=1e-6)


def test_trajectories_are_shifted_and_mirrored_as_the_equation_allows(line, initial):
    """Augmented samples are samples: frames move with their initial values, both change sign together."""
    frames = torch.stack([initial * (1 - 0.1 * k) for k in range(4)], 1)
    batch = tuple(t[None].expand(3, *t.shape) for t in (initial, torch.full((3,), 0.01), frames))
    begun, _, time, truth, _ = line.augment(batch, torch.Generator().manual_seed(1))
    step = torch.round(time * 3)
    torch.testing.assert_close(truth, begun * (1 - 0.1 * step)[..., None], rtol=1e-5, atol=1e-6)
    assert not torch.equal(begun, batch[0])
    torch.testing.assert_close(begun.square().sum(-1), batch[0].square().sum(-1))


@pytest.fixture
def basin() -> ConvUNet:
    torch.manual_seed(0)
    settings = ConvUNetSettings(
        members=2, channels_1=8, channels_2=8, channels_3=8, blocks=1, bottom_blocks=1, scale_weight=0.1
    )
    return ConvUNet(settings).eval().requires_grad_(False)


def test_depths_are_never_negative_and_the_maximum_is_the_largest(basin):
    elevation, roughness = 5 * torch.randn(2, 16, 16), torch.full((2, 16, 16), 0.05)
    water = torch.rand(2, 2, 16, 16)
    highest, _, depths, scale = basin(elevation, roughness, torch.full((2, 6), 20.0), *water)
    assert float(depths.min()) >= 0.0
    assert bool((highest[:, :, None] >= depths - 1e-6).all())
    assert float(scale.min()) > 0.0
    assert depths.shape == (2, 2, 3, 16, 16)


def test_depth_does_not_depend_on_the_altitude_and_the_network_serves_other_grids(basin):
    elevation, roughness, rain = 5 * torch.randn(1, 24, 32), torch.full((1, 24, 32), 0.05), torch.full((1, 6), 20.0)
    water = torch.rand(2, 1, 24, 32)
    low = basin(elevation, roughness, rain, *water)[0]
    torch.testing.assert_close(basin(elevation + 800.0, roughness, rain, *water)[0], low, rtol=1e-2, atol=1e-4)


@pytest.fixture
def forecaster() -> tuple[ForecastMLP, dict, dict]:
    """Temperature follows the climatology and a persistent anomaly; the rest is noise around a mean."""
    torch.manual_seed(0)
    network = ForecastMLP(ForecastMLPSettings(members=2, width=8, dropout=0.0, penalty=1e-6, floor=1e-4))
    count = 3000
    hours = torch.arange(count, dtype=torch.float32) * 7 + 263_000
    past, ahead = torch.arange(-24.0, 1.0), torch.arange(1.0, 25.0)

    def season(time: torch.Tensor) -> torch.Tensor:
        return 10 + 8 * torch.cos(2 * math.pi * time / 8766) + 3 * torch.sin(2 * math.pi * time / 24)

    offset = 2 * torch.randn(count, 1, 4)
    inputs = {
        "wind_speed": 8 + torch.randn(count, 25, 4), "wind_direction": 360 * torch.rand(count, 25, 4),
        "air_temperature": season(hours[:, None] + past)[..., None] + offset,
        "surface_pressure": 1000 + torch.randn(count, 25, 4), "reference_time": hours,
    }  # fmt: skip
    outputs = {
        "wind_speed": 8 + torch.randn(count, 24, 4),
        "surface_pressure": 1000 + torch.randn(count, 24, 4),
        "air_temperature": season(hours[:, None] + ahead)[..., None] + offset,
    }
    network.absorb(inputs, outputs)
    return network.requires_grad_(False).eval(), inputs, outputs


def test_climatology_and_ridge_regression_recover_a_persistent_anomaly(forecaster):
    network, inputs, outputs = forecaster
    _, _, temperature, scale, *_ = network(*(values[:50] for values in inputs.values()))
    error = temperature[:, 0] - outputs["air_temperature"][:50]
    assert float(error.abs().max()) < 0.15  # 3,000 noisy rows for 514 coefficients
    assert float(scale.mean()) < 0.2
    _, _, _, _, pressure, wide = network(*(values[:50] for values in inputs.values()))
    assert float((2 * wide.square()).sqrt().mean()) == pytest.approx(1.0, abs=0.15)
    assert float(pressure.mean()) == pytest.approx(1000.0, abs=0.3)


def test_the_untrained_network_is_the_ridge_regression_and_finish_keeps_the_better_of_them(forecaster):
    network, inputs, outputs = forecaster
    prepared = network.prepare(inputs, outputs)
    mean, _ = network._law(prepared[0], prepared[1])
    torch.testing.assert_close(mean[:, 0], prepared[1])
    network.project.bias[:, : OUTPUTS // 3] += 5.0  # a correction that makes wind speed worse
    network.finish(*prepared)
    chosen = network.corrected.reshape(3, LEADS, 4)
    assert float(chosen[0].sum()) == 0.0
    corrected, _ = network._law(prepared[0], prepared[1])
    torch.testing.assert_close(corrected[:, 0, : OUTPUTS // 3], prepared[1][:, : OUTPUTS // 3])


def test_harmonics_have_their_periods_and_stay_exact_for_late_times():
    hours = torch.tensor([420_000.0, 420_024.0, 428_766.0])
    found = harmonics(hours)
    assert found.shape == (3, HARMONICS)
    torch.testing.assert_close(found[0, 7:11], found[1, 7:11], rtol=0, atol=1e-6)  # a day later
    torch.testing.assert_close(found[0, 1:7], found[2, 1:7], rtol=0, atol=1e-6)  # a year later
    exact = np.cos(2 * np.pi * 420_000.0 / 24)
    assert float(found[0, 7]) == pytest.approx(exact, abs=1e-6)


def test_crps_of_a_gaussian_law_equals_its_integral():
    """∫ (F(z) − 1{y ≤ z})² dz by quadrature."""
    mean, deviation, truth = torch.tensor(0.3), torch.tensor(1.7), torch.tensor(-0.8)
    z = torch.linspace(-20, 20, 400_001)
    distribution = 0.5 * (1 + torch.erf((z - mean) / deviation / math.sqrt(2)))
    integral = torch.trapezoid((distribution - (truth <= z).float()).square(), z)
    assert float(gaussian_crps(mean, deviation, truth)) == pytest.approx(float(integral), abs=1e-3)


def test_sine_modes_decay_exactly_in_a_constant_medium():
    """E^{−2π²(k² + m²)t} for a = 2, less what bilinear interpolation takes from each mode; low modes and high ones."""
    points, frames, end = 17, 5, 0.05
    solver = SineDecay(points, frames, end, 4)
    x = torch.linspace(0.0, math.pi, points, dtype=torch.float64)
    times = torch.arange(1, frames + 1) * end / frames
    for k, m in ((1, 2), (3, 3), (1, 6)):
        mode = torch.outer(torch.sin(k * x), torch.sin(m * x))
        mode[[0, -1]], mode[:, [0, -1]] = 0.0, 0.0
        found = solver(torch.full((1, points, points), 2.0), mode.float()[None])[0]
        kept = float(np.sinc(k / 32) ** 2 * np.sinc(m / 32) ** 2)
        expected = kept * torch.exp(-2 * math.pi**2 * (k**2 + m**2) * times)[:, None, None] * mode
        torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-5)


def test_modes_of_a_layered_medium_decay_as_a_dense_exponential_says(generator):
    """The propagator against scipy's, its stiffness matrix by quadrature: an exact one of a constant on control volumes."""
    from scipy.linalg import expm

    points, count = 9, 3
    solver = SineDecay(points, 2, 0.02, count)
    medium = generator.uniform(0.3, 3.0, (points, points))
    fine = 16 * (points - 1)
    centres = (np.arange(fine) + 0.5) / fine
    owner = np.rint(centres * (points - 1)).astype(int)
    k = np.pi * np.arange(1, count + 1)
    sine, slope = np.sqrt(2) * np.sin(centres[:, None] * k), np.sqrt(2) * k * np.cos(centres[:, None] * k)
    both = [np.einsum("ij,ik,jl,im,jn->klmn", medium[np.ix_(owner, owner)], a, b, a, b, optimize=True)
            for a, b in ((slope, sine), (sine, slope))]  # fmt: skip
    stiffness = sum(both).reshape(count**2, count**2) / fine**2
    found = solver._propagator(torch.from_numpy(medium).float()[None])[0].numpy()
    np.testing.assert_allclose(found, expm(-0.01 * stiffness), atol=2e-3)  # midpoints, sixteen per node


def test_temperature_is_zero_on_the_boundary_and_scales_with_the_initial_one():
    from models import catalog

    torch.manual_seed(0)
    recipe = catalog.load("heat").recipes["tiny"]
    network = ModalFNO.from_recipe(recipe).eval().requires_grad_(False)
    medium = torch.exp(0.5 * torch.randn(2, recipe.points, recipe.points))
    initial = torch.nn.functional.pad(torch.randn(2, recipe.points - 2, recipe.points - 2), (1, 1, 1, 1))
    temperature, scale = network(medium, initial)
    assert temperature.shape == (2, recipe.members, 25, recipe.points, recipe.points)
    for field in (temperature, scale):
        assert torch.count_nonzero(field[..., [0, -1], :]) == torch.count_nonzero(field[..., [0, -1]]) == 0
    torch.testing.assert_close(network(medium, 7.0 * initial)[0], 7.0 * temperature, rtol=1e-4, atol=1e-6)
