"""A ConvNeXt U-Net that steps a state on the sphere: state, static fields and calendar → states at several lead times.

    z = (x − μ)/σ,   z(t + step) = z(t) + δ N(z(t), static, calendar, latitude),   repeated `steps` times in the graph

μ, σ: mean and standard deviation of each variable; δ: that of its change over one step, in units of σ, so that N is of
order one; all three come from training samples. Longitude goes round (padding by concatenation, which exports) or ends
in zeros as latitude does: the network knows its latitude. The calendar is the hour angle at every longitude and the
season. A second head gives the logarithm of each error's scale, plus a trained constant for each variable and lead time.
Trained on single steps first, then on whole rollouts with gradients through all steps; errors are weighted by area.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training import losses
from training.architectures.conv_unet import Down, Level, Up
from training.architectures.fourier import PointwiseLinear
from training.architectures.network import Fields, Network, Prepared
from training.weatherbench_scores import area_weights

DAY, YEAR = 24.0, 8766.0
REFERENCE_TIME = "reference_time"
CALENDAR, POSITION = 4, 2
COARSENED = 4
REACH = 3  # of the depthwise kernels
SMALLEST = 1e-6


@dataclass(frozen=True)
class StateUNetSettings:
    """Sizes; the grid in degrees; `steps` of `step_hours`, `one_step_share` of the training on the first one alone."""

    members: int
    variables: int
    statics: int
    steps: int
    step_hours: float
    rows: int
    columns: int
    south: float
    north: float
    west: float
    east: float
    periodic: int
    zonal_shift: int
    channels_1: int
    channels_2: int
    channels_3: int
    blocks: int
    bottom_blocks: int
    scale_weight: float
    one_step_share: float


class GlobeDepthwise(nn.Module):
    """A 7×7 convolution of every channel by itself, round the globe."""

    def __init__(self, members: int, channels: int, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic
        self.kernel = nn.Parameter(torch.randn(members * channels, 1, 2 * REACH + 1, 2 * REACH + 1) / 7.0)
        self.bias = nn.Parameter(torch.zeros(members * channels))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, member, channel, latitude, longitude) → the same shape."""
        flat, beside = field.flatten(1, 2), REACH
        if self.periodic:
            flat, beside = torch.cat([flat[..., field.shape[-1] - REACH :], flat, flat[..., :REACH]], -1), 0
        found = nn.functional.conv2d(flat, self.kernel, self.bias, padding=(REACH, beside), groups=flat.shape[1])
        return found.reshape(field.shape)


def globe_level(members: int, channels: int, blocks: int, periodic: bool) -> Level:
    """Blocks of the flood network with convolutions that know the globe."""
    level = Level(members, channels, blocks)
    for block in level.blocks:
        block.depthwise = GlobeDepthwise(members, channels, periodic)
    return level


