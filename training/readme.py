"""The README's generated parts: the table of models and the measured figures, from the shipped manifests."""

import json
import re
from pathlib import Path
from typing import Any

from models.repository import bundle_folders
from training.card import comparison, percent, table


def manifests(zoo: Path) -> list[dict[str, Any]]:
    """Every shipped manifest."""
    return [json.loads((folder / "manifest.json").read_text(encoding="utf-8")) for folder in bundle_folders(zoo)]


def models_table(documents: list[dict[str, Any]]) -> str:
    """One line per bundle with its headline figures."""
    rows = []
    for document in documents:
        report = document["report"]
        cover = report["coverage"]
        index = report["efficiency"][next(iter(report["efficiency"]))]
        rows.append([
            f"[{document['name']}](models/zoo/{document['name']}/{document['version']}/CARD.md)", document["version"],
            f"{report['accuracy']['relative_l2']:.4f}", percent(cover["coverage"], 1),
            f"{index['index_median']:.2f} ({index['violations']} of {index['cases']} violated)",
            f"{report['milliseconds']['full_answer']['median']:.0f} ms",
        ])  # fmt: skip
    header = [
        "model",
        "version",
        "mean relative L2",
        "coverage of the 90 % band",
        "bound / error, median",
        "full answer",
    ]
    return table(header, rows)


def figures(document: dict[str, Any]) -> str:
    """The measured figures of one bundle as a list."""
    report = document["report"]
    accuracy, cover, explain = report["accuracy"], report["coverage"], report["explanations"]
    checks, times = report["derivatives"], report["milliseconds"]
    low, high = cover["beta_interval_90"]
    lines = [
        f"accuracy ({accuracy['samples']} test samples, mean relative L2): ensemble mean {accuracy['relative_l2']:.4f}, "
        f"members {min(accuracy['members']):.4f}–{max(accuracy['members']):.4f}, worst case {accuracy['worst']:.4f}, "
        f"relative H1 {accuracy['relative_h1']:.4f}; published: "
        + ", ".join(f"{name} {error:.4f}" for name, error in accuracy["published"].items()),
        *(
            f"ablation, the network alone (recipe “{name}”, no conjugate-gradient steps): {a['relative_l2']:.4f} with "
            f"{a['members']} member after {a['minutes']:.0f} minutes"
            for name, a in report["ablations"].items()
        ),
        f"training: {report['training']['seconds'] / 60:.0f} minutes for {len(accuracy['members'])} members on "
        f"{report['machine']['cores']} cores",
        comparison(report),
        f"90 % simultaneous band, {cover['cases']} held-out solves: covered {percent(cover['coverage'], 1)} (Beta interval "
        f"{percent(low, 1)}–{percent(high, 1)}), mean half-width {percent(cover['width_ratio'], 0)} of the constant-width band's, "
        f"most uncertain fifth {percent(cover['worst_fifth_coverage'], 1)}",
        *(
            f"efficiency index, {family}: median {e['index_median']:.3f}, max {e['index_max']:.3f}, {e['violations']} "
            f"violations in {e['cases']}"
            for family, e in report["efficiency"].items()
        ),
        f"explanations: completeness gap at 8 nodes median {explain['completeness_gap_median']:.1e}, above 1e-4 in "
        f"{explain['cases_above_1e-4']} of {explain['cases']} cases (max {explain['completeness_gap_max']:.1e}, where the "
        f"difference itself nearly cancels; over the sum of |attributions| at most "
        f"{explain['completeness_gap_over_turnover_max']:.1e}); cosine with the solver's adjoint median "
        f"{explain['solver_adjoint_cosine_median']:.3f}, min {explain['solver_adjoint_cosine_min']:.3f}; adjoint identity "
        f"{checks['adjoint_identity']:.1e}; parity with torch {checks['forward_parity']:.1e} (forward), "
        f"{checks['vjp_parity']:.1e} (VJP), {checks['jvp_parity']:.1e} (JVP)",
        f"times, one thread, median ms: forward {times['forward_1']['median']:.1f} (all members; "
        f"{times['forward_8_per_sample']['median']:.1f} per sample in a batch of 8), bound {times['bound']['median']:.1f} "
        f"(with lower bound {times['two_sided_bound']['median']:.1f}), full answer {times['full_answer']['median']:.1f} "
        f"({times['full_answer']['median'] / times['forward_1']['median']:.1f} × forward), fallback solver "
        f"{times['fallback_solver']['median']:.1f}",
    ]  # fmt: skip
    machine = report["machine"]
    head = f"**{document['name']} {document['version']}** ({machine['processor']}, {machine['cores']} cores):"
    return head + "\n\n" + "\n".join(f"- {line}" for line in lines)


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
