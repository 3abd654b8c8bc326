"""The README and the cards tell the truth: commands run, generated parts are current, routes are mentioned."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.settings import settings_table
from models.repository import SHIPPED
from tests.served_examples import run_page, skeleton
from training import readme

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")
PRINTED = 2e-3  # three printed digits, and other processors sum in another order


def numbers(text: str) -> list[float]:
    return [float(n) for n in NUMBER.findall(text)]


@pytest.mark.parametrize("page", readme.PAGES)
def test_generated_parts_are_current(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert readme.render(text, readme.PAGES[page], SHIPPED) == text


def test_a_stale_figure_is_noticed():
    stale = TEXT.replace("| model | outputs |", "| model | answers |")
    assert stale != TEXT
    assert readme.render(stale, ["models"], SHIPPED) != stale


def test_a_missing_marker_is_an_error():
    with pytest.raises(ValueError, match="generated: models"):
        readme.render("no markers", ["models"], SHIPPED)


def test_the_first_request_gives_the_answer_shown(server, tmp_path):
    blocks = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
    commands = next(body for kind, body in blocks if kind == "sh" and "curl" in body)
    shown = next(body for kind, body in blocks if kind == "text")
    script = commands.replace("http://127.0.0.1:8000", server)
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", shown)
    assert numbers(done.stdout) == pytest.approx(numbers(shown), rel=PRINTED)


def test_settings_table_is_current():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    shown = text.split("<!-- settings -->\n")[1].split("\n<!-- end of settings -->")[0]
    assert shown == settings_table()


def test_every_route_is_mentioned_in_the_readme_or_the_api_page(client):
    paths = client.get("/openapi.json").json()["paths"]
    for route in ("predict", "forecast", "explain", "jvp", "vjp", "card", "example", "/healthz", "/readyz", "/metrics"):
        assert any(route in path for path in paths), route


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z][a-z-]+)", TEXT)) - {"are"}:
        assert f"\n{target}:" in makefile, target


def test_every_link_to_a_file_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_of_the_client_runs_and_names_all_a_notebook_uses(server, tmp_path):
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + script.replace("http://127.0.0.1:8000", server)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "statistical" in done.stdout and (tmp_path / "answer.nc").is_file()
    tree = ast.parse((ROOT / "api" / "client.py").read_text(encoding="utf-8"))
    (model,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Model"]
    calls = [n.name for n in model.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_" and not n.decorator_list]
    assert [name for name in calls if f".{name}(" not in script] == []


def test_the_page_of_explanations_prints_what_it_says(server):
    printed, shown = run_page("explanations.md", server)
    assert skeleton(printed) == skeleton(shown)
    assert numbers(printed) == pytest.approx(numbers(shown), rel=PRINTED, abs=1e-5)  # the gap is rounding
