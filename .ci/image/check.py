"""Run an image as a cluster would and look at it: .ci/image/check.py IMAGE [PAGE]. The exit status is the number of failures.

What was seen is written between the markers of PAGE, if one is named.

Nothing has a network: the service is asked from inside its own network namespace. Needs root, podman, runc, nsenter.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

STATE = Path(__file__).resolve().parents[2] / "runs" / "image"
TOOLS = {"CONTAINERS_STORAGE_CONF": f"{STATE}/storage.conf", "CONTAINERS_CONF": f"{STATE}/containers.conf"}
USER, GRACE, START = 10001, 50, 120
MEASURING = 20  # seconds after the start in which batches are tried: memory is highest then
START_MARK, END_MARK = "<!-- generated: image -->", "<!-- end -->"
UNPRIVILEGED = ["--network", "none", "--user", f"{USER}:{USER}", "--cap-drop", "ALL", "--pull", "never"]
CONFINED = [
    *UNPRIVILEGED, "--read-only", "--tmpfs", "/tmp:size=128m", "--security-opt", "no-new-privileges",
    "--memory", "2g", "--cpus", "2", "--pids-limit", "256",
]  # fmt: skip

OWN_USER = f"import os; assert (os.getuid(), os.getgid()) == ({USER}, {USER}), os.getuid()"
NO_TORCH = """
import importlib.util
found = [name for name in ("torch", "onnx", "pip") if importlib.util.find_spec(name)]
assert not found, found
"""
NO_COMPILER = """
import shutil
found = [tool for tool in ("cc", "gcc", "g++", "c++", "clang", "tcc", "ld", "as", "make") if shutil.which(tool)]
assert not found, found
"""
NOTHING_WRITABLE = """
import os
found = [path for top in ("/app", "/opt/venv") for path, _, names in os.walk(top)
         if os.access(path, os.W_OK) or any(os.access(f"{path}/{n}", os.W_OK) for n in names if not os.path.islink(f"{path}/{n}"))]
