"""Site forecasts: a frozen ridge regression on lagged anomalies, corrected by a multilayer perceptron with a spread.

    mean = climatology(valid time) + σ·(R z + c·N(W z)),    standard deviation = σ·ρ·exp(S(W z))

z: anomalies of (speed, u, v, T, p) at every station over 25 h, standardised, and 14 calendar harmonics; R: ridge
regression (ρ its residual's standard deviation); W: principal components of z, each divided by its size (25 hours of one
station are nearly the same number: what is left of them are the tendencies, and a network sees them only when they are as
large); N, S: the network's heads, zero at the start; c is 1 or 0 for each
variable and lead time, chosen on validation data, where the ridge regression alone is better. Climatology: 3 annual and
2 diurnal harmonics and the 4 products of the first ones, by least squares. Loss: CRPS of the Gaussian law in closed form
(Gneiting & Raftery 2007, §4.2). All of it is in the graph; times are hours since 1970, taken modulo a day and a year.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe
from training.architectures.fourier import PointwiseLinear
from training.architectures.network import Fields, Network, Prepared

DAY, YEAR = 24.0, 8766.0
HOURS, LEADS, STATIONS = 25, 24, 4
VARIABLES = 5  # speed, u, v, temperature, pressure
TARGETS = (0, 3, 4)
HARMONICS = 15
FEATURES = HOURS * STATIONS * VARIABLES + HARMONICS - 1
OUTPUTS = LEADS * STATIONS * len(TARGETS)
CHUNK = 8192


@dataclass(frozen=True)
class ForecastMLPSettings:
    """Sizes; `penalty` of the ridge regression per sample, `dropout` of the hidden layers while training.

    `floor` keeps the smallest principal components small: it is added to their variances, in units of the largest.
    """

    members: int
    width: int
    dropout: float
    penalty: float
    floor: float


def harmonics(hours: Tensor) -> Tensor:
    """(…, 15): constant, 3 annual and 2 diurnal harmonics, products of the first annual and the first diurnal ones."""
    day, year = (2.0 * math.pi / p * (hours - p * torch.floor(hours / p)) for p in (DAY, YEAR))
    annual = [f(k * year) for k in (1, 2, 3) for f in (torch.cos, torch.sin)]
    diurnal = [f(k * day) for k in (1, 2) for f in (torch.cos, torch.sin)]
    products = [a * d for a in annual[:2] for d in diurnal[:2]]
    return torch.stack([torch.ones_like(hours), *annual, *diurnal, *products], -1)


def gaussian_crps(mean: Tensor, deviation: Tensor, truth: Tensor) -> Tensor:
    """σ [z(2Φ(z) − 1) + 2φ(z) − 1/√π]."""
    z = (truth - mean) / deviation
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    return deviation * (z * torch.erf(z / math.sqrt(2.0)) + 2.0 * density - 1.0 / math.sqrt(math.pi))


class ForecastMLP(Network):
    """Histories (batch, 25, 4) of speed, direction, temperature, pressure and a time (batch,) → three forecasts."""

    def __init__(self, settings: ForecastMLPSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.lift = PointwiseLinear(s.members, FEATURES, s.width)
        self.hidden = PointwiseLinear(s.members, s.width, s.width)
        self.project = PointwiseLinear(s.members, s.width, 2 * OUTPUTS)
        nn.init.zeros_(self.project.weight)
        self.dropout = nn.Dropout(s.dropout)
        for name, shape in (
            ("climatology", (HARMONICS, STATIONS * VARIABLES)), ("unit", (STATIONS * VARIABLES,)),
            ("ridge", (FEATURES, OUTPUTS)), ("residual", (OUTPUTS,)), ("corrected", (OUTPUTS,)),
            ("whitening", (FEATURES, FEATURES)),
        ):  # fmt: skip
            self.register_buffer(name, torch.ones(shape))

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""
        return cls(ForecastMLPSettings(**recipe.settings, members=recipe.members))

    @staticmethod
    def variables(fields: Fields) -> Tensor:
        """(batch, hour, station·variable): speed, u, v, temperature, pressure of each station in turn."""
        speed, angle = fields["wind_speed"], fields["wind_direction"] * (math.pi / 180.0)
        parts = [speed, -speed * torch.sin(angle), -speed * torch.cos(angle)]
        return torch.stack([*parts, fields["air_temperature"], fields["surface_pressure"]], -1).flatten(2)

    @torch.no_grad()
    def absorb(self, inputs: Fields, outputs: Fields) -> None:
        """Climatology, standard deviations and ridge regression, by normal equations in double precision."""
        now = self.variables({k: v[:, -1:] for k, v in inputs.items() if v.dim() == 3})[:, 0].double()
        basis = harmonics(inputs["reference_time"].double())
        found = torch.linalg.lstsq(basis, now).solution
        self.climatology.copy_(found)
        self.unit.copy_((now - basis @ found).std(0))
        square, product = (torch.zeros(FEATURES, n, dtype=torch.float64) for n in (FEATURES, OUTPUTS))
        count = len(now)
        for first in range(0, count, CHUNK):
            part = slice(first, first + CHUNK)
            z, y = (t.double() for t in self._pairs(inputs, outputs, part))
            square += z.T @ z
            product += z.T @ y
        penalty = self.settings.penalty * count * torch.eye(FEATURES, dtype=torch.float64)
        self.ridge.copy_(torch.linalg.solve(square + penalty, product))
        variances, components = torch.linalg.eigh(square / count)
        self.whitening.copy_(components / (variances + self.settings.floor * variances[-1]).sqrt())
        total = torch.zeros(OUTPUTS)
        for first in range(0, count, CHUNK):
            z, y = self._pairs(inputs, outputs, slice(first, first + CHUNK))
            total += (y - z @ self.ridge).square().sum(0)
        self.residual.copy_((total / count).sqrt())

    def _pairs(self, inputs: Fields, outputs: Fields, part: slice) -> tuple[Tensor, Tensor]:
        some = {k: v[part] for k, v in inputs.items()}
        return self.features(some), self.anomalies({k: v[part] for k, v in outputs.items()}, some["reference_time"])

    def features(self, fields: Fields) -> Tensor:
        """z: (batch, 514)."""
        time = fields["reference_time"]
        past = torch.arange(1.0 - HOURS, 1.0, device=time.device, dtype=time.dtype)
        normal = torch.matmul(harmonics(time[:, None] + past), self.climatology.to(time.dtype))
        anomaly = (self.variables(fields) - normal) / self.unit
        return torch.cat([anomaly.flatten(1), harmonics(time)[:, 1:]], 1)

    def _normal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Climatology at the valid times and standard deviations of the targets, (batch or 1, 288) each."""
        ahead = torch.arange(1.0, LEADS + 1.0, device=time.device, dtype=time.dtype)
        normal = torch.matmul(harmonics(time[:, None] + ahead), self.climatology)
        normal = normal.reshape(-1, LEADS, STATIONS, VARIABLES)
        chosen = torch.stack([normal[..., k] for k in TARGETS], 1)
        unit = self.unit.reshape(STATIONS, VARIABLES)
        units = torch.stack([unit[:, k] for k in TARGETS])[:, None, :].expand(-1, LEADS, -1)
        return chosen.flatten(1), units.reshape(1, -1)

    def anomalies(self, outputs: Fields, time: Tensor) -> Tensor:
        """Standardised targets (batch, 288): variable, lead time, station."""
        names = ("wind_speed", "air_temperature", "surface_pressure")
        normal, units = self._normal(time)
        return (torch.stack([outputs[name] for name in names], 1).flatten(1) - normal) / units

    def heads(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """W z (batch, member or 1, 514) → N and S, (batch, member, 288) each."""
        columns = white.permute(1, 2, 0)[None]  # samples side by side: one matrix product per member and layer
        hidden = self.dropout(nn.functional.gelu(self.lift(columns)))
        hidden = self.dropout(nn.functional.gelu(self.hidden(hidden)))
        found = self.project(hidden)[0].permute(2, 0, 1)
        return found[:, :, :OUTPUTS], found[:, :, OUTPUTS:]

    @torch.no_grad()
    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """W z, R z and the standardised targets."""
        pairs = [
            self._pairs(inputs, outputs, slice(first, first + CHUNK))
            for first in range(0, len(inputs["reference_time"]), CHUNK)
        ]
        features, targets = (torch.cat(part) for part in zip(*pairs, strict=True))
        return features @ self.whitening, features @ self.ridge, targets

    def loss(self, *batch: Tensor) -> Tensor:
        """CRPS in units of the ridge regression's residual."""
        white, ridge, truth = (t.transpose(0, 1) for t in batch)
        correction, spread = (t.float() for t in self.heads(white))
        mean, deviation = ridge + self.residual * correction, self.residual * torch.exp(spread)
        return (gaussian_crps(mean, deviation, truth) / self.residual).mean((0, 2))

    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """CRPS of the members, and of the Gaussian law with the ensemble's mean and variance."""
        white, ridge, truth = prepared
        mean, deviation = self._law(white, ridge)
        members = gaussian_crps(mean, deviation, truth[:, None]) / self.residual
        total = (deviation.square().mean(1) + mean.var(1)).sqrt()
        return members.mean((1, 2)), (gaussian_crps(mean.mean(1), total, truth) / self.residual).mean(1)

    def _law(self, white: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        correction, spread = self.heads(white[:, None])
        mean = ridge[:, None] + self.corrected * self.residual * correction
        return mean, self.residual * torch.exp(spread)

    def finish(self, *prepared: Tensor) -> None:
        """Leave the ridge regression alone where its mean is better on validation data, by variable and lead time."""
        white, ridge, truth = prepared
        self.eval()
        self.corrected.fill_(1.0)
        mean, _ = self._law(white, ridge)
        grid = (len(TARGETS), LEADS, STATIONS)
        own, other = ((m - truth).square().mean(0).reshape(grid).sum(2) for m in (mean.mean(1), ridge))
        self.corrected.copy_((own < other).float()[..., None].expand(grid).flatten())

    def forward(
        self, speed: Tensor, direction: Tensor, temperature: Tensor, pressure: Tensor, time: Tensor
    ) -> tuple[Tensor, ...]:
        """Members and scale (of a Laplace law with the same variance) of wind speed, temperature and pressure."""
        fields = {
            "wind_speed": speed, "wind_direction": direction, "air_temperature": temperature,
            "surface_pressure": pressure, "reference_time": time,
        }  # fmt: skip
        features = self.features(fields)
        mean, deviation = self._law(features @ self.whitening, features @ self.ridge)
        normal, units = self._normal(time)
        shape = (len(TARGETS), LEADS, STATIONS)
        mean = (normal[:, None] + units * mean).unflatten(2, shape)
        scale = (units * deviation / math.sqrt(2.0)).unflatten(2, shape)
        found = [(nn.functional.relu(mean[:, :, k]) if k == 0 else mean[:, :, k], scale[:, :, k]) for k in range(3)]
        return tuple(part for pair in found for part in pair)
