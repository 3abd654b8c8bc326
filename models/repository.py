"""A directory of bundles, <name>/<version>/: discover, load, look up."""

import logging
from collections.abc import Mapping
from pathlib import Path

from models import catalog
from models.bundle import MANIFEST_FILE, read
from models.errors import BrokenBundle, UnknownModel, UnknownVersion
from models.runtime import RuntimeOptions, Scheduler
from models.surrogate import Surrogate

SHIPPED = Path(__file__).parent / "zoo"
_log = logging.getLogger(__name__)


def bundle_folders(root: Path) -> tuple[Path, ...]:
    """Folders holding a manifest, ordered by name and version."""
    found = [path.parent for path in root.glob(f"*/*/{MANIFEST_FILE}")]
    return tuple(sorted(found, key=lambda folder: (folder.parent.name, _version_key(folder.name))))


def _version_key(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (-1, version)


def load_surrogate(folder: Path, options: RuntimeOptions, scheduler: Scheduler | None = None) -> Surrogate:
    """Verify and load one bundle; its physical model joins when the catalogue has one.

    Raises BrokenBundle.
    """
    bundle = read(folder)
    if (bundle.manifest.name, bundle.manifest.version) != (folder.parent.name, folder.name):
        raise BrokenBundle(MANIFEST_FILE, f"name and version {folder.parent.name}/{folder.name}", "others")
    physics = bundle.manifest.physical_model
    entry = catalog.load(physics) if physics in catalog.names() else None
    return Surrogate(bundle, entry, options, scheduler=scheduler)


class Repository:
    """Surrogates by name and version; a broken bundle is reported and the rest are served."""

    def __init__(self, root: Path, options: RuntimeOptions, scheduler: Scheduler | None = None) -> None:
        self._surrogates: dict[str, dict[str, Surrogate]] = {}
        self.broken: dict[str, str] = {}
        for folder in bundle_folders(root):
            label = f"{folder.parent.name}/{folder.name}"
            try:
                loaded = load_surrogate(folder, options, scheduler)
            except BrokenBundle as error:
                self.broken[label] = str(error)
                _log.error("bundle %s was not loaded: %s", label, error)
                continue
            self._surrogates.setdefault(loaded.manifest.name, {})[loaded.manifest.version] = loaded

    @property
    def surrogates(self) -> tuple[Surrogate, ...]:
        """The latest version of every model."""
        return tuple(self.get(name) for name in sorted(self._surrogates))

    def versions(self, name: str) -> Mapping[str, Surrogate]:
        """All versions of one model.

        Raises UnknownModel.
        """
        if name not in self._surrogates:
            raise UnknownModel(name, sorted(self._surrogates))
        return self._surrogates[name]

    def get(self, name: str, version: str | None = None) -> Surrogate:
        """One version, the latest by default.

        Raises UnknownModel, UnknownVersion.
        """
        versions = self.versions(name)
        if version is None:
            version = max(versions, key=_version_key)
        if version not in versions:
            raise UnknownVersion(name, version, versions)
        return versions[version]
