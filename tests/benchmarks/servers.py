"""The servers compared: how each is started, called, and stopped; where its environment is."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from models.runtime import available_cores
from tests.benchmarks import calls
from tests.benchmarks.calls import Call

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
START_SECONDS, STOP_SECONDS = 90, 20
LAST_CHARACTERS = 1000  # of what a server printed that did not start
PAGE = os.sysconf("SC_PAGE_SIZE")


class Unusable(RuntimeError):
    """A server that cannot be measured, and why."""


@dataclass(frozen=True)
class Server:
    """A row of the table.

    `program` is a file in peers/, empty for our own service. `packages` are what its environment holds (first the one
    whose version is told); without any it runs in the environment of this program.
    """

    key: str
    title: str
    wire: str
    call: Callable[[str, np.ndarray], Call]
    ready: str
    program: str = ""
    packages: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        """Name of the folder of its virtual environment."""
        return self.program.removeprefix("with_").removesuffix(".py")

    def install(self, peers: Path) -> str:
        """The commands that make its environment."""
        folder = peers / self.environment
        return f"python3 -m venv {folder} && {folder}/bin/pip install {' '.join(self.packages)}"


ONNX = "onnxruntime==1.32.0"
SERVERS = (
    Server("ours", "ours, Open Inference Protocol", "binary", calls.inference_binary, "/readyz"),
    Server("ours_npy", "ours, /v1", "NPY", calls.npy, "/readyz"),
    Server("ours_full", "ours, /v1, full answer", "base64 JSON", calls.full_answer, "/readyz"),
    Server("plain", "plain FastAPI, no batching", "binary", calls.raw_bytes, "/openapi.json", "with_fastapi.py"),
    Server(
        "triton", "Triton (PyTriton)", "binary", calls.inference_binary, "/v2/models/{graph}/ready",
        "with_pytriton.py", ("nvidia-pytriton==0.5.14", ONNX),
    ),
    Server(
        "mlserver", "MLServer", "JSON", calls.inference_json, "/v2/models/{graph}/ready",
        "with_mlserver.py", ("mlserver==1.7.1", "uvloop==0.21.0", ONNX),
    ),
    Server(
        "tesseract", "Tesseract, no batching", "base64 JSON", calls.tesseract, "/health",
        "with_tesseract.py", ("tesseract-core[runtime]==1.15.0", ONNX),
    ),
    Server(
        "bentoml", "BentoML", "JSON", calls.nested_batch, "/readyz", "with_bentoml.py", ("bentoml==1.4.39", ONNX),
    ),
    Server(
        "litserve", "LitServe", "JSON", calls.nested_field, "/health", "with_litserve.py", ("litserve==0.2.19", ONNX),
    ),
)  # fmt: skip


def python_of(server: Server, peers: Path) -> Path:
    """Its interpreter.

    Raises Unusable when its environment is missing.
    """
    if not server.packages:
        return Path(sys.executable)
    python = (peers / server.environment / "bin" / "python").absolute()  # not resolved: it would leave the environment
    if not python.exists():
        raise Unusable(f"not installed: `{server.install(peers)}`")
    return python


def version_of(server: Server, peers: Path) -> str:
    """Name and version of the package measured, and of its ONNX Runtime; empty for what runs in this environment."""
    if not server.packages:
        return ""
    names = [server.packages[0].split("=")[0].split("[")[0], "onnxruntime"]
    code = f"from importlib.metadata import version; print(*[f'{{n}} {{version(n)}}' for n in {names}], sep=' on ')"
    done = subprocess.run([python_of(server, peers), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def running(server: Server, model: Path, peers: Path) -> Iterator[tuple[str, int]]:
    """(address, process group) of a server that has one graph, or for ours the zoo beside it; stopped afterwards.

    Raises Unusable when it does not start.
    """
    port, python = free_port(), python_of(server, peers)
    command = [str(python), str(PEERS / server.program), str(model.resolve()), str(port)]
    told = {"THREADS": str(available_cores())}
    if not server.program:
        command = [str(python), "-m", "api"]
        told = {"SURROGATE_ZOO": str(model.resolve().parent / "zoo"), "SURROGATE_PORT": str(port)}
        told["SURROGATE_LOG_LEVEL"] = "warning"
    # a folder of its own: Tesseract writes a log per request into the one it is started in
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command, cwd=folder if server.program else ROOT, env={**os.environ, **told}, start_new_session=True,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait(process, f"http://127.0.0.1:{port}" + server.ready.format(graph=model.stem), log)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            _stop(process)


def _wait(process: subprocess.Popen, address: str, log) -> None:
    for _ in range(START_SECONDS * 5):
        if process.poll() is not None:
            raise Unusable(f"did not start: {_end_of(log)}")
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise Unusable(f"not ready after {START_SECONDS} s: {_end_of(log)}")


def _end_of(log) -> str:
    log.seek(0)
    return log.read()[-LAST_CHARACTERS:].decode(errors="replace")


def _stop(process: subprocess.Popen) -> None:
    """The process first, so that it can stop its own; then what is left of its group."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def resident_mebibytes(group: int) -> float:
    """Resident memory of all processes of a group."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                pages += int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError):  # it ended meanwhile
            continue
    return pages * PAGE / 2**20


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
