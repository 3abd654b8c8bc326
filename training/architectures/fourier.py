"""Layers of the Fourier neural operator, with a member axis so that an ensemble is one network.

A spectral layer is the truncated real DFT written as matrix products (arXiv 2010.08895, §4): no complex tensors and no
DFT operator, which has no CUDA kernel in ONNX Runtime. In the plane, fields are (batch, member, y, x, channel): with
channels last every step is one product of whole blocks of memory, real and imaginary parts lie beside each other, and
complex arithmetic is inside the matrices. On a line they are (batch, member, channel, x), whose rows are long already.
"""

import math

import torch
from torch import Tensor, nn


def _waves(points: int, period: int, wavenumbers: Tensor) -> Tensor:
    """cos and sin of 2π j k / period: (2, wavenumber, node)."""
    nodes = torch.arange(points, dtype=torch.float64)
    angles = 2.0 * math.pi * wavenumbers[:, None] * nodes[None, :] / period
    return torch.stack([angles.cos(), angles.sin()]) / math.sqrt(period)


def _real_forward(waves: Tensor) -> Tensor:
    """Real field → (wavenumber, part) of its modes: ((wavenumber, part), node)."""
    cosine, sine = waves
    return torch.stack([cosine, -sine], 1).flatten(0, 1)


def _twice(waves: Tensor) -> Tensor:
    """Modes above 0 count twice when the field is real: negative wavenumbers are their conjugates."""
    return torch.cat([waves[:, :1], 2.0 * waves[:, 1:]], 1)


def _complex_forward(waves: Tensor) -> Tensor:
    """Complex field → modes: ((wavenumber, part), (part, node))."""
    cosine, sine = waves
    rows = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    return rows.flatten(2).flatten(0, 1)


def _mixing(weight: Tensor) -> Tensor:
    """(member, mode, 2, channel, channel) → the real matrix on (part, channel): (member, mode, 2·channel, 2·channel)."""
    real, imaginary = weight[:, :, 0], weight[:, :, 1]
    return torch.cat([torch.cat([real, imaginary], 3), torch.cat([-imaginary, real], 3)], 2)


def _mix(modes: Tensor, weight: Tensor) -> Tensor:
    """Every mode by its own matrix: (batch, member, mode, 2·channel) → the same shape."""
    return torch.matmul(modes.permute(1, 2, 0, 3), _mixing(weight)).permute(2, 0, 1, 3)


