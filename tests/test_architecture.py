"""The house: import directions, names, function lengths, nothing of torch while serving."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "models", "training")
LONGEST_P95 = 45
VAGUE = {"utils", "util", "helpers", "common", "core", "base", "misc"}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def function_lengths() -> list[tuple[int, str]]:
    lengths = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node) is not None
                first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
                lengths.append((node.end_lineno - first.lineno + 1, f"{path.relative_to(ROOT)}:{node.name}"))
    return sorted(lengths, reverse=True)


def test_functions_are_short_enough_to_read_at_once():
    lengths = function_lengths()
    print(*lengths[:10], sep="\n")
    assert np.percentile([length for length, _ in lengths], 95) <= LONGEST_P95


def test_no_module_has_a_vague_name():
    assert [path for path in sources() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_every_public_function_and_class_has_a_docstring():
    missing = []
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                missing.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert missing == []


def test_no_tracked_text_names_a_registry_or_a_machine_path():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    hosts, homes = ("index" + "-url", "find" + "-links"), ("work", "root", "home")
    pattern = re.compile("|".join([*hosts, *(rf"(?<![\w.])/{home}/\w" for home in homes)]))
    skipped = {".onnx", ".bin", ".npz", ".png"}
    found = []
    for name in listed:
        path = ROOT / name
        if path.suffix in skipped or not path.is_file() or path == Path(__file__):
            continue
        if pattern.search(path.read_text(encoding="utf-8")):
            found.append(name)
    assert found == []


def test_the_running_app_never_loads_torch_onnx_or_what_the_client_needs():
    code = (
        "import sys\n"
        "from api.app import create_app\nfrom api.settings import Settings\n"
        "from models import catalog\nfrom models.repository import SHIPPED, Repository\n"
        "from models.runtime import RuntimeOptions\n"
        "create_app(Settings()); [catalog.load(n) for n in catalog.names()]; Repository(SHIPPED, RuntimeOptions())\n"
        "print(sorted({'torch', 'onnx', 'dask', 'xarray', 'httpx', 'api.client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


VIOLATIONS = {
    "api reaches training": ("api/telemetry.py", "import training.muon\n", "know nothing of each other"),
    "models reaches torch in a function": (
        "models/statements.py", "def _lazy() -> None:\n    import torch\n", "never reaches torch"),
    "a shared module knows a physical model": (
        "models/fields.py", "from models.catalog.darcy import spec\n", "shared modules know no"),
    "a new shared module nobody listed": ("models/plumbing.py", "X = 1\n", "shared modules know no"),
    "ONNX Runtime outside the runtime": ("models/bundle.py", "import onnxruntime\n", "only models.runtime"),
    "the service uses the client": ("api/pages.py", "from api import client\n", "the client is no part"),
    "sibling physical models": (
        "models/catalog/other/__init__.py", "from models.catalog.darcy import spec\n", "are independent"),
}  # fmt: skip


@pytest.mark.parametrize("name", VIOLATIONS)
def test_import_contracts_turn_red_on_a_violation(name: str, tmp_path: Path):
    place, line, contract = VIOLATIONS[name]
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / place
    target.parent.mkdir(exist_ok=True)
    target.write_text((target.read_text(encoding="utf-8") if target.exists() else "") + line, encoding="utf-8")
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), done.stdout
