"""The suite's report: a table of what was tried, what was seen, and whether it held."""

import os
import platform
import re
import shutil
import time
from pathlib import Path

import pytest

from models.repository import SHIPPED

FOLDER = "tests/reliability/"
BLOCK = re.compile(r"(<!-- generated: faults -->\n).*?(\n<!-- end -->)", re.DOTALL)


def pytest_addoption(parser):
    parser.addoption("--into", type=Path, default=None, help="Markdown file whose generated block gets the results")
    parser.addoption("--soak-seconds", type=float, default=300.0, help="length of the soak")


def pytest_terminal_summary(terminalreporter, config):
    head = ["| what happened | held | seen | seconds |", "| --- | --- | --- | --- |"]
    rows = []
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if FOLDER not in report.nodeid or (report.when != "call" and outcome == "passed"):
                continue
            name = re.sub(r"^.*::test_", "", report.nodeid).replace("_", " ")
            seen = "; ".join(str(value) for _, value in report.user_properties)
            held = {"passed": "yes", "failed": "**no**", "skipped": "not tried"}[outcome]
            rows.append(f"| {name} | {held} | {seen} | {report.duration:.0f} |")
    if not rows:
        return
    machine = f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores, Python {platform.python_version()}."
    text = machine + "\n\n" + "\n".join(head + rows)
    terminalreporter.write_line("\n" + text)
    target = config.getoption("--into")
    if target is not None:
        page = target.read_text(encoding="utf-8")
        target.write_text(BLOCK.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")


@pytest.fixture
def seen(record_property):
    """Keep a fact for the report."""
    return lambda text: record_property("seen", text)


@pytest.fixture
def zoo(tmp_path) -> Path:
    """A directory of two of the shipped models, the test's own."""
    for name in ("burgers", "site_weather"):
        shutil.copytree(SHIPPED / name, tmp_path / "zoo" / name)
    return tmp_path / "zoo"
