"""The README's generated parts: the tables of models and of their statements, from the shipped manifests."""

import json
import re
from pathlib import Path
from typing import Any

from models.repository import bundle_folders
from training.card import first_output, percent, table


def manifests(zoo: Path) -> list[dict[str, Any]]:
    """Every shipped manifest."""
    return [json.loads((folder / "manifest.json").read_text(encoding="utf-8")) for folder in bundle_folders(zoo)]


def models_table(documents: list[dict[str, Any]]) -> str:
    """One line per bundle with its headline figures."""
    rows = []
    for document in documents:
        report = document["report"]
        place = f"models/zoo/{document['name']}/{document['version']}/CARD.md"
        times = report["milliseconds"]
        rows.append([
            f"[{document['name']}]({place})", ", ".join(item["name"] for item in document["outputs"]),
            _accuracy(document), _coverage(report), _strongest(document),
            f"{times['full_answer']['median']:.0f} ms", f"{report['training']['seconds'] / 60:.0f} min",
        ])  # fmt: skip
    header = ["model", "outputs", "accuracy", "90 % band covers", "strongest statement", "full answer", "training"]
    return table(header, rows)


def _accuracy(document: dict[str, Any]) -> str:
    """The model's own headline scores, with the best baseline where there are any, or relative L2."""
    report = document["report"]
    shown = []
    for key in document.get("headline", ()):
        scores = report.get("comparison", {}).get(key)
        if scores is None:
            shown.append(f"{key}: {report['accuracy']['skill'][key]:.3f}")
            continue
        best = min(value for label, value in scores.items() if label != "surrogate")
        shown.append(
            f"{key}: {scores['surrogate']:.3f}, {percent(1 - scores['surrogate'] / best, 0)} below the best baseline"
        )
    return "; ".join(shown) or f"relative L2 {percent(first_output(report)['relative_l2'])}"


def _coverage(report: dict[str, Any]) -> str:
    shares = [share for c in report["coverage"].values() for share in c["coverage"]]
    low, high = min(shares), max(shares)
    return percent(low, 1) if high - low < 5e-4 else f"{percent(low, 1)}–{percent(high, 1)}"


def _strongest(document: dict[str, Any]) -> str:
    efficiency = document["report"].get("efficiency")
    if not efficiency:
        return "statistical"
    index = next(iter(efficiency.values()))
    return f"guaranteed: index {index['index_median']:.2f}, {index['violations']} of {index['cases']} violated"


def statements_table(documents: list[dict[str, Any]]) -> str:
    """One line per model and statement: its kind, and how sharp, or how often true, it was found to be."""
    rows = []
    for document in documents:
        audited = document["report"].get("efficiency")
        for offered in document["statements"]:
            norm, kind = offered["norm"], offered["kind"]
            figure = "–"
            if norm == "band":
                figure = f"covers {_coverage(document['report'])}"
            elif kind == "guaranteed" and audited:
                figure, audited = _index(audited), None  # the first bound is the one that is audited
            rows.append([document["name"], norm.replace("_", " "), kind, _truth(kind), figure])
    return table(["model", "norm", "kind", "against", "measured"], rows)


def _index(efficiency: dict[str, Any]) -> str:
    cases, violations = (sum(e[key] for e in efficiency.values()) for key in ("cases", "violations"))
    index = next(iter(efficiency.values()))
    return f"index {index['index_median']:.2f}, at most {index['index_max']:.2f}; {violations} of {cases} violated"


def _truth(kind: str) -> str:
    return {"guaranteed": "the equation", "guaranteed_vs_discrete": "the reference scheme", "none": "–"}.get(
        kind, "reference solver or data"
    )


def render(text: str, zoo: Path) -> str:
    """`text` with the generated parts replaced.

    Raises ValueError when a marker is missing.
    """
    documents = manifests(zoo)
    parts = {"models": models_table(documents), "statements": statements_table(documents)}
    for name, content in parts.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(\n<!-- end -->)"
        text, count = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"Expected one '<!-- generated: {name} -->' block in the README, got {count}. Restore it.")
    return text


def update(file: Path, zoo: Path) -> None:
    """Rewrite the README in place."""
    file.write_text(render(file.read_text(encoding="utf-8"), zoo), encoding="utf-8")
