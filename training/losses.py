"""Training losses; fields are (batch, member, *grid), `dimensions` counts the grid axes, every loss is per sample."""

import torch
from torch import Tensor


def norm(field: Tensor, dimensions: int) -> Tensor:
    """Euclidean norm over the grid."""
    return field.flatten(-dimensions).norm(dim=-1)


def relative_l2(prediction: Tensor, truth: Tensor, dimensions: int) -> Tensor:
    """‖p − u‖/‖u‖ of each sample and member."""
    return norm(prediction - truth, dimensions) / norm(truth, dimensions)


def relative_gradient(prediction: Tensor, truth: Tensor, dimensions: int) -> Tensor:
    """‖∇(p − u)‖/‖∇u‖ by first differences (Sobolev training, arXiv 2402.09084)."""
    axes = range(-dimensions, 0)

    def size(field: Tensor) -> Tensor:
        return torch.stack([norm(field.diff(dim=axis), dimensions) for axis in axes]).norm(dim=0)

    return size(prediction - truth) / size(truth)


def laplace_score(prediction: Tensor, scale: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
    """|p − u|/s + log(s/unit) with p held fixed: the scale learns the size of the error and does not move the mean.

    The deep-ensemble idea of Lakshminarayanan et al. (2017) with a Laplace law, because errors at interfaces have
    heavy tails.
    """
    error = (prediction - truth).detach().abs()
    return error / scale + torch.log(scale / unit)
