"""The image's recipe and its locks; what is built is looked at by `make image-check`."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / ".ci" / "image").glob("requirements-*.txt"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVED = [path for path in LOCKS if "training" not in path.name]


def pins(text: str) -> dict[str, str]:
    return {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==([\w.+!]+)", text, flags=re.MULTILINE)}


def faults(text: str) -> list[str]:
    """Lines that are no pin with a hash; anything that names a place to download from."""
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    pinned = re.compile(r"[\w.-]+==[\w.+!]+( *;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+")
    return [line[:60] for line in entries if not pinned.fullmatch(line.strip()) or "://" in line]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_is_a_pin_with_hashes_and_no_address(path: Path):
    text = path.read_text(encoding="utf-8")
    assert faults(text) == []
    assert len(pins(text)) > 30


@pytest.mark.parametrize(
    "spoiled",
    ["numpy>=2\n", "numpy==2.4.6\n", "numpy @ https://example.org/numpy.whl\n", "--extra https://example.org\n"],
)
def test_a_loose_unhashed_or_addressed_line_of_a_lock_is_noticed(spoiled: str):
    assert faults(LOCKS[0].read_text(encoding="utf-8") + spoiled) != []


def stale(text: str, requirements: list[str]) -> list[str]:
    """Requirements that a lock does not meet."""
    locked = pins(text)
    return [
        requirement
        for requirement in requirements
        if (found := Requirement(requirement))
        and not found.specifier.contains(locked.get(canonicalize_name(found.name), "0"))
    ]


def declared(target: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    beside = ["redis", "tracing"]
    extras = {"cpu": ["cpu", *beside], "gpu": ["gpu", *beside], "training": ["cpu", "training", "data"]}[target]
    return project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_the_versions_that_the_project_asks_for(path: Path):
    wanted = declared(path.stem.removeprefix("requirements-"))
    text = path.read_text(encoding="utf-8")
    assert stale(text, wanted) == [], "run make locks"
    assert stale(re.sub(r"^numpy==.*", "numpy==1.0", text, flags=re.MULTILINE), wanted) != []


def unmet(text: str, packages: Iterable[str]) -> dict[str, list[str]]:
    """Third-party modules that these packages of ours import and that no distribution in a lock provides."""
    locked, providers = set(pins(text)), packages_distributions()
    found = {}
    for module in sorted(imported(packages) - set(sys.stdlib_module_names) - {"api", "models", "training"}):
        names = [canonicalize_name(name) for name in providers.get(module, [module])]
        if not locked & {*names, *(f"{name}-gpu" for name in names)}:
            found[module] = names
    return found


def imported(packages: Iterable[str]) -> set[str]:
    """Top-level modules; the client for notebooks is no part of the service."""
    found = set()
    for file in (file for name in packages for file in (ROOT / name).rglob("*.py") if file.name != "client.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_whatever_is_imported_is_locked(path: Path):
    ours = ("models", "training") if "training" in path.name else ("models", "api")
    text = path.read_text(encoding="utf-8")
    assert unmet(text, ours) == {}
    assert "scipy" in unmet(re.sub(r"^scipy==", "scipie==", text, flags=re.MULTILINE), ours)


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.stem)
def test_what_is_served_needs_no_torch_and_no_onnx(path: Path):
    assert {"torch", "onnx", "dask", "pip"} & set(pins(path.read_text(encoding="utf-8"))) == set()


def test_both_bases_are_pinned_by_digest_and_every_stage_stands_on_them():
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    stages = re.findall(r"^FROM (\S+) AS (\S+)", DOCKERFILE, flags=re.MULTILINE)
    names = {name for _, name in stages}
    assert {source for source, _ in stages} <= names | {"${PYTHON_IMAGE}"}
    assert {"cpu", "gpu", "training"} <= names


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True)


def test_hadolint_has_nothing_to_say(tmp_path: Path):
    done = hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    spoiled = tmp_path / "Dockerfile"
    spoiled.write_text(DOCKERFILE + "RUN sudo cd /tmp && pip install numpy\n", encoding="utf-8")
    assert hadolint(spoiled).returncode == 1


def test_what_is_sent_to_a_build_is_an_allow_list():
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "api", "models", "training", ".ci/image/requirements-*.txt"
    }  # fmt: skip


def test_a_directory_without_bundles_does_not_pass_the_check(tmp_path: Path):
    from models import __main__ as command
    from models.repository import SHIPPED

    assert command.main(["--zoo", str(tmp_path), "check"]) == 1
    assert command.main(["--zoo", str(tmp_path / "missing"), "check"]) == 1
    linked = tmp_path / "linked"
    shutil.copytree(SHIPPED / "site_weather", tmp_path / "zoo" / "site_weather")
    linked.symlink_to(tmp_path / "zoo")
    assert command.main(["--zoo", str(linked), "check"]) == 0  # KServe mounts its models as a link