class PointwiseLinear(nn.Module):
    """x ↦ W x + b on the channel axis, one W per member."""

    def __init__(self, members: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(channels_in)
        self.weight = nn.Parameter(torch.empty(members, channels_out, channels_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, channels_out, 1))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member or 1, channel, *grid) → (batch, member, channel, *grid)."""
        result = torch.matmul(self.weight, field.flatten(3))
        result = result + self.bias.to(result.dtype)  # autocast gives bfloat16; stay there
        return result.reshape(*result.shape[:3], *field.shape[3:])


class Lift(PointwiseLinear):
    """x ↦ W x + b from channels first to channels last; b is the weight of a last feature that the caller sets to one."""

    def forward(self, features: Tensor) -> Tensor:
        """(batch, member or 1, channel + 1, *grid) → (batch, member, *grid, channel)."""
        weight = torch.cat([self.weight, self.bias], 2)
        return torch.matmul(features.flatten(3).mT, weight.mT).unflatten(2, features.shape[3:])


class SpectralConvolution(nn.Module):
    """Multiply the lowest Fourier modes by a complex matrix per mode, kₓ ∈ [−m, m), k_y ∈ [0, m).

    The field is regarded as zero-padded to `period` points, which costs nothing in matrix form.
    """

    def __init__(self, members: int, channels: int, modes: int, points: int, period: int) -> None:
        super().__init__()
        if 2 * modes > period:
            raise ValueError(f"Expected at most {period // 2} modes, got {modes}. Lower `modes`.")
        self.modes, self.constant = modes, float(period)
        self.weight = nn.Parameter(torch.randn(members, 2 * modes * modes, 2, channels, channels) / channels)
        half = torch.arange(modes, dtype=torch.float64)
        y, x = _waves(points, period, half), _waves(points, period, torch.cat([half, half - modes]))
        for name, matrix in (
            ("forward_y", _real_forward(y)), ("forward_x", _complex_forward(x)),
            ("inverse_x", _complex_forward(x).T), ("inverse_y", _real_forward(_twice(y)).T),
        ):  # fmt: skip
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, field: Tensor, offset: Tensor) -> Tensor:
        """(batch, member, y, x, channel) and a constant (member, 1, channel) added to the result → the same shape.

        The constant is added to mode 0, of which there are far fewer numbers than of the field.
        """
        batch, members, channels = *field.shape[:2], field.shape[-1]
        partial = torch.matmul(self.forward_y, field.flatten(3)).reshape(batch, members, self.modes, -1, channels)
        spectrum = torch.matmul(self.forward_x, partial)
        weight = self.weight.unflatten(1, (-1, self.modes)).transpose(1, 2).flatten(1, 2)  # by k_y, then kₓ
        mixed = _mix(spectrum.reshape(batch, members, -1, 2 * channels), weight).reshape(spectrum.shape)
        zero = nn.functional.pad(self.constant * offset[:, None], (0, 0, 0, 4 * self.modes - 1, 0, self.modes - 1))
        wave = torch.matmul(self.inverse_x, mixed + zero.to(mixed.dtype))  # autocast gives bfloat16; stay there
        return torch.matmul(self.inverse_y, wave.reshape(batch, members, 2 * self.modes, -1)).reshape(field.shape)


class FourierBlock(nn.Module):
    """x ↦ GELU(K x + W x + b), K a spectral convolution."""

    def __init__(self, members: int, channels: int, modes: int, points: int, period: int) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(members, channels, modes, points, period)
        self.pointwise = PointwiseLinear(members, channels, channels)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, y, x, channel) → the same shape."""
        far = self.spectral(field, self.pointwise.bias.mT)
        return nn.functional.gelu(_matmul_add(field, self.pointwise.weight.mT, far))


def _matmul_add(field: Tensor, weight: Tensor, added: Tensor) -> Tensor:
    """field·weight + added; of a single member in one operator, which passes over memory once less."""
    if len(weight) == 1:
        rows = torch.addmm(added.flatten(0, -2), field.flatten(0, -2), weight[0])
    else:
        rows = torch.matmul(field.flatten(2, -2), weight) + added.flatten(2, -2)
    return rows.reshape(field.shape)


class PeriodicConvolution(nn.Module):
    """Multiply Fourier modes 0 … m − 1 of a periodic line by a complex matrix per mode; channels before the line."""

    def __init__(self, members: int, channels: int, modes: int, points: int) -> None:
        super().__init__()
        if 2 * modes > points:
            raise ValueError(f"Expected at most {points // 2} modes, got {modes}. Lower `modes`.")
        self.weight = nn.Parameter(torch.randn(members, modes, 2, channels, channels) / channels)
        waves = _waves(points, points, torch.arange(modes, dtype=torch.float64))
        (cosine, sine), (inverse_cosine, inverse_sine) = waves, _twice(waves)
        forward, inverse = torch.cat([cosine, -sine]).T, torch.cat([inverse_cosine, -inverse_sine])
        self.register_buffer("forward_x", forward.float().contiguous(), persistent=False)
        self.register_buffer("inverse_x", inverse.float().contiguous(), persistent=False)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, x) → the same shape."""
        batch, members, channels = field.shape[:3]
        spectrum = torch.matmul(field, self.forward_x).reshape(batch, members, channels, 2, -1)
        spectrum = spectrum.permute(1, 4, 0, 3, 2).reshape(members, -1, batch, 2 * channels)
        mixed = torch.matmul(spectrum, _mixing(self.weight))
        mixed = mixed.reshape(members, -1, batch, 2, channels).permute(2, 0, 4, 3, 1).flatten(3)
        return torch.matmul(mixed, self.inverse_x)


class PeriodicBlock(nn.Module):
    """x ↦ GELU(K x + W x + b) on a periodic line."""

    def __init__(self, members: int, channels: int, modes: int, points: int) -> None:
        super().__init__()
        self.spectral = PeriodicConvolution(members, channels, modes, points)
        self.pointwise = PointwiseLinear(members, channels, channels)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, x) → the same shape."""
        return nn.functional.gelu(self.spectral(field) + self.pointwise(field))
