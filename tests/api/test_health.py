"""Ready means served and verified; live means that the process answers; both in the words of both faces, also at its end."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import onnxruntime
import pytest

from api.app import create_app
from api.settings import Settings
from models.repository import SHIPPED, Repository
from models.runtime import DeviceUnavailable
from tests.broken_bundles import bit_flipped
from tests.conftest import ROOT, add_version, free_port, wait_until_served
from tests.raw_http import connect

NAME = "burgers"
LONGEST = 20.0  # seconds to start and end on a busy machine


def good(zoo: Path) -> None:
    shutil.copytree(SHIPPED / NAME, zoo / NAME)


def empty(zoo: Path) -> None:
    zoo.mkdir()


def missing(zoo: Path) -> None:
    """Nothing is there."""


def one_bad(zoo: Path) -> None:
    good(zoo)
    bit_flipped(add_version(zoo / NAME / "1", "2"))


def verdicts(zoo: Path, **settings: object) -> dict[str, httpx.Response]:
    """What probes are told."""
    app = create_app(Settings(zoo=zoo, reload_seconds=0, **settings))

    async def ask() -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://s") as link,
        ):
            paths = (
                "/healthz",
                "/readyz",
                "/v2/health/live",
                "/v2/health/ready",
                f"/v2/models/{NAME}/versions/2/ready",
            )
            return {path: await link.get(path) for path in paths}

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("fill", "status", "says"),
    [(good, 200, "ready"), (empty, 503, "empty"), (missing, 503, "empty"), (one_bad, 503, "incomplete")],
)
def test_ready_is_told_alike_by_both_faces_and_live_is_always_true(tmp_path, fill, status, says):
    fill(tmp_path / "zoo")
    found = verdicts(tmp_path / "zoo")
    assert {found[path].status_code for path in ("/healthz", "/v2/health/live")} == {200}
    assert {found[path].status_code for path in ("/readyz", "/v2/health/ready")} == {status}
    assert found["/readyz"].json()["status"] == says


def test_a_gpu_that_is_not_there_ends_the_start_unless_the_processor_may_stand_in(tmp_path):
    good(tmp_path / "zoo")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build may have a GPU")
    with pytest.raises(DeviceUnavailable, match="Expected CUDAExecutionProvider"):
        verdicts(tmp_path / "zoo", device="cuda")
    allowed = verdicts(tmp_path / "zoo", device="cuda", allow_cpu=True)
    assert allowed["/readyz"].json()["status"] == "ready"


def test_a_look_that_fails_ends_nothing_and_the_next_one_sees(tmp_path, monkeypatch, caplog):
    """A file system may fail under the hands."""
    looks, refresh, zoo = [], Repository.refresh, tmp_path / "zoo"

    def failing(repository: Repository) -> bool:
        looks.append(repository)
        if len(looks) == 2:
            raise OSError("stale file handle")
        return refresh(repository)

    async def ask() -> None:
        app = create_app(Settings(zoo=zoo, reload_seconds=0.02))
        transport = httpx.ASGITransport(app=app)
        async with asyncio.timeout(LONGEST), app.router.lifespan_context(app):
            while len(looks) < 3:
                await asyncio.sleep(0.01)
            good(zoo)
            async with httpx.AsyncClient(transport=transport, base_url="http://s") as link:
                while (await link.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.05)

    monkeypatch.setattr(Repository, "refresh", failing)
    empty(zoo)
    asyncio.run(ask())
    assert "refresh failed" in caplog.text and "stale file handle" in caplog.text


def test_what_is_wrong_is_told_per_model(tmp_path):
    one_bad(tmp_path / "zoo")
    found = verdicts(tmp_path / "zoo")
    body = found["/readyz"].json()
    assert body["models"] == [f"{NAME}/1"]
    assert list(body["broken"]) == [f"{NAME}/2"]
    assert "model.onnx: sha256" in body["broken"][f"{NAME}/2"]
    assert str(tmp_path) not in found["/readyz"].text
    assert found[f"/v2/models/{NAME}/versions/2/ready"].status_code == 503


def started(zoo: Path) -> tuple[subprocess.Popen, str]:
    port = free_port()
    variables = {"SURROGATE_ZOO": str(zoo), "SURROGATE_PORT": str(port), "SURROGATE_LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env=os.environ | variables)
    return process, f"http://127.0.0.1:{port}"


def test_a_connection_that_is_kept_alive_does_not_hold_up_the_end(tmp_path):
    good(tmp_path / "zoo")
    process, address = started(tmp_path / "zoo")
    wait_until_served(address)
    with connect(address) as link:
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("seconds", [0.2, 1.5])
def test_sigterm_during_the_start_ends_it(tmp_path, seconds):
    good(tmp_path / "zoo")
    process, _ = started(tmp_path / "zoo")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST) in (0, -signal.SIGTERM)
