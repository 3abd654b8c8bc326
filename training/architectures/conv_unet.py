"""A ConvNeXt U-Net for water depth: terrain, roughness, rain, standing water → maximum depth and depth at stated times.

    √(h + ε²) − ε = ReLU(network),   maximum depth ≥ every depth,   so that h ≥ 0 by construction

Blocks are ConvNeXt's (arXiv 2201.03545): depthwise 7×7, normalisation, two pointwise layers with GELU, skip. Cells are
gathered 2×2 into channels before the first level, which quarters the work, and again between levels; the graph is
convolutions and matrix products alone and serves any grid of a multiple of eight cells. Where water collects is decided
far away, which convolutions see badly: standing depth and runoff come with the inputs (`models.catalog.flood.features`).
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training import losses
from training.architectures.fourier import PointwiseLinear
from training.architectures.network import Fields, Network, Prepared
from training.architectures.symmetry import turn_square

ROOT_SHIFT = 0.01  # ε of the square-root depth, in √m
SMALLEST = 1e-3
INPUTS = ("elevation", "roughness", "rain", "standing_depth", "runoff")


@dataclass(frozen=True)
class ConvUNetSettings:
    """Sizes: channels of the three levels; blocks of the upper two on the way down and up, and of the lowest."""

    members: int
    channels_1: int
    channels_2: int
    channels_3: int
    blocks: int
    bottom_blocks: int
    scale_weight: float


class Down(nn.Module):
    """Gather 2×2 cells: a convolution with stride 2. Members may share their input."""

    def __init__(self, members: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        bound = (4 * channels_in) ** -0.5
        self.members = members
        self.kernel = nn.Parameter(torch.empty(members * channels_out, channels_in, 2, 2).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members * channels_out))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member or 1, channel, y, x) → (batch, member, channel, y/2, x/2)."""
        found = nn.functional.conv2d(field.flatten(1, 2), self.kernel, self.bias, stride=2, groups=field.shape[1])
        return found.unflatten(1, (self.members, -1))


class Up(nn.Module):
    """Spread over 2×2 cells: a transposed convolution with stride 2."""

    def __init__(self, members: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        bound = channels_in**-0.5
        self.kernel = nn.Parameter(torch.empty(members * channels_in, channels_out, 2, 2).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members * channels_out))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, y, x) → (batch, member, channel, 2y, 2x)."""
        members = field.shape[1]
        found = nn.functional.conv_transpose2d(field.flatten(1, 2), self.kernel, self.bias, stride=2, groups=members)
        return found.unflatten(1, (members, -1))


class Depthwise(nn.Module):
    """A 7×7 convolution of every channel by itself."""

    def __init__(self, members: int, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(members * channels, 1, 7, 7) / 7.0)
        self.bias = nn.Parameter(torch.zeros(members * channels))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, y, x) → the same shape."""
        flat = field.flatten(1, 2)
        return nn.functional.conv2d(flat, self.kernel, self.bias, padding=3, groups=flat.shape[1]).reshape(field.shape)


class Block(nn.Module):
    """ConvNeXt block; normalised over channels and grid of each sample."""

    def __init__(self, members: int, channels: int) -> None:
        super().__init__()
        self.depthwise = Depthwise(members, channels)
        self.gain = nn.Parameter(torch.ones(members, channels, 1, 1))
        self.widen = PointwiseLinear(members, channels, 2 * channels)
        self.narrow = PointwiseLinear(members, 2 * channels, channels)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, y, x) → the same shape."""
        mixed = self.depthwise(field)
        centred = mixed - mixed.mean((2, 3, 4), keepdim=True)
        deviation = torch.sqrt(centred.square().mean((2, 3, 4), keepdim=True) + 1e-5)
        inner = self.widen(centred / deviation * self.gain)
        return field + self.narrow(nn.functional.gelu(inner))


class Level(nn.Module):
    """Several blocks on one grid."""

    def __init__(self, members: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(members, channels) for _ in range(blocks))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, y, x) → the same shape."""
        for block in self.blocks:
            field = block(field)
        return field


