"""Generated parts of README and docs/calibration.md: tables of models, statements, bands, from the shipped manifests."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from models.assessment import AUROC, SPREAD, WIDTH, WORST_FIFTH
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
    return _span([share for c in report["coverage"].values() for share in c["coverage"]], 1)


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
            intervals = [q for found in document["report"].get("intervals", {}).values() for q in found.values()]
            if norm == "band":
                figure = f"covers {_coverage(document['report'])}"
            elif norm == "interval" and intervals:
                figure = f"covers {_span([q['covered'] / q['cases'] for q in intervals], 1)}"
            elif kind == "guaranteed" and audited:
                figure, audited = _index(audited), None  # the first bound is the one that is audited
            rows.append([document["name"], norm.replace("_", " "), kind, _truth(kind), figure])
    return table(["model", "norm", "kind", "against", "measured"], rows)


def calibration_table(documents: list[dict[str, Any]]) -> str:
    """One line per calibrated output: what its band keeps; figures short of what is aimed at are in bold."""
    rows = []
    for document in documents:
        report = document["report"]
        for name, c in report["coverage"].items():
            width, spread = c["width_ratio"], c["spread_over_error"]["pooled"]
            worst = min(c["worst_fifth_coverage"])
            rows.append([
                document["name"], name, _emphasised(_span(c["coverage"], 1), c["inside"]),
                _expected(c), _emphasised(percent(worst, 1), worst >= WORST_FIFTH),
                _emphasised(_span(width["mean"]), max(width["mean"]) <= WIDTH), _span(width["median"]),
                _emphasised(f"{min(spread):.2f}–{max(spread):.2f}" if len(spread) > 1 else f"{spread[0]:.2f}",
                            SPREAD[0] <= min(spread) and max(spread) <= SPREAD[1]),
            ])  # fmt: skip
    header = [
        "model", "output", "covers", "may lie in", "widest fifth, least", "width over constant, mean", "median",
        "spread over error",
    ]  # fmt: skip
    return table(header, rows)


def _expected(c: dict[str, Any]) -> str:
    """Where the covered share may lie: the law of the count, or of the coverage itself where cases depend."""
    low, high = c["beta_interval_90"] if "block_interval_90" in c else (n / c["cases"] for n in c["beta_binomial_99"])
    return f"{percent(low, 1)}–{percent(high, 1)}"


def validity_table(documents: list[dict[str, Any]]) -> str:
    """One line per model: size of the validity test, and which shifts it sees."""
    rows = []
    for document in documents:
        v = document["report"].get("validity")
        if v is None:
            continue
        expected = "{}–{}".format(*v["binomial_99"])
        if "block_interval_90" in v:
            low, high = (percent(end, 1) for end in v["block_interval_90"])
            expected = f"its share over resampled weeks: {low}–{high}"
        seen = sum(s["auroc"] >= AUROC for s in v["shifts"].values())
        unseen = [f"{label} {s['auroc']:.2f}" for label, s in v["shifts"].items() if s["auroc"] < AUROC]
        rows.append([
            document["name"], _emphasised(f"{v['rejected']} of {v['cases']}", v["inside"]), expected,
            f"{seen} of {len(v['shifts'])}", "; ".join(unseen) or "–",
        ])  # fmt: skip
    header = ["model", "called out of domain in domain", "99 % range", f"shifts seen (AUROC ≥ {AUROC:g})", "not seen"]
    return table(header, rows)


def _emphasised(text: str, holds: bool) -> str:
    return text if holds else f"**{text}**"


def _span(values: list[float], digits: int = 0) -> str:
    low, high = percent(min(values), digits), percent(max(values), digits)
    return low if low == high else f"{low}–{high}"


def _index(efficiency: dict[str, Any]) -> str:
    cases, violations = (sum(e[key] for e in efficiency.values()) for key in ("cases", "violations"))
    index = next(iter(efficiency.values()))
    return f"index {index['index_median']:.2f}, at most {index['index_max']:.2f}; {violations} of {cases} violated"


def _truth(kind: str) -> str:
    return {"guaranteed": "the equation", "guaranteed_vs_discrete": "the reference scheme", "none": "–"}.get(
        kind, "reference solver or data"
    )


PARTS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "models": models_table,
    "statements": statements_table,
    "calibration": calibration_table,
    "validity": validity_table,
}
PAGES = {"README.md": ("models", "statements"), "docs/calibration.md": ("calibration", "validity")}


def render(text: str, names: Iterable[str], zoo: Path) -> str:
    """`text` with the generated parts of these names replaced.

    Raises ValueError when a marker is missing.
    """
    documents = manifests(zoo)
    for name in names:
        pattern = rf"(<!-- generated: {name} -->\n).*?(\n<!-- end -->)"
        content = PARTS[name](documents)
        text, count = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"Expected one '<!-- generated: {name} -->' block in the page, got {count}. Restore it.")
    return text


def update(root: Path, zoo: Path) -> None:
    """Rewrite the pages in place."""
    for page, names in PAGES.items():
        file = root / page
        file.write_text(render(file.read_text(encoding="utf-8"), names, zoo), encoding="utf-8")
