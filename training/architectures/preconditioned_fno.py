"""A Fourier neural operator that corrects a few conjugate-gradient steps, for −div(a ∇u) = f, u = 0 on ∂Ω.

    u = (1/g) [ û + σ·16x(1−x)y(1−y)·N(log â, û, ∂û) ],     â = a/g,   g = geometric mean of a

û: `steps` steps of conjugate gradients from zero on the five-point scheme of â (geometric face means), with the
constant-coefficient solve as preconditioner, itself two sine-matrix products per axis. They contract the error by
about (√κ−1)/(√κ+1) each (a third at κ = 4) for any medium; what is left is what the 85² medium does not tell the
scheme (its sub-grid interfaces), and that is what the network learns. By construction u = 0 on the boundary and
u(ca) = u(a)/c. Everything is exported, so the derivative graphs differentiate through the steps.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training import losses
from training.architectures.fourier import FourierBlock, Lift, PointwiseLinear
from training.architectures.network import Fields, Network, Prepared
from training.architectures.symmetry import turn_square


@dataclass(frozen=True)
class PreconditionedFNOSettings:
    """Sizes: `patch`² neighbours of log â are seen by the lift; `period` is the padded DFT length."""

    points: int
    members: int
    channels: int
    modes: int
    layers: int
    period: int
    patch: int
    steps: int
    scale: float
    gradient_weight: float
    scale_weight: float


class ConjugateGradients(nn.Module):
    """û from â: (batch, x, y) → (batch, x, y), boundary zero."""

    def __init__(self, points: int, steps: int) -> None:
        super().__init__()
        self.steps, cells = steps, points - 1
        modes = torch.arange(1, cells, dtype=torch.float64)
        sine = torch.sin(math.pi * modes[:, None] * modes[None, :] / cells) * math.sqrt(2.0 / cells)
        eigenvalues = 4.0 * torch.sin(math.pi * modes / (2 * cells)) ** 2
        self.register_buffer("sine", sine.float(), persistent=False)
        inverse = 1.0 / (eigenvalues[:, None] + eigenvalues[None, :])
        self.register_buffer("inverse", inverse.float(), persistent=False)
        self.load = 1.0 / cells**2

    def precondition(self, residual: Tensor) -> Tensor:
        """Constant-coefficient five-point solve by sine matrices."""
        spectrum = torch.matmul(torch.matmul(self.sine, residual), self.sine)
        return torch.matmul(torch.matmul(self.sine, spectrum * self.inverse), self.sine)

    def forward(self, medium: Tensor) -> Tensor:
        """Conjugate gradients with exact line search; the tiny constant only matters once ρ has vanished."""
        root = torch.sqrt(medium)
        along_x = root[:, 1:, 1:-1] * root[:, :-1, 1:-1]
        along_y = root[:, 1:-1, 1:] * root[:, 1:-1, :-1]

        def apply(values: Tensor) -> Tensor:
            padded = nn.functional.pad(values, (1, 1, 1, 1))
            flux_x = along_x * (padded[:, 1:, 1:-1] - padded[:, :-1, 1:-1])
            flux_y = along_y * (padded[:, 1:-1, 1:] - padded[:, 1:-1, :-1])
            return flux_x[:, :-1] - flux_x[:, 1:] + flux_y[:, :, :-1] - flux_y[:, :, 1:]

        def product(left: Tensor, right: Tensor) -> Tensor:
            return (left * right).sum((1, 2), keepdim=True)

        residual = torch.full_like(medium[:, 1:-1, 1:-1], self.load)
        direction = correction = self.precondition(residual)
        rho = product(residual, correction)
        tiny = 1e-12 * rho
        values = torch.zeros_like(residual)
        for step in range(self.steps):
            image = apply(direction)
            length = rho / (product(direction, image) + tiny)
            values = values + length * direction
            if step + 1 < self.steps:
                residual = residual - length * image
                correction = self.precondition(residual)
                previous, rho = rho, product(residual, correction)
                direction = correction + rho / (previous + tiny) * direction
        return nn.functional.pad(values, (1, 1, 1, 1))


class PreconditionedFNO(Network):
    """(batch, x, y) permeability → (batch, member, x, y) pressure."""

    def __init__(self, settings: PreconditionedFNOSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.solver = ConjugateGradients(s.points, s.steps)
        self.lift = Lift(s.members, s.patch**2 + 5, s.channels)
        self.blocks = nn.ModuleList(
            FourierBlock(s.members, s.channels, s.modes, s.points, s.period) for _ in range(s.layers)
        )
        self.hidden = PointwiseLinear(s.members, s.channels, 2 * s.channels)
        self.project = PointwiseLinear(s.members, 2 * s.channels, 2)
        nodes = torch.linspace(0.0, 1.0, s.points, dtype=torch.float64)
        bubble = 16.0 * s.scale * torch.outer(nodes * (1 - nodes), nodes * (1 - nodes))
        y, x = torch.meshgrid(nodes * 2.0 - 1.0, nodes * 2.0 - 1.0, indexing="ij")
        self.register_buffer("bubble", bubble.float(), persistent=False)
        self.register_buffer("place", torch.stack([x, y, torch.ones_like(x)]).float(), persistent=False)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        settings = {**recipe.settings, "points": recipe.points, "members": recipe.members}
        return cls(PreconditionedFNOSettings(**settings))

    def features(self, logarithm: Tensor, solved: Tensor) -> Tensor:
        """Patch of log â around each node, û and its central differences, coordinates, one: (batch, channel, y, x)."""
        s = self.settings
        reach = s.patch // 2
        padded = nn.functional.pad(logarithm.mT, (reach,) * 4)
        patches = [padded[:, j : j + s.points, i : i + s.points] for i in range(s.patch) for j in range(s.patch)]
        scaled = solved.mT / 0.05
        around = nn.functional.pad(scaled, (1, 1, 1, 1))
        slopes = (s.points - 1) / 8.0
        along_x = (around[:, 1:-1, 2:] - around[:, 1:-1, :-2]) * slopes
        along_y = (around[:, 2:, 1:-1] - around[:, :-2, 1:-1]) * slopes
        own = [part[:, None] for part in (*patches, scaled, along_x, along_y)]
        return torch.cat([*own, self.place[None].expand(logarithm.shape[0], -1, -1, -1)], 1)

    def heads(self, features: Tensor) -> Tensor:
        """N and log s: (batch, member or 1, feature, y, x) → (batch, member, 2, x, y)."""
        field = self.lift(features)
        for block in self.blocks:
            field = block(field)
        found = self.project(nn.functional.gelu(self.hidden(field.flatten(2, 3).mT)))
        return found.unflatten(3, field.shape[2:4]).mT

    @torch.no_grad()
    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """(log â, û, g·u) of each sample."""
        logarithm = torch.log(inputs["permeability"])
        level = logarithm.mean((1, 2), keepdim=True)
        solved = [self.solver(torch.exp(part)) for part in (logarithm - level).split(50)]
        return logarithm - level, torch.cat(solved), outputs["pressure"] * torch.exp(level)

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:
        """One of the eight symmetries of the square for each member."""
        elements = torch.randint(8, (len(batch[0]),), generator=generator)
        return tuple(turn_square(t, elements) for t in batch)

    def _normalised(self, logarithm: Tensor, solved: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pressure and scale from prepared samples (member, batch, x, y), as (batch, member, x, y)."""
        members = [self.features(a, u) for a, u in zip(logarithm, solved, strict=True)]
        return self._outputs(solved.transpose(0, 1), self.heads(torch.stack(members, 1)).float())

    def loss(self, *batch: Tensor) -> Tensor:
        """Relative L2 and H1 errors, and the score of the scale."""
        logarithm, solved, truth = batch
        prediction, scale = self._normalised(logarithm, solved)
        truth = truth.transpose(0, 1)
        loss = losses.relative_l2(prediction, truth, 2)
        loss = loss + self.settings.gradient_weight * losses.relative_gradient(prediction, truth, 2)
        inner = (..., slice(1, -1), slice(1, -1))  # boundary nodes are exact, error and scale vanish there
        score = losses.laplace_score(prediction[inner], scale[inner], truth[inner], self.bubble[inner])
        return loss.mean(0) + self.settings.scale_weight * score.mean((0, 2, 3))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Relative L2 errors."""
        logarithm, solved, truth = (t[None].expand(self.settings.members, *t.shape) for t in prepared)
        prediction, _ = self._normalised(logarithm, solved)
        members = losses.relative_l2(prediction, truth.transpose(0, 1), 2).mean(1)
        return members, losses.relative_l2(prediction.mean(1), truth[0], 2)

    def _outputs(self, solved: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        return solved + self.bubble * heads[:, :, 0], self.bubble * torch.exp(heads[:, :, 1])

    def forward(self, permeability: Tensor) -> tuple[Tensor, Tensor]:
        """Pressure and its scale, one field of each per member."""
        logarithm = torch.log(permeability)
        level = logarithm.mean((1, 2), keepdim=True)
        solved = self.solver(torch.exp(logarithm - level))
        heads = self.heads(self.features(logarithm - level, solved)[:, None])
        pressure, scale = self._outputs(solved[:, None], heads)
        factor = torch.exp(-level)[:, None]
        return factor * pressure, factor * scale
