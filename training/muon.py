"""Muon: momentum whose update is orthogonalised, for matrices and stacks of matrices.

    G ← Nesterov momentum;  X ← G/‖G‖_F;  five times X ← aX + (bS + cS²)X, S = XXᵀ;  W ← W − lr·0.2√max(r, c)·X

Source: K. Jordan et al., "Muon" (2024); coefficients (3.4445, −4.7750, 2.0315) from there. torch.optim.Muon takes
single matrices only; here every leading axis (member, Fourier mode, real/imaginary part) is a stack.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(stack: Tensor, iterations: int = 5) -> Tensor:
    """Approximate U Vᵀ of each matrix (…, rows, columns)."""
    result = stack / (stack.flatten(-2).norm(dim=-1)[..., None, None] + 1e-12)
    tall = result.shape[-2] > result.shape[-1]
    result = result.mT if tall else result
    for _ in range(iterations):
        square = result @ result.mT
        result = _A * result + (_B * square + _C * square @ square) @ result
    return result.mT if tall else result


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(parameter.grad)
                update = orthogonalise(parameter.grad.add(velocity, alpha=group["momentum"]))
                size = 0.2 * max(parameter.shape[-2:]) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * size)
