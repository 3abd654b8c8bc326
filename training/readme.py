"""The README's generated parts: the table of models and the measured figures, from the shipped manifests."""

import json
import re
from pathlib import Path
from typing import Any

from models.repository import bundle_folders
from training.card import cost_comparison, first_output, percent, table


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


def figures(document: dict[str, Any]) -> str:
    """The measured figures of one bundle as a list."""
    report = document["report"]
    machine = report["machine"]
    head = f"**{document['name']} {document['version']}** ({machine['processor']}, {machine['cores']} cores):"
    lines = [*_accuracy_lines(report), *_band_lines(report), *_bound_lines(report), *_cost_lines(report)]
    return head + "\n\n" + "\n".join(f"- {line}" for line in lines)


def _accuracy_lines(report: dict[str, Any]) -> list[str]:
    accuracy = report["accuracy"]
    lines = []
    for name, a in accuracy["outputs"].items():
        lines.append(
            f"accuracy, {name} ({accuracy['samples']} test samples, mean relative L2): ensemble mean {a['relative_l2']:.4f}, "
            f"members {min(a['members']):.4f}–{max(a['members']):.4f}, worst case {a['worst']:.4f}"
        )
    scores = accuracy.get("scores")
    if scores:
        lines.append("scores: " + ", ".join(f"{key} {value:.3g}" for key, value in scores.items()))
    if accuracy["published"]:
        lines.append("published: " + ", ".join(f"{name} {error:.4f}" for name, error in accuracy["published"].items()))
    for name, a in report["ablations"].items():
        lines.append(
            f"ablation, recipe “{name}”: {a['relative_l2']:.4f} with {a['members']} member(s) after {a['minutes']:.0f} minutes"
        )
    return lines


def _band_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for name, c in report["coverage"].items():
        low, high = c["beta_interval_90"]
        shares = f"{percent(min(c['coverage']), 1)}" + (
            f"–{percent(max(c['coverage']), 1)} by lead time" if len(c["coverage"]) > 1 else ""
        )
        ratio = (
            f", mean half-width {percent(c['width_ratio'], 0)} of the constant-width band's"
            if "width_ratio" in c
            else ""
        )
        lines.append(
            f"90 % simultaneous band of {name}, {c['cases']} held-out cases: covered {shares} (Beta interval "
            f"{percent(low, 1)}–{percent(high, 1)}){ratio}, most uncertain fifth {percent(c['worst_fifth_coverage'], 1)}"
        )
    return lines


def _bound_lines(report: dict[str, Any]) -> list[str]:
    return [
        f"efficiency index, {family}: median {e['index_median']:.3f}, max {e['index_max']:.3f}, {e['violations']} "
        f"violations in {e['cases']}"
        for family, e in report.get("efficiency", {}).items()
    ]


def _cost_lines(report: dict[str, Any]) -> list[str]:
    times = report["milliseconds"]
    explain, checks = report["explanations"], report["derivatives"]
    lines = [
        f"training {report['training']['seconds'] / 60:.0f} minutes, all members",
        f"times, one thread, median ms: forward {times['forward_1']['median']:.1f} (all members; "
        f"{times['forward_8_per_sample']['median']:.1f} per sample in a batch of 8), full answer "
        f"{times['full_answer']['median']:.1f}",
        f"explanations: completeness gap at 8 nodes median {explain['completeness_gap_median']:.1e}, above 1e-4 in "
        f"{explain['cases_above_1e-4']} of {explain['cases']} cases; adjoint identity {checks['adjoint_identity']:.1e}; "
        f"parity with torch {checks['forward_parity']:.1e} (forward), {checks['vjp_parity']:.1e} (VJP), "
        f"{checks['jvp_parity']:.1e} (JVP)",
    ]
    if "classical" in times:
        lines.append(cost_comparison(report))
    return lines


def render(text: str, zoo: Path) -> str:
    """`text` with the generated parts replaced.

    Raises ValueError when a marker is missing.
    """
    documents = manifests(zoo)
    parts = {"models": models_table(documents), "figures": "\n\n".join(figures(d) for d in documents)}
    for name, content in parts.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(\n<!-- end -->)"
        text, count = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"Expected one '<!-- generated: {name} -->' block in the README, got {count}. Restore it.")
    return text


def update(file: Path, zoo: Path) -> None:
    """Rewrite the README in place."""
    file.write_text(render(file.read_text(encoding="utf-8"), zoo), encoding="utf-8")
