"""What `fit` and `export` ask of an architecture.

A network holds all members of an ensemble. Raw fields come as (batch, *shape), as the graph takes them; during
training every member has samples of its own and prepared tensors are (member, batch, …).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from models.physical_model import Recipe

Fields = Mapping[str, Tensor]
Prepared = tuple[Tensor, ...]


class Network(nn.Module, ABC):
    """An ensemble in one module; `forward` takes the input fields in order and gives members and scale of each output."""

    @classmethod
    @abstractmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The network a recipe describes."""

    def absorb(self, inputs: Fields, outputs: Fields) -> None:
        """Take constants (means, climatologies) from training samples; called once, before the first step."""

    @abstractmethod
    def prepare(self, inputs: Fields, outputs: Fields) -> Prepared:
        """What training needs of each sample and does not depend on the weights; the sample axis comes first."""

    def augment(self, batch: Prepared, generator: torch.Generator) -> Prepared:  # noqa: ARG002
        """A random exact symmetry, or a random part, of each member's batch (member, batch, …)."""
        return batch

    @abstractmethod
    def loss(self, *batch: Tensor) -> Tensor:
        """Training loss of each member, shape (member,)."""

    @abstractmethod
    def errors(self, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Validation error of the members, averaged, and of the ensemble mean: (batch,) each."""

    def finish(self, *prepared: Tensor) -> None:
        """Choices made on validation samples once training is over."""
