"""A Fourier neural operator that corrects a Galerkin solution in sine modes, for ∂u/∂t = ∇·(a∇u), u = 0 on ∂Ω.

    u(t) = û(t) + ‖û(t)‖ σ s(t) 16x(1−x)y(1−y) Σ_j P_j(2s(t) − 1) N_j(log a, u₀, û)

û: e^{−tK} on the lowest modes² sine functions, K their stiffness matrix, exact for a constant on control volumes, by
scaling and squaring; the modes above decay as in a medium of the geometric mean of a; both start from the coefficients
of the bilinear interpolant of u₀. P_j: Legendre polynomials of s(t) = t(T + τ)/(T(t + τ)), which grows from 0 and
levels off as the fast modes die. So u = 0 on the boundary and u(cu₀) = c u(u₀) for c > 0 by construction, and u is as
smooth in t as its factors: what the residual of the equation, hence the bound, sees of the network is its error in
space, not noise between frames. All of it is matrix products; the derivative graphs differentiate through them.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training import losses
from training.architectures.fourier import FourierBlock, PointwiseLinear
from training.architectures.network import Fields, Network, Prepared
from training.architectures.symmetry import turn_square

TAYLOR = 6
SQUARINGS = 7  # e^{−τK} with ‖τK‖ < 0.7 for a ≤ 10 and ten modes: Taylor's remainder is 2e−5, and 1e−8 in training
CHUNK = 50
SMALL = 1e-6
LARGEST_EXPONENT = 6.0  # of the scale, either way


@dataclass(frozen=True)
class ModalFNOSettings:
    """Sizes.

    `galerkin` sine modes per axis, `shapes` functions of time; `seen` frames of û are features, `frames_scored` random
    frames are scored in a step.
    """

    points: int
    members: int
    frames: int
    end: float
    galerkin: int
    shapes: int
    scale_shapes: int
    seen: int
    frames_scored: int
    channels: int
    modes: int
    layers: int
    period: int
    knee: float
    correction: float
    error: float
    gradient_weight: float
    scale_weight: float


class SineDecay(nn.Module):
    """û from a and u₀: (batch, x, y) each → (batch, frame, x, y)."""

    def __init__(self, points: int, frames: int, end: float, galerkin: int) -> None:
        super().__init__()
        self.frames, self.galerkin, cells = frames, galerkin, points - 1
        nodes = torch.linspace(0.0, 1.0, points, dtype=torch.float64)
        self.step = end / frames
        every = torch.arange(1, cells, dtype=torch.float64)
        sine = torch.sin(math.pi * nodes[:, None] * every) * math.sqrt(2.0)
        sine[[0, -1]] = 0.0
        edges = torch.cat([nodes[:1], 0.5 * (nodes[1:] + nodes[:-1]), nodes[-1:]])
        low = every[:galerkin]
        interpolated = torch.sinc(every / (2 * cells)).square()  # of a sine's coefficient, by bilinear interpolation
        sines, slopes = (self._products(edges, low, sign) for sign in (-1.0, 1.0))
        slopes = slopes * (math.pi**2 * torch.outer(low, low)).flatten()
        times = self.step * torch.arange(1, frames + 1, dtype=torch.float64)
        laplace = math.pi**2 * (every[:, None] ** 2 + every**2)
        high = torch.ones_like(laplace)
        high[:galerkin, :galerkin] = 0.0
        for name, values in (
            ("sine", sine), ("sines", sines), ("slopes", slopes), ("high", high),
            ("analysis", interpolated[:, None] * sine.T / cells),
            ("decay", times[:, None, None] * laplace), ("identity", torch.eye(galerkin**2, dtype=torch.float64)),
        ):  # fmt: skip
            self.register_buffer(name, values.float().contiguous(), persistent=False)

    @staticmethod
    def _products(edges: Tensor, low: Tensor, sign: float) -> Tensor:
        """∫ over each control volume of 2 cos kπx cos lπx (sign 1) or 2 sin kπx sin lπx (sign −1): (node, k·l)."""

        def primitive(wavenumber: Tensor) -> Tensor:
            safe = torch.where(wavenumber == 0, 1.0, wavenumber)
            along = edges[:, None, None]
            return torch.where(wavenumber == 0, along, torch.sin(math.pi * wavenumber * along) / (math.pi * safe))

        values = primitive(low[:, None] - low) + sign * primitive(low[:, None] + low)
        return values.diff(dim=0).flatten(1)

    def _propagator(self, medium: Tensor) -> Tensor:
        """e^{−ΔtK}: (batch, mode², mode²)."""
        along_x = torch.matmul(torch.matmul(self.slopes.T, medium), self.sines)
        along_y = torch.matmul(torch.matmul(self.sines.T, medium), self.slopes)
        count = self.galerkin
        stiffness = (along_x + along_y).reshape(-1, count, count, count, count)
        stiffness = stiffness.permute(0, 1, 3, 2, 4).reshape(-1, count**2, count**2)
        scaled = stiffness * (self.step / 2**SQUARINGS)
        result = self.identity - scaled / TAYLOR
        for order in range(TAYLOR - 1, 0, -1):
            result = self.identity - torch.matmul(scaled, result) / order
        for _ in range(SQUARINGS):
            result = torch.matmul(result, result)
        return result

    def forward(self, medium: Tensor, initial: Tensor) -> Tensor:
        """Frames by doubling: each product with a power of the propagator adds as many frames as there are."""
        count = self.galerkin
        spectrum = torch.matmul(torch.matmul(self.analysis, initial), self.analysis.T)
        power = self._propagator(medium)
        found = torch.matmul(power, spectrum[:, :count, :count].reshape(-1, count**2, 1))
        while found.shape[2] < self.frames:
            found = torch.cat([found, torch.matmul(power, found)], 2)
            if found.shape[2] < self.frames:
                power = torch.matmul(power, power)
        low = found[:, :, : self.frames].transpose(1, 2).reshape(-1, self.frames, count, count)
        rest = self.high.shape[0] - count
        mean = torch.exp(torch.log(medium).mean((1, 2)))[:, None, None, None]
        high = (spectrum * self.high)[:, None] * torch.exp(-mean * self.decay)
        modes = high + nn.functional.pad(low, (0, rest, 0, rest))
        return torch.matmul(torch.matmul(self.sine, modes), self.sine.T)


class ModalFNO(Network):
    """(batch, x, y) diffusivity and initial temperature → (batch, member, frame, x, y) temperature and its scale."""

    def __init__(self, settings: ModalFNOSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.solver = SineDecay(s.points, s.frames, s.end, s.galerkin)
        self.seen = [round((s.frames - 1) * (i / max(1, s.seen - 1)) ** 2) for i in range(s.seen)]
        self.lift = PointwiseLinear(s.members, 9 + 1 + s.seen + 2, s.channels)
        self.blocks = nn.ModuleList(
            FourierBlock(s.members, s.channels, s.modes, s.points, s.period) for _ in range(s.layers)
        )
        self.hidden = PointwiseLinear(s.members, s.channels, 2 * s.channels)
        self.project = PointwiseLinear(s.members, 2 * s.channels, s.shapes + s.scale_shapes)
        nodes = torch.linspace(0.0, 1.0, s.points, dtype=torch.float64)
        bubble = 16.0 * torch.outer(nodes * (1 - nodes), nodes * (1 - nodes))
        coordinates = torch.stack(torch.meshgrid(nodes, nodes, indexing="ij")) * 2.0 - 1.0
        times = torch.arange(1, s.frames + 1, dtype=torch.float64) * s.end / s.frames
        grown = times * (s.end + s.knee) / (s.end * (times + s.knee))
        legendre = [torch.ones_like(grown), 2.0 * grown - 1.0]
        for n in range(1, max(s.shapes, s.scale_shapes)):
            legendre.append(((2 * n + 1) * legendre[1] * legendre[n] - n * legendre[n - 1]) / (n + 1))
        polynomials = torch.stack(legendre, 1)
        for name, values in (
            ("bubble", bubble), ("coordinates", coordinates), ("grown", grown[:, None, None]),
            ("shapes", grown[:, None] * polynomials[:, : s.shapes]), ("scale_shapes", polynomials[:, : s.scale_shapes]),
        ):  # fmt: skip
            self.register_buffer(name, values.float().contiguous(), persistent=False)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        settings = {**recipe.settings, "points": recipe.points, "members": recipe.members}
        return cls(ModalFNOSettings(**settings))

    def features(self, logarithm: Tensor, initial: Tensor, seen: Tensor) -> Tensor:
        """Patch of log a, u₀, some frames of û, each of size one, coordinates: (batch, channel, x, y)."""
        points = self.settings.points
        padded = nn.functional.pad(logarithm, (1,) * 4)
        patches = [padded[:, i : i + points, j : j + points] for i in range(3) for j in range(3)]
        own = (seen / self._size(seen)).unbind(1)
        position = self.coordinates[None].expand(logarithm.shape[0], -1, -1, -1)
        return torch.cat([torch.stack([*patches, initial / self._size(initial), *own], 1), position], 1)

    @staticmethod
    def _size(field: Tensor) -> Tensor:
        """Root mean square over the grid, at least SMALL: a maximum, since exporters drop the addition of so little."""
        return torch.sqrt(field.square().mean((-2, -1), keepdim=True).clamp_min(SMALL**2))

    def heads(self, features: Tensor) -> Tensor:
        """N and log-scales: (batch, member or 1, feature, x, y) → (batch, member, shape, x, y)."""
        field = self.lift(features).permute(0, 1, 4, 3, 2)  # blocks have channels last
        for block in self.blocks:
            field = block(field)
        return self.project(nn.functional.gelu(self.hidden(field.permute(0, 1, 4, 3, 2))))

    def _seen(self, decayed: Tensor) -> Tensor:
        return torch.stack([decayed[:, index] for index in self.seen], 1)

    def _outputs(self, decayed: Tensor, heads: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Temperature and scale from û (batch, member or 1, frame, x, y) and heads; `drawn` numbers the frames."""
        times = (self.shapes, self.scale_shapes, self.grown)
        shapes, scale_shapes, grown = times if drawn is None else (t[drawn] for t in times)
        s, points = self.settings, self.settings.points
        unit = self._size(decayed) * self.bubble
        flat = heads.flatten(3)
        correction = torch.matmul(shapes, flat[:, :, : s.shapes]).unflatten(3, (points, points))
        exponent = torch.matmul(scale_shapes, flat[:, :, s.shapes :]).unflatten(3, (points, points))
        exponent = LARGEST_EXPONENT * torch.tanh(exponent / LARGEST_EXPONENT)
        scale = s.error * unit * grown * torch.exp(exponent)
        return decayed + s.correction * unit * correction, scale

    @torch.no_grad()
    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """(log a, u₀, some frames of û, û, u) of each sample."""
        medium, initial = inputs["diffusivity"], inputs["initial_temperature"]
        parts = zip(medium.split(CHUNK), initial.split(CHUNK), strict=True)
        decayed = torch.cat([self.solver(*part) for part in parts])
        return torch.log(medium), initial, self._seen(decayed), decayed, outputs["temperature"]

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:
        """A symmetry of the square and a sign of the temperature for each member; a few frames, the same for all."""
        members, count = batch[0].shape[:2]
        elements = torch.randint(8, (members,), generator=generator)
        signs = 1.0 - 2.0 * torch.randint(2, (members, 1, 1, 1), generator=generator)
        drawn = torch.randperm(self.settings.frames, generator=generator)[: self.settings.frames_scored].sort().values
        medium, initial, seen, decayed, truth = batch
        fields = (medium, initial, seen, decayed[:, :, drawn], truth[:, :, drawn])
        medium, initial, seen, decayed, truth = (turn_square(t, elements) for t in fields)
        signed = (signs[..., None] * t for t in (seen, decayed, truth))
        return medium, signs * initial, *signed, drawn.expand(members, count, -1)

    def _predicted(
        self, logarithm: Tensor, initial: Tensor, seen: Tensor, decayed: Tensor, drawn: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Temperature and scale (batch, member, frame, x, y) from prepared samples (member, batch, …)."""
        members = [self.features(*sample) for sample in zip(logarithm, initial, seen, strict=True)]
        heads = self.heads(torch.stack(members, 1)).float()
        return self._outputs(decayed.transpose(0, 1), heads, drawn)

    def loss(self, *batch: Tensor) -> Tensor:
        """Relative L2 error of all frames drawn and of each, relative H1 error of each, score of the scale."""
        *given, truth, drawn = batch
        prediction, scale = self._predicted(*given, drawn[0, 0])
        truth = truth.transpose(0, 1)
        loss = losses.relative_l2(prediction, truth, 3) + losses.relative_l2(prediction, truth, 2).mean(2)
        loss = loss + self.settings.gradient_weight * losses.relative_gradient(prediction, truth, 2).mean(2)
        inner = (..., slice(1, -1), slice(1, -1))  # boundary nodes are exact, error and scale vanish there
        unit = (self._size(truth) * self.bubble)[inner] * self.settings.error + SMALL**2
        score = losses.laplace_score(prediction[inner], scale[inner] + SMALL**2, truth[inner], unit)
        return loss.mean(0) + self.settings.scale_weight * score.mean((0, 2, 3, 4))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Relative L2 errors over space and time."""
        members = self.settings.members
        *given, truth = (t[None].expand(members, *t.shape) for t in prepared)
        prediction, _ = self._predicted(*given)
        own = losses.relative_l2(prediction, truth.transpose(0, 1), 3).mean(1)
        return own, losses.relative_l2(prediction.mean(1), truth[0], 3)

    def forward(self, diffusivity: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        """Temperature and its scale, frames of each per member."""
        decayed = self.solver(diffusivity, initial)
        heads = self.heads(self.features(torch.log(diffusivity), initial, self._seen(decayed))[:, None])
        return self._outputs(decayed[:, None], heads)
