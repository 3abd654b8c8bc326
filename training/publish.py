"""Assemble a bundle from a run: graphs, calibration, golden outputs, card, manifest."""

import io
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import (
    CALIBRATION_FILE,
    CARD_FILE,
    GOLDEN_FILE,
    GRAPH_FILES,
    RESIDUALS_FILE,
    WEIGHTS_FILE,
    read,
    write,
)  # fmt: skip
from models.physical_model import Bound, PhysicalModel, Recipe
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from training import card, plots, residuals
from training.export import signature


def code_revision() -> str:
    """The commit this was built from, or 'unknown' outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def manifest_document(
    model: PhysicalModel, recipe: Recipe, version: str, facts: dict[str, Any], report: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything a service needs to know to serve the bundle without catalogue code."""
    names = signature(model, recipe, "model")
    return {
        "name": recipe.bundle or model.name, "version": version, "physical_model": model.name, "points": recipe.points,
        "title": model.title, "domain": model.domain, "time": model.time,
        "equation": model.equation, "description": model.description, "licence": model.licence, "notes": model.notes,
        "truth": model.truth(recipe.points), "baseline": dict(model.baseline),
        "lead_times": None if model.lead_times is None else asdict(model.lead_times),
        "inputs": [asdict(item) for item in model.inputs(recipe.points)],
        "outputs": [asdict(item) for item in model.outputs(recipe.points)],
        "graph": {
            "inputs": dict(zip(names.inputs, names.inputs, strict=True)), "outputs": list(names.outputs),
            "members": recipe.members, "member_axis": True,
        },
        **facts,
        "statements": statements_offered(model.bounds), "headline": list(model.headline),
        "report": report,
        "provenance": {
            "trained": datetime.now(UTC).date().isoformat(), "code": code_revision(),
            "seeds": {name: split.seed for name, split in recipe.splits.items()}
            | {"unlabelled": recipe.unlabelled.seed, "weights": recipe.seed},
            "recipe": _plain(asdict(recipe)),
        },
    }  # fmt: skip


def statements_offered(bounds: Iterable[Bound]) -> list[dict[str, str]]:
    """Norms and kinds of the statements an answer carries, as the model's own example shows them."""
    calibrated = (("band", "statistical"), ("interval", "statistical"))
    offered = dict.fromkeys([*((one.norm, one.kind) for one in bounds), *calibrated])
    return [{"norm": norm, "kind": kind} for norm, kind in offered]


def npz(arrays: dict[str, np.ndarray], save: Callable[..., None] = np.savez_compressed) -> bytes:
    """An NPZ file as bytes."""
    buffer = io.BytesIO()
    save(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=dict))


def _command(model: PhysicalModel, preset: str) -> str:
    """What makes the bundle again."""
    if model.source:
        return "python -m training weatherbench RECIPE.toml"
    return f"python -m training build {model.name}" + ("" if preset == "full" else f" --preset {preset}")


def publish(
    model: PhysicalModel, recipe: Recipe, folder: Path, zoo: Path, version: str, with_report: bool,
    provenance: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write <zoo>/<name>/<version>; the card and its plots are drawn from the report when there is one.

    `provenance` is what the manifest says of its origin otherwise than this run would.
    """
    files = {name: (folder / "graphs" / name).read_bytes() for name in (*GRAPH_FILES.values(), WEIGHTS_FILE)}
    files |= {name: (folder / name).read_bytes() for name in (CALIBRATION_FILE, GOLDEN_FILE)}
    facts = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    report = json.loads((folder / "report.json").read_text(encoding="utf-8")) if with_report else None
    target = zoo / (recipe.bundle or model.name) / version
    if report is not None:
        files |= plots.plots(model, recipe, report)
        report.pop("examples")
    document = manifest_document(model, recipe, version, facts, report)
    document["provenance"]["command"] = _command(model, folder.name)
    document["provenance"] |= provenance or {}
    if report is not None:
        files[CARD_FILE] = card.text(document).encode()
    write(target, document, files)
    if recipe.residuals:
        add_residuals(target, model, recipe)
    return target


def add_residuals(folder: Path, model: PhysicalModel, recipe: Recipe, seed: int | None = None) -> None:
    """Put the residuals that a recipe keeps into its bundle; with a `seed`, the coverage of intervals on fresh cases too."""
    arrays = residuals.kept_arrays(load_surrogate(folder, RuntimeOptions()), model, recipe)
    content = read(folder)
    document = {k: v for k, v in content.manifest.document.items() if k not in ("format", "files")}
    document["statements"] = statements_offered(model.bounds)
    # noise in half precision shrinks by a tenth, and every request for an interval would unpack it
    files = content.files | ({RESIDUALS_FILE: npz(arrays, np.savez)} if arrays else {})
    write(folder, document, files)
    if seed is not None:
        intervals = residuals.coverage_of(load_surrogate(folder, RuntimeOptions()), seed)
        write(folder, {**document, "report": {**document["report"], "intervals": intervals}}, files)


def rewrite_card(folder: Path) -> None:
    """Write a bundle's CARD.md again from the report in its manifest."""
    bundle = read(folder)
    document = {k: v for k, v in bundle.manifest.document.items() if k not in ("format", "files")}
    write(folder, document, {**bundle.files, CARD_FILE: card.text(document).encode()})
