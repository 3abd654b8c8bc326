"""Exact symmetries of the square, as augmentation."""

import torch
from torch import Tensor


def turn_square(fields: Tensor, elements: Tensor) -> Tensor:
    """Apply to each member's fields (member, …, y, x) one of the eight symmetries, numbered 0 … 7."""
    return torch.stack([_turn(field, int(e)) for field, e in zip(fields, elements, strict=True)])


def _turn(field: Tensor, element: int) -> Tensor:
    if element & 1:
        field = field.flip(-1)
    if element & 2:
        field = field.flip(-2)
    return field.mT if element & 4 else field
