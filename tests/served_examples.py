"""Inputs and answers of a running service as arrays, by way of /v1, and the examples of a page run against it."""

import base64
import contextlib
import io
import re
from pathlib import Path

import httpx
import numpy as np

from api.encodings import times

DOCS = Path(__file__).resolve().parent.parent / "docs"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


def inputs_of(document: dict) -> dict[str, np.ndarray]:
    """An example body's inputs; times in hours since 1970."""
    found = document["inputs"].items()
    return {name: np.array(times.decode(name, v) if isinstance(v, str) else v, dtype=float) for name, v in found}


def example(client: httpx.Client, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """An example as the service gives it, and as arrays."""
    document = client.get(f"/v1/models/{name}/example").json()
    return document, inputs_of(document)


def read(data: dict | None) -> np.ndarray | None:
    """A base64 array of /v1; None where none is claimed."""
    if data is None:
        return None
    raw = np.frombuffer(base64.b64decode(data["data"]["buffer"]), data["dtype"])
    return raw.reshape(data["shape"])


def predicted(client: httpx.Client, name: str, document: dict, **options: object) -> dict:
    """What POST /v1/models/{name}/predict says, in base64."""
    answer = client.post(f"/v1/models/{name}/predict", json={**document, "encoding": "base64", **options})
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()


def run_page(page: str, server: str) -> tuple[str, str]:
    """What the example of a page prints, and what the page says it prints."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    code = next(body for kind, body in blocks if kind == "python")
    shown = next(body for kind, body in blocks if kind == "text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace("http://127.0.0.1:8000", server), page, "exec"), {})  # noqa: S102
    return printed.getvalue(), shown


def numbers(text: str) -> list[float]:
    """Every number in a text."""
    return [float(n) for n in NUMBER.findall(text)]


def skeleton(text: str) -> str:
    """A text without its numbers."""
    return NUMBER.sub("#", text)
