"""Where worker processes find a physical model: the catalogue, or a recipe file of a user's own store."""

from pathlib import Path

from models import catalog
from models.physical_model import PhysicalModel

RECIPE_FILE = "weatherbench:"


def load(reference: str) -> PhysicalModel:
    """The model of a catalogue name, or of `weatherbench:` and the path of a recipe file.

    Raises UnknownModel, and ValueError when the recipe or its store is refused.
    """
    if reference.startswith(RECIPE_FILE):
        from training import weatherbench

        return weatherbench.load(Path(reference.removeprefix(RECIPE_FILE)))
    return catalog.load(reference)


def reference(model: PhysicalModel) -> str:
    """What `load` takes to give this model again, in another process."""
    return model.source or model.name
