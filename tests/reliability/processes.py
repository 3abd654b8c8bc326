"""The service as a process that can be killed, confined and watched."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT, free_port, wait_until_served

MEBIBYTE = 2**20
STILL, SETTLING = 4, 60.0  # seconds


@dataclass(frozen=True)
class Service:
    """A running service; `process` is the interpreter itself."""

    address: str
    process: subprocess.Popen

    @property
    def resident(self) -> int:
        """Resident memory in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def settle(self) -> None:
        """Wait until batches have been tried and allocators have settled: memory has stood still for some seconds."""
        still, last, end = 0, 0, time.monotonic() + SETTLING
        while still < STILL and time.monotonic() < end:
            time.sleep(1.0)
            now = self.resident
            still, last = (still + 1 if abs(now - last) < MEBIBYTE else 0), now

    @property
    def open_files(self) -> int:
        """File descriptors in use."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None


@contextmanager
def running(
    zoo: Path,
    settings: Mapping[str, object] | None = None,
    *,
    prefix: tuple[str, ...] = (),
    module: str = "api",
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    output: Path | None = None,
) -> Iterator[Service]:
    """`python -m module` behind `prefix`, its output in a file; killed in the end unless it has ended."""
    port = port or free_port()
    own = {"SURROGATE_ZOO": str(zoo), "SURROGATE_PORT": str(port), "SURROGATE_LOG_LEVEL": "warning"}
    own |= {f"SURROGATE_{name}": str(value) for name, value in (settings or {}).items()}
    command = [*prefix, sys.executable, "-m", module]
    with (output or Path(os.devnull)).open("ab") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **own, **(environment or {})}, stdout=sink, stderr=sink
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_served(address)
            yield Service(address, process)
        finally:
            process.kill()
            process.wait(20)


def health(address: str, times: int) -> list[float]:
    """Seconds that health took, asked so often by a process of its own."""
    command = [sys.executable, "-m", "tests.reliability.asking", address, str(times)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return list(json.loads(done.stdout))
