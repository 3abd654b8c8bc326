"""A Fourier neural operator on a periodic line, with time and viscosity as inputs, for uₜ + ½(u²)ₓ = ν uₓₓ.

    u(t) = H(νt) u₀ + t·(N − mean N),    N = network(u₀, H u₀, c₁, c₂, log ν, t)

H(νt) is the heat semigroup, applied exactly by a discrete Fourier transform; c₁ = u₀(x − t u₀(x)) and
c₂ = u₀(x − t c₁(x)) follow the characteristics backwards, from the lowest modes of u₀. So the initial condition and the
mean are exact, and what is left to learn vanishes for small amplitudes and large viscosities.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training import losses
from training.architectures.fourier import PeriodicBlock, PointwiseLinear
from training.architectures.network import Fields, Network, Prepared

FRAMES_SCORED = 10  # every tenth frame of the validation trajectories
SMALLEST = 1e-7
LARGEST_EXPONENT = 6.0  # of the scale, either way: a runaway head must not overflow


@dataclass(frozen=True)
class FNO1dSettings:
    """Sizes; `characteristic_modes` modes of u₀ are followed; `amplitude` and `error` are typical of u and of its error."""

    points: int
    members: int
    channels: int
    modes: int
    layers: int
    characteristic_modes: int
    amplitude: float
    error: float
    gradient_weight: float
    scale_weight: float


class FNO1d(Network):
    """(batch, x) initial velocity, (batch,) viscosity, (batch,) time → (batch, member, x) velocity and its scale."""

    def __init__(self, settings: FNO1dSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.lift = PointwiseLinear(s.members, 8, s.channels)
        self.blocks = nn.ModuleList(PeriodicBlock(s.members, s.channels, s.modes, s.points) for _ in range(s.layers))
        self.hidden = PointwiseLinear(s.members, s.channels, 2 * s.channels)
        self.project = PointwiseLinear(s.members, 2 * s.channels, 2)
        nodes = torch.arange(s.points, dtype=torch.float64) / s.points
        waves = 2.0 * math.pi * torch.arange(s.points // 2 + 1, dtype=torch.float64)
        angle = nodes[:, None] * waves[None, :]
        weight = torch.full_like(waves, 2.0 / s.points)
        weight[[0, -1]] = 1.0 / s.points
        for name, values in (
            ("nodes", nodes), ("waves", waves), ("squares", waves.square()), ("cosine", angle.cos()),
            ("sine", angle.sin()), ("weight", weight),
        ):  # fmt: skip
            self.register_buffer(name, values.float(), persistent=False)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        settings = {**recipe.settings, "points": recipe.points, "members": recipe.members}
        return cls(FNO1dSettings(**settings))

    def features(self, initial: Tensor, viscosity: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 8, x) inputs of the network, and the heat solution (batch, x)."""
        even, odd = torch.matmul(initial, self.cosine) * self.weight, torch.matmul(initial, self.sine) * self.weight
        decay = torch.exp(-(viscosity * time)[:, None] * self.squares)
        heat = torch.matmul(even * decay, self.cosine.T) + torch.matmul(odd * decay, self.sine.T)
        modes = self.settings.characteristic_modes
        waves, even, odd = self.waves[:modes], even[:, :modes, None], odd[:, :modes, None]
        foot = initial
        followed = []
        for _ in range(2):
            angle = (self.nodes - time[:, None] * foot)[:, :, None] * waves
            foot = (torch.matmul(angle.cos(), even) + torch.matmul(angle.sin(), odd))[:, :, 0]
            followed.append(foot)
        unit = self.settings.amplitude
        fields = [initial / unit, heat / unit, *(f / unit for f in followed), (heat - initial) / unit]
        level = torch.log10(viscosity) + 2.0
        numbers = [level, 2.0 * time - 1.0, torch.log10(viscosity * time + 1e-4) + 3.0]
        constants = [n[:, None].expand_as(initial) for n in numbers]
        return torch.stack([*fields, *constants], 1), heat

    def heads(self, features: Tensor) -> Tensor:
        """(batch, member or 1, feature, x) → (batch, member, 2, x)."""
        field = self.lift(features)
        for block in self.blocks:
            field = block(field)
        return self.project(nn.functional.gelu(self.hidden(field)))

    def _outputs(self, heat: Tensor, time: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and scale from the heat solution (batch, member or 1, x) and time (batch, member or 1, 1)."""
        correction = heads[:, :, 0] - heads[:, :, 0].mean(-1, keepdim=True)
        exponent = LARGEST_EXPONENT * torch.tanh(heads[:, :, 1] / LARGEST_EXPONENT)
        scale = self.settings.error * torch.exp(exponent) + SMALLEST
        return heat + self.settings.amplitude * time * correction, time * scale + SMALLEST

    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """Initial values, viscosity and all frames."""
        return inputs["initial_velocity"], inputs["viscosity"], outputs["velocity"]

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:
        """A random frame after the first, a random shift along the line, a random reflection (x, u) → (−x, −u)."""
        initial, viscosity, frames = batch
        members, count, points = initial.shape
        last = frames.shape[2] - 1
        drawn = 1 + torch.randint(last, (members, count), generator=generator)
        truth = frames.gather(2, drawn[:, :, None, None].expand(-1, -1, 1, points))[:, :, 0]
        size = frames.square().mean((2, 3)).sqrt()
        shifts = torch.randint(points, (members, count, 1), generator=generator)
        places = (torch.arange(points) + shifts) % points
        mirrored = torch.randint(2, (members, count, 1), generator=generator)
        places = torch.where(mirrored > 0, (points - places) % points, places)
        sign = 1.0 - 2.0 * mirrored
        initial, truth = (sign * t.gather(2, places) for t in (initial, truth))
        return initial, viscosity, drawn / last, truth, size

    def loss(self, *batch: Tensor) -> Tensor:
        """Errors relative to the mean of the frame's and the trajectory's size, with H1 term and score of the scale."""
        initial, viscosity, time, truth, size = batch
        parts = [self.features(*sample) for sample in zip(initial, viscosity, time, strict=True)]
        features, heat = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        prediction, scale = self._outputs(heat, time.T[:, :, None], self.heads(features).float())
        truth = truth.transpose(0, 1)
        points = truth.shape[-1]
        unit = 0.5 * (losses.norm(truth, 1) + size.T * math.sqrt(points))
        loss = losses.norm(prediction - truth, 1) / unit
        slope = losses.norm(truth.diff(dim=-1), 1) + 1e-3 * losses.norm(truth, 1)
        loss = loss + self.settings.gradient_weight * losses.norm((prediction - truth).diff(dim=-1), 1) / slope
        score = losses.laplace_score(prediction, scale, truth, self.settings.error)
        return loss.mean(0) + self.settings.scale_weight * score.mean((0, 2))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Relative L2 errors over space and every tenth frame."""
        initial, viscosity, frames = prepared
        truth = frames[:, FRAMES_SCORED::FRAMES_SCORED]
        count = truth.shape[1]
        times = torch.arange(1, count + 1, device=initial.device) * (FRAMES_SCORED / (frames.shape[1] - 1))
        rows = (t.repeat_interleave(count, 0) for t in (initial, viscosity))
        prediction, _ = self(*rows, times.repeat(len(initial)).float())
        prediction = prediction.reshape(len(initial), count, -1, truth.shape[-1]).transpose(1, 2)
        members = losses.relative_l2(prediction, truth[:, None], 2).mean(1)
        return members, losses.relative_l2(prediction.mean(1), truth, 2)

    def forward(self, initial: Tensor, viscosity: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and its scale, one line of each per member."""
        features, heat = self.features(initial, viscosity, time)
        return self._outputs(heat[:, None], time[:, None, None], self.heads(features[:, None]))
