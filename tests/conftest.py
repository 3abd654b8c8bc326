"""Shared fixtures: the shipped zoo, a tiny pipeline run once, a real server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from jaxtyping import install_import_hook

# shapes and types in signatures are checked at run time, in tests only; models are imported after this line
install_import_hook(("models.numerics", "models.catalog", "models.uncertainty", "models.validity"), "beartype.beartype")

from models import bundle  # noqa: E402
from models.repository import SHIPPED, bundle_folders, load_surrogate  # noqa: E402
from models.runtime import RuntimeOptions  # noqa: E402
from models.surrogate import Surrogate  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
# niced: others may want the cores
BUILD_SECONDS = 1200


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parameters come from what exists: every catalogue entry, every shipped bundle."""
    from models import catalog

    if "model_name" in metafunc.fixturenames:
        metafunc.parametrize("model_name", catalog.names())
    if "bundle_folder" in metafunc.fixturenames:
        folders = bundle_folders(SHIPPED)
        metafunc.parametrize("bundle_folder", folders, ids=[f"{f.parent.name}-{f.name}" for f in folders])


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20261123)


class TinyBuilds:
    """The whole pipeline at the tiny preset, as a user runs it, once per model; one after the other, in the background."""

    def __init__(self, runs: Path) -> None:
        self._runs, self._worker, self._begun = runs, ThreadPoolExecutor(1), dict[str, Future[Path]]()
        self._process: subprocess.Popen[str] | None = None

    def begin(self, name: str) -> Future[Path]:
        """Build it when those before have been."""
        if name not in self._begun:
            self._begun[name] = self._worker.submit(self._build, name)
        return self._begun[name]

    def __call__(self, name: str) -> Path:
        """The folder of the finished run."""
        return self.begin(name).result()

    def _build(self, name: str) -> Path:
        command = ["nice", "-n", "4", sys.executable, "-m", "training", "build", name, "--preset", "tiny"]
        with subprocess.Popen(
            [*command, "--runs", str(self._runs)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as self._process:  # fmt: skip
            _, errors = self._process.communicate(timeout=BUILD_SECONDS)
        assert self._process.returncode == 0, errors[-3000:]
        return self._runs / name / "tiny"

    def end(self) -> None:
        """Leave what nobody waits for any more."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:
            self._process.terminate()


@pytest.fixture(scope="session")
def tiny_builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyBuilds]:
    builds = TinyBuilds(tmp_path_factory.mktemp("runs"))
    yield builds
    builds.end()


def models_built_for(item: pytest.Function) -> Iterator[str]:
    """Whose tiny runs a test needs."""
    if "tiny_runs" in item.fixturenames:
        yield "darcy"
    elif "tiny_builds" in item.fixturenames:
        yield item.callspec.params["model_name"]


@pytest.fixture(scope="session", autouse=True)
def builds_ahead(request: pytest.FixtureRequest) -> None:
    """Builds take minutes, mostly on one core: they begin with the session, and tests that need none go on beside them."""
    for item in request.session.items:
        for name in models_built_for(item):
            request.getfixturevalue("tiny_builds").begin(name)


@pytest.fixture(scope="session")
def tiny_runs(tiny_builds: TinyBuilds) -> Path:
    """The tiny run of darcy."""
    return tiny_builds("darcy")


@pytest.fixture(scope="session")
def darcy() -> Surrogate:
    """The shipped darcy surrogate, latest version."""
    return load_surrogate(max(SHIPPED.glob("darcy/*")), RuntimeOptions())


def add_version(folder: Path, version: str, **changes: str) -> Path:
    """The bundle in `folder` once more under another version, or in its own place with other facts."""
    content = bundle.read(folder)
    document = {**content.manifest.document, "version": version, **changes}
    for key in ("files", "format"):
        document.pop(key)
    target = folder.parent / version
    bundle.write(target, document, content.files)
    return target


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_served(address: str) -> None:
    """Until the service answers."""
    for _ in range(START_SECONDS * 10):
        try:
            if httpx.get(f"{address}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the service did not start")


@contextmanager
def serving(zoo: Path, **settings: str) -> Iterator[str]:
    """A real uvicorn process on a free port; yields its address."""
    port = free_port()
    variables = {"SURROGATE_ZOO": str(zoo), "SURROGATE_PORT": str(port), "SURROGATE_LOG_LEVEL": "warning", **settings}
    process = subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env={**os.environ, **variables})
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The service on the shipped zoo, with limits small enough to hit."""
    limits = {"MAX_BODY_BYTES": 2 * 2**20, "MAX_BATCH": 4, "MAX_VALUES": 4 * 2**20}
    with serving(SHIPPED, **{f"SURROGATE_{name}": str(value) for name, value in limits.items()}) as address:
        yield address


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client
