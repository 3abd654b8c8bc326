"""The start page in a real browser, where one is installed."""

import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "api" / "page"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=15000", "--dump-dom",
)  # fmt: skip
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium installed")


@pytest.fixture(scope="module")
def small_server():
    """The page before the small surrogates."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "tests.api.page_server", str(port)], cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(address)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def rendered(tmp_path):
    """A function from an address to the page's HTML once its scripts have run."""

    def render(address):
        command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path}", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return render


def message(html):
    return re.search(r'<p id="message"[^>]*>(.*?)</p>', html).group(1)


def section(html, name):
    return re.search(rf'<div id="{name}" class="panels">(.*?)</div>\s*(?:</section>|<p>)', html, flags=re.DOTALL).group(
        1
    )


@needs_browser
@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "drawn"),
    [
        ("decay", 1, 1, "<polygon"),  # a line in its band
        ("sites", 0, 4, "<polygon"),  # one fan per station; the history is part of it
        ("pond", 2, 6, 'class="map"'),  # two depths, their widths, their probabilities
    ],
)
def test_any_model_is_drawn_by_its_axes(small_server, rendered, model, inputs, outputs, drawn):
    html = rendered(f"{small_server}/?model={model}")
    assert message(html) == ""
    assert section(html, "inputs").count("<figure") == inputs
    assert section(html, "outputs").count("<figure") == outputs
    assert drawn in section(html, "outputs")
    assert 'class="statistical"' in html and "surrogate" in html


@needs_browser
def test_outside_the_domain_the_page_says_so_and_draws_no_fan(small_server, rendered):
    html = rendered(f"{small_server}/?model=sites&seed=1")
    assert 'class="outside"' in html and "too large" in html
    assert "<polygon" not in section(html, "outputs") and "<polyline" in section(html, "outputs")


@needs_browser
def test_valid_times_are_shown(small_server, rendered):
    html = rendered(f"{small_server}/?model=sites")
    assert "t = 1 h, 2025-11-24 17:00 UTC" in html and "11-24 16:00" in html


@needs_browser
def test_shipped_steady_model_is_shown_with_its_explanation(server, rendered):
    html = rendered(f"{server}/?model=darcy")
    assert message(html) == ""
    assert section(html, "outputs").count('class="map"') == 2
    assert 'class="guaranteed"' in html
    assert section(html, "explanation").count('class="map"') == 1


def test_page_asks_no_other_host():
    for file in PAGE.iterdir():
        addresses = set(re.findall(r"https?://[^\"'\s]+", file.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
