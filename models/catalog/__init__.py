"""The catalogue: one folder per physical model, discovered, never listed."""

import importlib
import pkgutil

from models.errors import UnknownModel
from models.physical_model import PhysicalModel


def names() -> tuple[str, ...]:
    """Names of every physical model, that is, of every folder beside this file."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str) -> PhysicalModel:
    """Import one physical model.

    Raises UnknownModel when there is no such folder.
    """
    if name not in names():
        raise UnknownModel(name, names())
    module = importlib.import_module(f"{__name__}.{name}")
    model: PhysicalModel = module.physical_model
    return model
