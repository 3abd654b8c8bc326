"""Layers of the Fourier neural operator, with a member axis so that an ensemble is one network.

Fields are (batch, member, channel, x, y), or (batch, member, channel, x) on a periodic line. A spectral layer is the truncated real DFT written as matrix products
(arXiv 2010.08895, §4): no complex tensors and no DFT operator, which has no CUDA kernel in ONNX Runtime.
"""

import math

import torch
from torch import Tensor, nn


def _angles(points: int, period: int, wavenumbers: Tensor) -> Tensor:
    nodes = torch.arange(points, dtype=torch.float64)
    return 2.0 * math.pi * nodes[:, None] * wavenumbers[None, :] / period


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


class SpectralConvolution(nn.Module):
    """Multiply the lowest Fourier modes by a complex matrix per mode, kₓ ∈ [−m, m), k_y ∈ [0, m).

    The field is regarded as zero-padded to `period` points, which costs nothing in matrix form.
    """

    def __init__(self, members: int, channels: int, modes: int, points: int, period: int) -> None:
        super().__init__()
        if 2 * modes > period:
            raise ValueError(f"Expected at most {period // 2} modes, got {modes}. Lower `modes`.")
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(members, 2 * modes * modes, 2, channels, channels) / channels)
        half = torch.arange(modes, dtype=torch.float64)
        full = torch.cat([half, half - modes])
        y, x = _angles(points, period, half), _angles(points, period, full)
        twice = torch.where(half > 0, 2.0, 1.0)
        forward_y = torch.cat([y.cos(), -y.sin()], 1) / math.sqrt(period)
        forward_x = torch.cat([x.cos(), x.sin()], 1).T / math.sqrt(period)
        inverse_x = torch.cat([x.cos(), x.sin()], 1) / math.sqrt(period)
        inverse_y = torch.cat([y.cos() * twice, -y.sin() * twice], 1).T / math.sqrt(period)
        for name, matrix in (
            ("forward_y", forward_y), ("forward_x", forward_x),
            ("inverse_x", inverse_x), ("inverse_y", inverse_y),
        ):  # fmt: skip
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, x, y) → the same shape."""
        modes, shape = self.modes, field.shape
        # over y: [a | b] = field·[cos | −sin]; over x: blocks cos·a, cos·b, sin·a, sin·b
        blocks = torch.matmul(self.forward_x, torch.matmul(field, self.forward_y))
        real = blocks[..., : 2 * modes, :modes] + blocks[..., 2 * modes :, modes:]
        imaginary = blocks[..., : 2 * modes, modes:] - blocks[..., 2 * modes :, :modes]
        spectrum = torch.cat([real, imaginary], 2).flatten(-2).permute(1, 3, 0, 2)
        top = torch.cat([self.weight[:, :, 0], self.weight[:, :, 1]], 3)
        bottom = torch.cat([-self.weight[:, :, 1], self.weight[:, :, 0]], 3)
        mixed = torch.matmul(spectrum, torch.cat([top, bottom], 2)).permute(2, 0, 3, 1)
        mixed = mixed.reshape(shape[0], -1, 2 * shape[2], 2 * modes, modes)
        real, imaginary = mixed[:, :, : shape[2]], mixed[:, :, shape[2] :]
        wave = torch.matmul(self.inverse_x, torch.cat([
            torch.cat([real, imaginary], 4), torch.cat([-imaginary, real], 4)], 3))  # fmt: skip
        return torch.matmul(wave, self.inverse_y)


class PeriodicConvolution(nn.Module):
    """Multiply Fourier modes 0 … m − 1 of a periodic line by a complex matrix per mode."""

    def __init__(self, members: int, channels: int, modes: int, points: int) -> None:
        super().__init__()
        if 2 * modes > points:
            raise ValueError(f"Expected at most {points // 2} modes, got {modes}. Lower `modes`.")
        self.weight = nn.Parameter(torch.randn(members, modes, 2, channels, channels) / channels)
        wavenumbers = torch.arange(modes, dtype=torch.float64)
        x = _angles(points, points, wavenumbers)
        twice = torch.where(wavenumbers > 0, 2.0, 1.0)
        forward = torch.cat([x.cos(), -x.sin()], 1) / math.sqrt(points)
        inverse = torch.cat([x.cos() * twice, -x.sin() * twice], 1).T / math.sqrt(points)
        self.register_buffer("forward_x", forward.float().contiguous(), persistent=False)
        self.register_buffer("inverse_x", inverse.float().contiguous(), persistent=False)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, x) → the same shape."""
        batch, members, channels = field.shape[:3]
        spectrum = torch.matmul(field, self.forward_x).reshape(batch, members, channels, 2, -1)
        spectrum = spectrum.permute(1, 4, 0, 3, 2).reshape(members, -1, batch, 2 * channels)
        top = torch.cat([self.weight[:, :, 0], self.weight[:, :, 1]], 3)
        bottom = torch.cat([-self.weight[:, :, 1], self.weight[:, :, 0]], 3)
        mixed = torch.matmul(spectrum, torch.cat([top, bottom], 2))
        mixed = mixed.reshape(members, -1, batch, 2, channels).permute(2, 0, 4, 3, 1).flatten(3)
        return torch.matmul(mixed, self.inverse_x)


class FourierBlock(nn.Module):
    """x ↦ GELU(K x + W x), K a spectral convolution."""

    def __init__(self, spectral: nn.Module, members: int, channels: int) -> None:
        super().__init__()
        self.spectral = spectral
        self.pointwise = PointwiseLinear(members, channels, channels)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, *grid) → the same shape."""
        return torch.nn.functional.gelu(self.spectral(field) + self.pointwise(field))