class StateUNet(Network):
    """States (batch, latitude, longitude) of each variable, static fields, hours since 1970 → states with a lead axis.

    Variables and static fields come in alphabetical order, as `prepare` takes them from their names.
    """

    def __init__(self, settings: StateUNetSettings, updates: int) -> None:
        super().__init__()
        self.settings = s = settings
        m, (c1, c2, c3) = s.members, (s.channels_1, s.channels_2, s.channels_3)
        self.updates = updates
        self.lift = PointwiseLinear(m, s.variables + s.statics + CALENDAR + POSITION, c1)
        self.down_1, self.down_2 = Down(m, c1, c2), Down(m, c2, c3)
        self.up_2, self.up_1 = Up(m, c3, c2), Up(m, c2, c1)
        self.enter = nn.ModuleList(
            globe_level(m, c, blocks, bool(s.periodic))
            for c, blocks in ((c1, s.blocks), (c2, s.blocks), (c3, s.bottom_blocks))
        )
        self.leave = nn.ModuleList(globe_level(m, c, s.blocks, bool(s.periodic)) for c in (c2, c1))
        self.join_2, self.join_1 = PointwiseLinear(m, 2 * c2, c2), PointwiseLinear(m, 2 * c1, c1)
        self.project = PointwiseLinear(m, c1, 2 * s.variables)
        nn.init.zeros_(self.project.weight)  # training starts from persistence
        later = 0.5 * torch.log(torch.arange(1.0, s.steps + 1.0)) - 0.5
        self.growth = nn.Parameter(later[:, None].repeat(m, 1, s.variables))
        for name, count in (("mean", s.variables), ("unit", s.variables), ("change", s.variables)):
            self.register_buffer(name, torch.ones(count, 1, 1))
        self.register_buffer("static_mean", torch.zeros(s.statics, 1, 1))
        self.register_buffer("static_unit", torch.ones(s.statics, 1, 1))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self._register_grid(s)

    def _register_grid(self, s: StateUNetSettings) -> None:
        latitude = torch.linspace(s.south, s.north, s.rows, dtype=torch.float64)
        angle = torch.deg2rad(latitude)
        position = torch.stack([angle.sin(), angle.cos()])[:, :, None].expand(-1, -1, s.columns)
        longitude = torch.deg2rad(torch.linspace(s.west, s.east, s.columns, dtype=torch.float64))
        weights = torch.from_numpy(area_weights(latitude.numpy()))
        for name, values in (("position", position), ("longitude", longitude), ("weights", weights[:, None])):
            self.register_buffer(name, values.float().contiguous(), persistent=False)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        updates = recipe.epochs * max(1, recipe.splits["train"].count // recipe.batch)
        return cls(StateUNetSettings(**recipe.settings, members=recipe.members), updates)

    @torch.no_grad()
    def absorb(self, inputs: Fields, outputs: Fields) -> None:
        """Means, standard deviations, and root mean square changes over one step, weighted by area."""
        names = sorted(outputs)
        weights = self.weights.double()
        for index, name in enumerate(names):
            first, next_ = inputs[name].double(), outputs[name][:, 0].double()
            mean = (first * weights).mean()
            unit = ((first - mean).square() * weights).mean().sqrt().clamp_min(1e-12)
            self.mean[index], self.unit[index] = mean, unit
            self.change[index] = (((next_ - first).square() * weights).mean().sqrt() / unit).clamp_min(1e-4)
        for index, name in enumerate(_statics(inputs, names)):
            field = inputs[name][0].double()
            self.static_mean[index] = (field * weights).mean()
            spread = ((field - self.static_mean[index]).square() * weights).mean().sqrt()
            self.static_unit[index] = torch.where(spread > 0, spread, torch.ones_like(spread))

    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """State (sample, variable, …), static fields, time, states at the lead times (sample, lead time, variable, …)."""
        names = sorted(outputs)
        state = torch.stack([inputs[name] for name in names], 1)
        static = [inputs[name] for name in _statics(inputs, names)]
        fixed = torch.stack(static, 1) if static else state[:, :0]
        longitude = self.longitude.expand(len(state), -1)
        later = torch.stack([outputs[name] for name in names], 2)
        return state, fixed, longitude, inputs[REFERENCE_TIME].reshape(-1), later

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:
        """The same turn about the poles of everything, the sun's hour angle included, for each member."""
        if not self.settings.zonal_shift:
            return batch
        state, fixed, longitude, time, later = batch
        shifts = torch.randint(self.settings.columns, (len(state),), generator=generator).tolist()
        turned = (
            torch.stack([field.roll(shift, -1) for field, shift in zip(part, shifts, strict=True)])
            for part in (state, fixed, longitude, later)
        )
        state, fixed, longitude, later = turned
        return state, fixed, longitude, time, later

    def _calendar(self, time: Tensor, longitude: Tensor, steps: int) -> Tensor:
        """Cosine and sine of hour angle and season before each step, (batch, member or 1, step, 4, latitude, longitude)."""
        hours = time[..., None] + self.settings.step_hours * torch.arange(steps, device=time.device, dtype=time.dtype)
        day, year = (2.0 * math.pi / p * (hours - p * torch.floor(hours / p)) for p in (DAY, YEAR))
        angle = day[..., None] + longitude[:, :, None]
        season = year[..., None].expand_as(angle)
        parts = torch.stack([angle.cos(), angle.sin(), season.cos(), season.sin()], 3)
        return parts[..., None, :].expand(-1, -1, -1, -1, self.settings.rows, -1)

    def trunk(self, features: Tensor) -> Tensor:
        """(batch, member, feature, latitude, longitude) → increments and log scales, (batch, member, 2 variable, …)."""
        rows, columns = features.shape[-2:]
        below, beside = -rows % COARSENED, -columns % COARSENED
        lifted = nn.functional.gelu(self.lift(features))
        first = self.enter[0](nn.functional.pad(lifted, (0, beside, 0, below)) if below + beside else lifted)
        second = self.enter[1](self.down_1(first))
        third = self.enter[2](self.down_2(second))
        back = self.leave[0](self.join_2(torch.cat([self.up_2(third), second], 2)))
        back = self.leave[1](self.join_1(torch.cat([self.up_1(back), first], 2)))
        found = self.project(nn.functional.gelu(back))
        return found[..., :rows, :columns] if below + beside else found

    def rollout(
        self, state: Tensor, fixed: Tensor, longitude: Tensor, time: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Standardised states and scales, (batch, member, step, variable, latitude, longitude).

        The state is (batch, member or 1, variable, …), the time (batch, member or 1); a shared state is repeated.
        """
        s = self.settings
        z = ((state - self.mean) / self.unit).expand(-1, s.members, -1, -1, -1)
        calendar = self._calendar(time, longitude, steps).expand(-1, s.members, -1, -1, -1, -1)
        position = self.position.expand(z.shape[0], s.members, -1, -1, -1)
        constant = [position]
        if s.statics:
            constant.append(((fixed - self.static_mean) / self.static_unit).expand(-1, s.members, -1, -1, -1))
        states, scales = [], []
        for step in range(steps):
            heads = self.trunk(torch.cat([z, calendar[:, :, step], *constant], 2))
            z = z + self.change * heads[:, :, : s.variables]
            growth = self.growth[:, step, :, None, None]
            states.append(z)
            scales.append(self.change * torch.exp(heads[:, :, s.variables :].float() + growth) + SMALLEST)
        return torch.stack(states, 2), torch.stack(scales, 2)

    def loss(self, *batch: Tensor) -> Tensor:
        """Mean absolute error in units of the change over one step, shrunk with the root of the lead time, and scores."""
        state, fixed, longitude, time, later = (t.transpose(0, 1) for t in batch)
        single = int(self.taken) < self.settings.one_step_share * self.updates
        steps = 1 if single else self.settings.steps
        self.taken += 1
        found, scale = self.rollout(state, fixed, longitude, time, steps)
        truth = (later[:, :, :steps] - self.mean) / self.unit
        ahead = torch.arange(1.0, steps + 1.0, device=found.device).sqrt()[:, None, None, None]
        error = (found - truth).abs() / (self.change * ahead) * self.weights
        score = losses.laplace_score(found, scale, truth, self.change) * self.weights
        return (error + self.settings.scale_weight * score).mean((0, 2, 3, 4, 5))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Root mean square errors over all variables and lead times, over those of persistence."""
        state, fixed, longitude, time, later = prepared
        truth = ((later - self.mean) / self.unit)[:, None]
        found, _ = self.rollout(state[:, None], fixed[:, None], longitude[:, None], time[:, None], self.settings.steps)
        kept = self._size(((state - self.mean) / self.unit)[:, None, None] - truth)
        members = (self._size(found - truth) / kept).mean(1)
        return members, (self._size(found.mean(1, keepdim=True) - truth) / kept)[:, 0]

    def _size(self, error: Tensor) -> Tensor:
        """(batch, member, step, variable, latitude, longitude) → (batch, member)."""
        return ((error / self.change).square() * self.weights).mean((2, 3, 4, 5)).sqrt() + SMALLEST

    def forward(self, *fields: Tensor) -> tuple[Tensor, ...]:
        """Members and scale of every variable in turn, (batch, member, lead time, latitude, longitude)."""
        s = self.settings
        state = torch.stack(fields[: s.variables], 1)[:, None]
        static = fields[s.variables : s.variables + s.statics]
        fixed = torch.stack(static, 1)[:, None] if static else state[:, :, :0]
        longitude = self.longitude[None, None]
        found, scale = self.rollout(state, fixed, longitude, fields[-1].reshape(-1, 1), s.steps)
        found, scale = self.mean + self.unit * found, self.unit * scale
        return tuple(part[:, :, :, index] for index in range(s.variables) for part in (found, scale))


def _statics(inputs: Fields, states: list[str]) -> list[str]:
    """Names of the static fields, in alphabetical order."""
    return sorted(name for name in inputs if name not in states and name != REFERENCE_TIME)
