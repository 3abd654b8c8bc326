"""Training losses; fields are (batch, member, x, y), every loss relative and per sample."""

import torch
from torch import Tensor


def _norm(field: Tensor) -> Tensor:
    return field.flatten(-2).norm(dim=-1)


def relative_l2(prediction: Tensor, truth: Tensor) -> Tensor:
    """‖p − u‖/‖u‖ of each sample and member."""
    return _norm(prediction - truth) / _norm(truth)


def relative_gradient(prediction: Tensor, truth: Tensor) -> Tensor:
    """‖∇(p − u)‖/‖∇u‖ by first differences (Sobolev training, arXiv 2402.09084)."""

    def size(field: Tensor) -> Tensor:
        squares = [field.diff(dim=axis).square().sum((-1, -2)) for axis in (-1, -2)]
        return torch.sqrt(squares[0] + squares[1])

    return size(prediction - truth) / size(truth)


def laplace_score(prediction: Tensor, scale: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
    """|p − u|/s + log(s/unit) with p held fixed: the scale learns the size of the error and does not move the mean.

    The deep-ensemble idea of Lakshminarayanan et al. (2017) with a Laplace law, because errors at interfaces have
    heavy tails. Boundary nodes, where error and scale vanish by construction, are left out.
    """
    inner = (..., slice(1, -1), slice(1, -1))
    error = (prediction - truth).detach().abs()[inner]
    spread = scale[inner]
    return error / spread + torch.log(spread / unit[inner[1:]])
