"""promtool: Debian's package `prometheus`, unpacked by `make tools`, or whatever is on the path."""

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

UNPACKED = ROOT / "runs" / "tools" / "usr" / "bin" / "promtool"


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run it; tests are skipped where there is none."""
    found = str(UNPACKED) if UNPACKED.exists() else shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here: `make tools` unpacks Debian's package `prometheus` (.ci/run does)")
    return subprocess.run([found, *arguments], input=text, capture_output=True, text=True, timeout=120)
