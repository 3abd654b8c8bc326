"""A directory of bundles, <name>/<version>/: discover, load, look up, swap while serving.

What is served is one immutable table, replaced as a whole: a request sees the old or the new, never half of each, and
what it has in hand stays alive until it is done. A bundle that does not pass leaves the one before it serving.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from models import acceptance, catalog
from models.bundle import WEIGHTS_FILE, read, read_manifest
from models.errors import BrokenBundle, UnknownModel, UnknownVersion
from models.manifest import MANIFEST_FILE
from models.runtime import DeviceUnavailable, RuntimeOptions, Scheduler
from models.signature import Signers, signature_file, verify
from models.surrogate import Surrogate

SHIPPED = Path(__file__).parent / "zoo"
LOADERS = 2
_log = logging.getLogger(__name__)

State = tuple[tuple[str, int, int, int], ...]


def bundle_folders(root: Path) -> tuple[Path, ...]:
    """Folders holding a manifest, ordered by name and version."""
    found = [path.parent for path in root.glob(f"*/*/{MANIFEST_FILE}")]
    return tuple(sorted(found, key=lambda folder: (folder.parent.name, _version_key(folder.name))))


def _version_key(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (-1, version)


def load_surrogate(
    folder: Path, options: RuntimeOptions, scheduler: Scheduler | None = None, signers: Signers = ()
) -> Surrogate:
    """Verify and load one bundle; its physical model joins when the catalogue has one.

    With `signers`, one of them must have signed it. Raises BrokenBundle.
    """
    bundle = read(folder)
    if signers:
        verify(bundle, folder, signers)
    if (bundle.manifest.name, bundle.manifest.version) != (folder.parent.name, folder.name):
        raise BrokenBundle(MANIFEST_FILE, f"name and version {folder.parent.name}/{folder.name}", "others")
    physics = bundle.manifest.physical_model
    entry = catalog.load(physics) if physics in catalog.names() else None
    try:
        return Surrogate(bundle, entry, options, scheduler=scheduler)
    except (BrokenBundle, DeviceUnavailable):
        raise
    except Exception as error:  # facts and arrays may disagree in any way
        got = f"{type(error).__name__}: {error}"[:200]
        raise BrokenBundle(MANIFEST_FILE, "facts that fit the other files", got) from error


def least_memory(folder: Path) -> int:
    """Bytes a bundle takes at least: its files, and the weights once more for every graph that uses them.

    Raises BrokenBundle.
    """
    files = read_manifest(folder).document["files"]
    sizes = {name: int(facts["bytes"]) for name, facts in files.items()}
    graphs = sum(name.endswith(".onnx") for name in sizes)
    return int(sum(sizes.values()) + graphs * sizes.get(WEIGHTS_FILE, 0))


@dataclass(frozen=True)
class Entry:
    """One version that is served, as its files were when it was loaded, the bytes it takes and the seconds it took.

    The bytes are what the process grew by while it was loaded and tried (sessions pack weights and keep their activations),
    shared out by `least_memory` among bundles that were loaded side by side.
    """

    surrogate: Surrogate
    state: State
    memory: int
    seconds: float


Table = Mapping[tuple[str, str], Entry]


class Repository:
    """Surrogates by name and version; a broken bundle is reported and the rest are served.

    With a scheduler, bundles have to pass `models.acceptance` before they serve; those there at the start are measured
    by `measure`, later ones before they are swapped in. `limit` is the most bytes that bundles may take together;
    `signers` are those who may have made them, anybody where there are none.
    """

    def __init__(
        self,
        root: Path,
        options: RuntimeOptions,
        scheduler: Scheduler | None = None,
        limit: int | None = None,
        signers: Signers = (),
    ) -> None:
        self._signers = signers
        self._root, self._options, self._scheduler, self._limit = root, options, scheduler, limit
        self._table: Table = {}
        self._refused: dict[tuple[str, str], State] = {}
        self._unloaded: set[str] = set()
        self._changing = threading.Lock()
        self.broken: dict[str, str] = {}
        self.generation = 0
        self._is_serving = False
        self.refresh()
        self._is_serving = scheduler is not None
        self._broken_at_start = frozenset(self.broken)

    @property
    def surrogates(self) -> tuple[Surrogate, ...]:
        """The latest version of every model."""
        table = self._table
        return tuple({name: entry.surrogate for (name, _), entry in table.items()}.values())

    @property
    def memory(self) -> Mapping[str, int]:
        """Bytes taken by each model, all its versions together."""
        found: dict[str, int] = {}
        for (name, _), entry in self._table.items():
            found[name] = found.get(name, 0) + entry.memory
        return found

    @property
    def is_ready(self) -> bool:
        """Something is served, and no bundle that was there at the start is still refused.

        So a rollout with a bad bundle never takes over; a later swap that fails leaves what was there serving.
        """
        return bool(self._table) and self._broken_at_start.isdisjoint(self.broken)

    @property
    def load_seconds(self) -> Mapping[tuple[str, str], float]:
        """Every version that is served and how long it took to verify, load and try."""
        return {key: entry.seconds for key, entry in self._table.items()}

    @property
    def unloaded(self) -> frozenset[str]:
        """Models that were taken out of service by request."""
        return frozenset(self._unloaded)

    def versions(self, name: str) -> Mapping[str, Surrogate]:
        """All versions of one model.

        Raises UnknownModel.
        """
        table = self._table
        found = {version: entry.surrogate for (one, version), entry in table.items() if one == name}
        if not found:
            raise UnknownModel(name, sorted({one for one, _ in table}))
        return found

    def get(self, name: str, version: str | None = None) -> Surrogate:
        """One version, the latest by default.

        Raises UnknownModel, UnknownVersion.
        """
        table = self._table
        found = [entry for (one, known), entry in table.items() if one == name and version in (None, known)]
        if not found:
            raise UnknownVersion(name, version or "", self.versions(name))
        return found[-1].surrogate

    def refresh(self) -> bool:
        """Look at the directory again; whether anything changed. Loads, verifies and warms beside what is served."""
        with self._changing:
            folders = {(f.parent.name, f.name): f for f in bundle_folders(self._root)}
            folders = {key: folder for key, folder in folders.items() if key[0] not in self._unloaded}
            states = {key: _state(folder) for key, folder in folders.items()}
            stale = [k for k, s in states.items() if s not in (self._known_state(k), self._refused.get(k))]
            gone = [key for key in self._table if key not in folders]
            for key in [k for k in self._refused if k not in folders or states[k] == self._known_state(k)]:
                self._forgive(key)
            loaded = self._load({key: folders[key] for key in stale}, states)
            table = {key: entry for key, entry in self._table.items() if key not in gone} | loaded
            changed = bool(gone or loaded)
            if changed:
                self._table = dict(sorted(table.items(), key=lambda item: (item[0][0], _version_key(item[0][1]))))
                self.generation += 1
        return changed

    def load(self, name: str) -> None:
        """Put a model into service, again or anew.

        Raises BrokenBundle, UnknownModel.
        """
        self._unloaded.discard(name)
        for key in [key for key in self._refused if key[0] == name]:
            del self._refused[key]
        self.refresh()
        reasons = [reason for label, reason in self.broken.items() if label.split("/")[0] == name]
        if reasons:
            raise BrokenBundle(name, "a bundle that can be served", reasons[0])
        self.versions(name)

    def unload(self, name: str) -> None:
        """Take a model out of service, until it is loaded by request or the service starts anew.

        Raises UnknownModel.
        """
        self.versions(name)
        self._unloaded.add(name)
        self.refresh()

    def measure(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Try the derivatives of every bundle that has not been measured yet, and find its best batch sizes.

        One that fails is served no longer, and counts as one that was refused at the start. `goes_on` is asked before each.
        """
        for key, entry in self._table.items():
            if entry.surrogate.graphs["model"].batch is None and goes_on():
                try:
                    self._exchange(key, entry, _tuned(entry))
                except BrokenBundle as error:
                    if self._exchange(key, entry, None):
                        self._refuse(key, entry.state, error)
                        self._broken_at_start |= {"/".join(key)}

    def _exchange(self, key: tuple[str, str], entry: Entry, other: Entry | None) -> bool:
        """Put another in an entry's place, or none; not where it has been unloaded or replaced in the meantime."""
        with self._changing:
            if self._table.get(key) is not entry:
                return False
            changed = {**self._table, key: other}
            self._table = {each: found for each, found in changed.items() if found is not None}
            self.generation += 1
            return True

    def _known_state(self, key: tuple[str, str]) -> State | None:
        return self._table[key].state if key in self._table else None

    def _load(
        self, folders: Mapping[tuple[str, str], Path], states: Mapping[tuple[str, str], State]
    ) -> dict[tuple[str, str], Entry]:
        """Entries of the bundles that pass; sessions are opened side by side, measurements made one at a time."""
        before = _resident()
        with ThreadPoolExecutor(LOADERS, thread_name_prefix="loader") as pool:
            attempts = {key: pool.submit(self._accepted, folder, states[key]) for key, folder in folders.items()}
        opened = [attempt.result().memory for attempt in attempts.values() if attempt.exception() is None]
        grown = max(1.0, (_resident() - before) / max(1, sum(opened)))
        taken = sum(entry.memory for key, entry in self._table.items() if key not in folders)
        found: dict[tuple[str, str], Entry] = {}
        for key, attempt in attempts.items():
            label = "/".join(key)
            try:
                entry = attempt.result()
                entry = replace(entry, memory=round(grown * entry.memory))
                self._require_room(taken + entry.memory)
                if self._is_serving:
                    entry = _tuned(entry)
                    self._require_room(taken + entry.memory)
            except (BrokenBundle, DeviceUnavailable) as error:
                if not (isinstance(error, BrokenBundle) or self._is_serving):
                    raise
                self._refuse(key, states[key], error)
                continue
            found[key] = entry
            taken += entry.memory
            self._forgive(key)
            facts = {"bundle_sha256": entry.surrogate.manifest.digest[7:19], "load_seconds": round(entry.seconds, 3)}
            _log.info("bundle %s is served", label, extra=facts)
        return found

    def _accepted(self, folder: Path, state: State) -> Entry:
        began, memory = time.monotonic(), least_memory(folder)
        self._require_room(memory)
        surrogate = load_surrogate(folder, self._options, self._scheduler, self._signers)
        if self._scheduler is not None:
            acceptance.check(surrogate)
        return Entry(surrogate, state, memory, time.monotonic() - began)

    def _refuse(self, key: tuple[str, str], state: State, error: Exception) -> None:
        """Report a bundle as broken; it is tried again once its files have changed."""
        label = "/".join(key)
        self.broken[label] = str(error)
        self._refused[key] = state
        _log.error("bundle %s was not loaded: %s", label, error)

    def _forgive(self, key: tuple[str, str]) -> None:
        self.broken.pop("/".join(key), None)
        self._refused.pop(key, None)

    def _require_room(self, memory: int) -> None:
        if self._limit is not None and memory > self._limit:
            raise BrokenBundle("memory of all bundles", f"at most {self._limit} bytes", f"{memory} with this one")


def _tuned(entry: Entry) -> Entry:
    """Measured for its best batches, and accounted with the buffers that those runs leave behind.

    Raises BrokenBundle.
    """
    before = _resident()
    acceptance.tune(entry.surrogate)
    return replace(entry, memory=entry.memory + max(0, _resident() - before))


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _state(folder: Path) -> State:
    """What tells that files have changed, without reading them: copies may keep the time of the original, but not ctime."""
    found = []
    with contextlib.suppress(OSError):  # files may go while we look; the next look sees it
        for path in (*sorted(folder.iterdir()), *signature_file(folder).parent.glob(signature_file(folder).name)):
            status = path.lstat()
            found.append((path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)
