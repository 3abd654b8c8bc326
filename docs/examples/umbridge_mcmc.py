"""Bayesian inversion over UM-Bridge: a medium from twenty noisy pressures.

    a(θ) = 3 + 9 σ(4 Σₖ θₖ φₖ)     φₖ: cosines, θ ~ N(0, I), σ the logistic function
    yⱼ = u(a(θ))(xⱼ) + ηⱼ          ηⱼ ~ N(0, s²), u: Darcy pressure

The map θ → a is written here, a → u is the served surrogate, and the chain rule joins their derivatives: Gauss–Newton
by ApplyJacobian finds the mode, Metropolis-adjusted Langevin steps by Gradient, preconditioned with the curvature there,
explore the posterior. The observations come from the reference solver on a grid five times finer, not from the surrogate.

What the validity test says of these media: **out of domain**. The surrogate was trained on media of two values, 3 and 12,
with sharp edges; these pass smoothly from one to the other, so no prediction band is claimed along the chain
(`darcy:half_width` refuses). Against the reference solver the error on this family was at most 0.3 % of the largest
pressure, a small part of the noise assumed here; it is not accounted for in the posterior.

Run, from the repository's root, with the service running:

    python -m docs.examples.umbridge_mcmc http://127.0.0.1:8000/umbridge
"""

import sys
from dataclasses import dataclass

import numpy as np
import umbridge

from models.catalog.darcy import reference

LOW, HIGH, STEEPNESS = 3.0, 12.0, 4.0
WAVES = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
SENSORS, NOISE = 20, 0.02  # the noise is a share of the largest pressure
POINTS, FINER = 85, 5


def modes(points: int) -> np.ndarray:
    """φₖ = cos(π i x) cos(π j y), (k, x, y)."""
    x = np.linspace(0.0, 1.0, points)
    return np.stack([np.outer(np.cos(np.pi * i * x), np.cos(np.pi * j * x)) for i, j in WAVES])


def medium(theta: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """a(θ), (x, y), and ∂a/∂θ, (k, x, y)."""
    waves = modes(points)
    share = 0.5 * (1.0 + np.tanh(0.5 * STEEPNESS * np.tensordot(theta, waves, 1)))
    slope = (HIGH - LOW) * STEEPNESS * share * (1.0 - share)
    return LOW + (HIGH - LOW) * share, slope * waves


@dataclass(frozen=True)
class Data:
    """Sensors (flat indices into the pressure), what they read, and its standard deviation."""

    sensors: np.ndarray
    readings: np.ndarray
    deviation: float


def observe(theta: np.ndarray, generator: np.random.Generator) -> Data:
    """Readings of the reference solver on the finer grid, with noise."""
    fine, _ = medium(theta, FINER * (POINTS - 1) + 1)
    pressure = reference.solve(fine, face_mean="arithmetic")[::FINER, ::FINER]
    inner = np.arange(POINTS**2).reshape(POINTS, POINTS)[5:-5, 5:-5].ravel()
    sensors = generator.choice(inner, SENSORS, replace=False)
    deviation = NOISE * float(pressure.max())
    return Data(sensors, pressure.ravel()[sensors] + deviation * generator.standard_normal(SENSORS), deviation)


@dataclass(frozen=True)
class Posterior:
    """log p(θ | y) = −½ |(u(a(θ)) − y)/s|² − ½ |θ|² + constant, through a served model."""

    model: umbridge.HTTPModel
    data: Data

    def misfit(self, theta: np.ndarray) -> np.ndarray:
        """(u(a(θ)) − y)/s at the sensors."""
        permeability, _ = medium(theta)
        (pressure,) = self.model([permeability.ravel().tolist()])
        return (np.array(pressure)[self.data.sensors] - self.data.readings) / self.data.deviation

    def density(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """log p and its gradient: one Evaluate and one Gradient."""
        permeability, slopes = medium(theta)
        misfit = self.misfit(theta)
        weights = np.zeros(POINTS**2)
        weights[self.data.sensors] = -misfit / self.data.deviation
        pulled = self.model.gradient(0, 0, [permeability.ravel().tolist()], weights.tolist())
        slope = slopes.reshape(len(theta), -1) @ np.array(pulled) - theta
        return -0.5 * float(misfit @ misfit + theta @ theta), slope

    def curvature(self, theta: np.ndarray) -> np.ndarray:
        """Gauss–Newton curvature JᵀJ + I, J by one ApplyJacobian per mode."""
        permeability, slopes = medium(theta)
        values = [permeability.ravel().tolist()]
        columns = [self.model.apply_jacobian(0, 0, values, slope.ravel().tolist()) for slope in slopes]
        jacobian = np.array(columns).T[self.data.sensors] / self.data.deviation
        return jacobian.T @ jacobian + np.eye(len(theta))


def find_mode(posterior: Posterior, steps: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """The mode and the curvature there, by Gauss–Newton with step halving from the prior's mean."""
    theta = np.zeros(len(WAVES))
    value, slope = posterior.density(theta)
    for _ in range(steps):
        move = np.linalg.solve(posterior.curvature(theta), slope)
        if slope @ move < 1e-2:  # the gain that is left, in log p
            break
        for _ in range(8):
            found, its_slope = posterior.density(theta + move)
            if found > value:
                break
            move = 0.5 * move
        theta, value, slope = theta + move, found, its_slope
    return theta, posterior.curvature(theta)


def chain(
    posterior: Posterior, start: np.ndarray, curvature: np.ndarray, steps: int, step: float,
    generator: np.random.Generator, report: int = 0,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """(samples, acceptance rate) of θ' = θ + ½ε² C ∇log p + ε C^½ ξ, C the inverse curvature; no burn-in: it starts at the mode."""
    covariance = np.linalg.inv(curvature)
    root = np.linalg.cholesky(covariance)

    def cost(there: np.ndarray, here: np.ndarray, slope: np.ndarray) -> float:
        """−log of the proposal's density q(there | here)."""
        gap = there - here - 0.5 * step**2 * covariance @ slope
        return float(gap @ curvature @ gap) / (2.0 * step**2)

    theta, (value, slope) = start, posterior.density(start)
    samples, accepted = [], 0
    for count in range(1, steps + 1):
        noise = generator.standard_normal(len(theta))
        proposal = theta + 0.5 * step**2 * covariance @ slope + step * root @ noise
        its_value, its_slope = posterior.density(proposal)
        ratio = its_value - value - cost(theta, proposal, its_slope) + cost(proposal, theta, slope)
        if np.log(generator.uniform()) < ratio:
            theta, value, slope, accepted = proposal, its_value, its_slope, accepted + 1
        samples.append(theta)
        if report and count % report == 0:
            print(f"step {count:4d}  accepted {accepted / count:.0%}  θ = {np.round(theta, 2)}", flush=True)
    return np.array(samples), accepted / steps


def main(address: str, steps: int = 400) -> None:
    """Draw a truth, observe it, recover it."""
    generator = np.random.default_rng(7)
    truth = generator.standard_normal(len(WAVES))
    posterior = Posterior(umbridge.HTTPModel(address, "darcy"), observe(truth, generator))
    mode, curvature = find_mode(posterior)
    print(f"mode      {np.round(mode, 2)}")
    samples, rate = chain(posterior, mode, curvature, steps, 1.0, generator, report=50)
    print(f"accepted  {rate:.0%}")
    print(f"truth     {np.round(truth, 2)}")
    print(f"posterior {np.round(samples.mean(axis=0), 2)} ± {np.round(samples.std(axis=0), 2)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/umbridge")
