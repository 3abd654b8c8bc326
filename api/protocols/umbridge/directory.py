"""Which UM-Bridge models there are, and what each supports."""

from dataclasses import dataclass

from models.errors import NotOffered, UnknownModel
from models.fields import Field
from models.repository import Repository
from models.surrogate import Surrogate

HALF_WIDTH = ":half_width"
FEATURES = ("Evaluate", "Gradient", "ApplyJacobian", "ApplyHessian")
GRAPHS = {"Gradient": "vjp", "ApplyJacobian": "jvp"}


@dataclass(frozen=True)
class Model:
    """A surrogate under one of its UM-Bridge names."""

    name: str
    surrogate: Surrogate

    @property
    def is_band(self) -> bool:
        """Whether the outputs are half-widths of the band."""
        return self.name.endswith(HALF_WIDTH)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """Input vectors."""
        return self.surrogate.manifest.inputs

    @property
    def outputs(self) -> tuple[Field, ...]:
        """Output vectors: every field, or those with a band."""
        every = self.surrogate.manifest.outputs
        return tuple(item for item in every if item.name in self.surrogate.calibrations) if self.is_band else every

    @property
    def support(self) -> dict[str, bool]:
        """What it can be asked."""
        derivatives = () if self.is_band else self.surrogate.derivatives_offered
        return {feature: feature == "Evaluate" or GRAPHS.get(feature) in derivatives for feature in FEATURES}

    def require(self, feature: str) -> None:
        """Raises NotOffered."""
        if not self.support[feature]:
            offered = ", ".join(name for name, holds in self.support.items() if holds)
            raise NotOffered(f"{feature} of {self.name}", f"one of {offered}")


def names(repository: Repository) -> list[str]:
    """Every model: each surrogate, and its band where it has one."""
    listed = []
    for surrogate in repository.surrogates:
        listed.append(surrogate.manifest.name)
        if surrogate.calibrations:
            listed.append(surrogate.manifest.name + HALF_WIDTH)
    return listed


def find(repository: Repository, name: object, version: str | None = None) -> Model:
    """A model by its UM-Bridge name.

    Raises UnknownModel, UnknownVersion.
    """
    if not isinstance(name, str):
        raise UnknownModel("nothing" if name is None else repr(name)[:40], names(repository))
    surrogate = repository.get(name.removesuffix(HALF_WIDTH), version)
    if name.endswith(HALF_WIDTH) and not surrogate.calibrations:
        raise UnknownModel(name, names(repository))
    return Model(name, surrogate)