class ConvUNet(Network):
    """elevation, roughness (batch, y, x), rain (batch, 6) mm/h, standing depth, runoff → maximum depth, depths, scales.

    Scales are those of √(h + ε²) − ε, in √m.
    """

    OUTPUTS = 4
    FEATURES = 8

    def __init__(self, settings: ConvUNetSettings) -> None:
        super().__init__()
        self.settings = s = settings
        m, (c1, c2, c3) = s.members, (s.channels_1, s.channels_2, s.channels_3)
        self.lift, self.storm = Down(m, self.FEATURES, c1), PointwiseLinear(m, 8, c1)
        self.down_1, self.down_2 = Down(m, c1, c2), Down(m, c2, c3)
        self.up_2, self.up_1 = Up(m, c3, c2), Up(m, c2, c1)
        counts = (s.blocks, s.blocks, s.bottom_blocks)
        self.enter = nn.ModuleList(Level(m, c, n) for c, n in zip((c1, c2, c3), counts, strict=True))
        self.join_2, self.join_1 = PointwiseLinear(m, 2 * c2, c2), PointwiseLinear(m, 2 * c1, c1)
        self.leave = nn.ModuleList(Level(m, c, s.blocks) for c in (c2, c1))
        self.detail, self.hidden = Down(m, self.FEATURES, 2 * c1), PointwiseLinear(m, c1, 2 * c1)
        self.project = Up(m, 2 * c1, 2 * self.OUTPUTS)
        for name, reach in (("near", 1), ("far", 4)):
            width = 2 * reach + 1
            self.register_buffer(name, torch.full((1, 1, width, width), 1.0 / width**2), persistent=False)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        return cls(ConvUNetSettings(**recipe.settings, members=recipe.members))

    def features(
        self, elevation: Tensor, roughness: Tensor, rain: Tensor, standing: Tensor, runoff: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Local features (batch, 8, y, x) and numbers of the storm (batch, 8)."""
        level = (elevation - elevation.mean((1, 2), keepdim=True))[:, None]
        local = []
        for kernel, unit in ((self.near, 0.2), (self.far, 1.5)):
            reach = kernel.shape[-1] // 2
            weight = nn.functional.conv2d(torch.ones_like(level), kernel, padding=reach)
            local.append((level - nn.functional.conv2d(level, kernel, padding=reach) / weight) / unit)
        wide = torch.cat([level[:, :, :1], level, level[:, :, -1:]], 2)
        along_y = (wide[:, :, 2:] - wide[:, :, :-2]) / 2.0
        wide = torch.cat([level[..., :1], level, level[..., -1:]], 3)
        along_x = (wide[..., 2:] - wide[..., :-2]) / 2.0
        rough = (torch.log(roughness) + 2.8)[:, None]
        water = torch.stack([3.0 * self._root(standing), torch.log(runoff + 1e-3) / 3.0], 1)
        fields = torch.cat([level / 5.0, *local, along_y, along_x, rough, water], 1)
        total = rain.mean(1, keepdim=True)
        storm = torch.cat([rain / 30.0 - 1.0, total / 30.0 - 1.0, torch.log(total + 1.0) - 3.3], 1)
        return fields, storm

    def heads(self, fields: Tensor, storm: Tensor) -> Tensor:
        """(batch, member or 1, feature, y, x), (batch, member or 1, 8) → (batch, member, 8, y, x)."""
        first = self.enter[0](self.lift(fields) + self.storm(storm[..., None])[..., None])
        second = self.enter[1](self.down_1(first))
        third = self.enter[2](self.down_2(second))
        back = self.leave[0](self.join_2(torch.cat([self.up_2(third), second], 2)))
        back = self.leave[1](self.join_1(torch.cat([self.up_1(back), first], 2)))
        return self.project(nn.functional.gelu(self.hidden(back) + self.detail(fields)))

    def _roots(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """√(h+ε²) − ε before and its scale, four of each: the maximum, then the depths."""
        root = nn.functional.relu(heads[:, :, : self.OUTPUTS])
        largest = root.amax(2, keepdim=True)
        return torch.cat([largest, root[:, :, 1:]], 2), torch.exp(heads[:, :, self.OUTPUTS :] - 3.0) + SMALLEST

    @staticmethod
    def _root(depth: Tensor) -> Tensor:
        return torch.sqrt(depth + ROOT_SHIFT**2) - ROOT_SHIFT

    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """Raw inputs and square-root depths."""
        truth = torch.cat([outputs["maximum_depth"][:, None], outputs["depth"]], 1)
        return *(inputs[name] for name in INPUTS), self._root(truth)

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:
        """One of the eight symmetries of the square for each member."""
        elements = torch.randint(8, (len(batch[0]),), generator=generator)
        return tuple(turn_square(t, elements) if t.dim() > 3 else t for t in batch)

    def loss(self, *batch: Tensor) -> Tensor:
        """Mean absolute and root mean square error of the square-root depth, and the score of the scale."""
        *inputs, truth = batch
        parts = [self.features(*sample) for sample in zip(*inputs, strict=True)]
        fields, storm = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        heads = self.heads(fields, storm).float()
        raw, truth = heads[:, :, : self.OUTPUTS], truth.transpose(0, 1)
        # a dry cell may be predicted as dry as one likes, a wet one has a gradient even when called dry
        error = torch.where(truth > 0, raw - truth, nn.functional.relu(raw))
        _, scale = self._roots(heads)
        score = losses.laplace_score(nn.functional.relu(raw), scale, truth)
        fit = error.abs().mean((2, 3, 4)) + error.square().mean((2, 3, 4)).sqrt()
        return fit.mean(0) + self.settings.scale_weight * score.mean((0, 2, 3, 4))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Root mean square errors of the maximum depth, in metres."""
        *inputs, root = prepared
        truth = (root[:, 0] + ROOT_SHIFT).square() - ROOT_SHIFT**2
        depth = self(*inputs)[0]
        members = (depth - truth[:, None]).square().mean((2, 3)).sqrt().mean(1)
        return members, (depth.mean(1) - truth).square().mean((1, 2)).sqrt()

    def forward(
        self, elevation: Tensor, roughness: Tensor, rain: Tensor, standing: Tensor, runoff: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maximum depth, its scale, depths, their scales."""
        fields, storm = self.features(elevation, roughness, rain, standing, runoff)
        root, scale = self._roots(self.heads(fields[:, None], storm[:, None]))
        depth = (root + ROOT_SHIFT).square() - ROOT_SHIFT**2
        return depth[:, :, 0], scale[:, :, 0], depth[:, :, 1:], scale[:, :, 1:]