assert not found, found[:5]
"""
CONFINEMENT = """
import errno, pathlib
status = dict(line.split(":\\t") for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2"), status
try:
    open("/written", "w")
except OSError as error:
    assert error.errno == errno.EROFS, error
else:
    raise AssertionError("the root can be written")
"""
ASK = """
import json, sys, time
from urllib.request import Request, urlopen

def call(path, body=None, **headers):
    given = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    with urlopen(Request("http://127.0.0.1:8080" + path, given, headers), timeout=30) as answer:
        return answer.read()

started = time.monotonic()
while True:
    try:
        call("/readyz")
        break
    except OSError:
        assert time.monotonic() < started + float(sys.argv[1]), "not ready"
        time.sleep(0.02)
ready = time.time()
example = json.loads(call("/v1/models/darcy/example"))
answer = json.loads(call("/v1/models/darcy/predict", example))
kinds = sorted({statement["kind"] for statement in answer["statements"]})
picture = call("/v1/models/darcy/predict", example, Accept="image/png")
print(json.dumps({"ready": ready, "kinds": kinds, "picture": picture[:4].hex()}))
"""


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command, with the storage and the limits of `.ci/image/engine`.

    Through files: what watches over a container keeps a pipe open for as long as the container lives.
    """
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        status = subprocess.run(command, stdout=output, stderr=errors, env=os.environ | TOOLS, cwd=STATE).returncode
        texts = [file.seek(0) or file.read() for file in (output, errors)]
    if check and status:
        told = [line for line in texts[1].splitlines() if "level=warning" not in line]
        raise AssertionError(f"exit status {status}: " + " ".join(told[-3:]))
    return subprocess.CompletedProcess(command, status, *texts)


def inside(image: str, code: str, options: list[str] = CONFINED) -> str:
    """What Python code prints in a container of its own."""
    return run("podman", "run", "--rm", *options, "--entrypoint", "python", image, "-c", code).stdout


def inspect(what: str) -> dict[str, Any]:
    """Everything about an image or container."""
    found: dict[str, Any] = json.loads(run("podman", "inspect", what).stdout)[0]
    return found


def own_user(image: str) -> str:
    """The image itself names a user that is not root, by number."""
    named = inspect(image)["Config"]["User"]
    assert named == f"{USER}:{USER}", named
    return inside(image, OWN_USER)


def description(image: str) -> str:
    """Labels, signal, exec form, health check."""
    found = inspect(image)
    config = found["Config"]
    wanted = {f"org.opencontainers.image.{name}" for name in ("version", "revision", "source", "licenses")}
    assert wanted <= set(config["Labels"]), config["Labels"]
    assert config["StopSignal"] in ("SIGTERM", "15"), config["StopSignal"]
    assert config["Entrypoint"][0] == "python", config["Entrypoint"]
    assert found["Healthcheck"]["Test"][0] == "CMD", found["Healthcheck"]
    return ""


def bundles(image: str) -> str:
    """Every bundle passes `python -m models check` without a network."""
    done = run("podman", "run", "--rm", *CONFINED, "--entrypoint", "python", image, "-m", "models", "check")
    return f"{len(done.stdout.splitlines())} bundles"


def memory_is_limited(image: str) -> str:
    """A process that takes more memory than the limit is ended."""
    limited = [*UNPRIVILEGED, "--memory", "200m", "--entrypoint", "python"]
    done = run("podman", "run", "--rm", *limited, image, "-c", "bytearray(2**29)", check=False)
    assert done.returncode == 137, done.returncode
    return ""


def service(image: str) -> str:
    """The service starts, answers, draws, says it is healthy, and ends by itself when it is told to."""
    name = run("podman", "create", *CONFINED, "--env", "SURROGATE_HOST=127.0.0.1", image).stdout.strip()
    try:
        begun = time.time()
        run("podman", "start", name)
        process = str(inspect(name)["State"]["Pid"])
        done = run("nsenter", "--target", process, "--net", sys.executable, "-c", ASK, str(START))
        answer = json.loads(done.stdout)
        assert "guaranteed" in answer["kinds"], answer
        assert answer["picture"] == "89504e47", answer
        run("podman", "exec", name, *inspect(image)["Healthcheck"]["Test"][1:])
        time.sleep(MEASURING)
        assert inspect(name)["State"]["Running"], "ended by its memory limit"
        peak = memory_peak(process)
        told = time.time()
        run("podman", "stop", "--time", str(GRACE), name)
        seconds = time.time() - told
        status = inspect(name)["State"]["ExitCode"]
        assert status == 0, f"exit status {status}"
        log = run("podman", "logs", name)
        assert "telemetry" not in log.stdout + log.stderr, "a library wants to report to its makers"
    finally:
        run("podman", "rm", "--force", name, check=False)
    return f"ready after {answer['ready'] - begun:.1f} s, ended after {seconds:.1f} s, at most {peak} MiB"


def memory_peak(process: str) -> str:
    """Most resident memory so far, MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return f"{int(next(line for line in status if line.startswith('VmHWM')).split()[1]) / 1024:.0f}"


CHECKS: dict[str, Callable[[str], str]] = {
    "labels, signal, exec form, health check": description,
    "its own user": own_user,
    "no torch, no onnx, no pip": lambda image: inside(image, NO_TORCH),
    "no compiler": lambda image: inside(image, NO_COMPILER),
    "nothing of the program can be written": lambda image: inside(image, NOTHING_WRITABLE, UNPRIVILEGED),
    "no capabilities, no new privileges, seccomp, read-only root": lambda image: inside(image, CONFINEMENT),
    "memory limit": memory_is_limited,
    "bundles": bundles,
    "the service": service,
}


def publish(page: Path, image: str, seen: dict[str, str]) -> None:
    """Write what was seen, with the image's size, where the page has its markers."""
    machine = f"{time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores, revision {revision(image)}"
    rows = "\n".join(f"| {name} | {text or 'as it should be'} |" for name, text in seen.items())
    table = f"Measured {machine}: {size(image)} unpacked.\n\n| looked at | seen |\n| --- | --- |\n{rows}\n"
    before, rest = page.read_text(encoding="utf-8").split(f"{START_MARK}\n")
    page.write_text(f"{before}{START_MARK}\n{table}{END_MARK}{rest.partition(END_MARK)[2]}", encoding="utf-8")


def size(image: str) -> str:
    """Of all layers."""
    return f"{inspect(image)['Size'] / 1e6:.0f} MB"


def revision(image: str) -> str:
    """The commit that the image says it was built from."""
    return str(inspect(image)["Config"]["Labels"]["org.opencontainers.image.revision"])[:12]


def main() -> int:
    """Look at one image."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended and removed
    image, seen, failed = sys.argv[1], {}, 0
    for name, check in CHECKS.items():
        try:
            seen[name] = check(image).strip()
            print(f"ok      {name}: {seen[name]}".rstrip(": "), flush=True)
        except (AssertionError, KeyError, ValueError) as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
    print(f"{image}: {size(image)} unpacked, {failed} of {len(CHECKS)} checks failed")
    if len(sys.argv) > 2 and not failed:
        publish(Path(sys.argv[2]).resolve(), image, seen)
    return failed


if __name__ == "__main__":
    sys.exit(main())
