"""ONNX Runtime reports to its makers where it is not told otherwise: an identifier of the machine, and what it ran."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def kept_by_loading_it(home: Path, **told: str) -> list[str]:
    home.mkdir()
    without = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_", "CI"))}  # quiet on CI anyway
    code = "import models.runtime, time; time.sleep(0.5)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=without | {"HOME": str(home)} | told, check=True)
    return [str(path.relative_to(home)) for path in home.rglob("*onnxruntime*")]


def test_loading_the_runtime_makes_no_identifier_and_keeps_nothing_to_report(tmp_path: Path):
    assert kept_by_loading_it(tmp_path / "home") == []
    assert kept_by_loading_it(tmp_path / "red", ORT_DISABLE_TELEMETRY="0") != []
