"""Bands, validity, costs and their figures of a shipped bundle anew, without its training run: nothing else changes.

The graphs and golden outputs are the bundle's own. Sampled are the splits that are needed: no training samples.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models import catalog
from models.bundle import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, Bundle, read, write
from models.physical_model import PhysicalModel, Recipe
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from training import calibrate, costs, dataset, plots, publish, report

CHECKED = 2000  # unlabelled inputs from which hard checks are taken where the detectors stay
SECTIONS = ("examples", "coverage", "intervals", "held_out", "validity")
SCORED = ("accuracy", "comparison")  # where forecasts of a law are scored, which depends on the standard deviation


def recipe_of(bundle: Bundle, model: PhysicalModel) -> Recipe:
    """The recipe a bundle was made by.

    Raises ValueError when the catalogue has it no more.
    """
    name, points = bundle.manifest.name, bundle.manifest.document["points"]
    for recipe in model.recipes.values():
        if (recipe.bundle or model.name) == name and recipe.points == points:
            return recipe
    raise ValueError(f"Expected a recipe of {model.name} for {name} on {points} points, got none. Restore it.")


def recalibrate(folder: Path, runs: Path, zoo: Path, scheduler: str | None, keep_bands: bool) -> Path:
    """Write the bundle in `folder` anew into `zoo`, working in `runs`; it resumes where it stopped.

    With `keep_bands` scores, residuals and detectors stay as they are: the standard deviation and the hard checks alone
    are fitted, and the large calibration file does not change.
    Raises ValueError, BrokenBundle, UnknownModel.
    """
    bundle = read(folder)
    model = catalog.load(str(bundle.manifest.physical_model))
    recipe = recipe_of(bundle, model)
    work = runs / "recalibrate" / bundle.manifest.name
    _unpack(bundle, work)
    dataset.sample(model, _needed(recipe, keep_bands), work / "data", scheduler)
    if keep_bands:
        calibrate.refit_deviation(model, recipe, work, bundle.manifest.document)
    else:
        calibrate.write_calibration(model, recipe, work, scheduler)
    version = bundle.manifest.version
    candidate = publish.publish(model, recipe, work, work / "candidate", version, False)
    report.report(model, recipe, work, candidate, 1.0, scheduler, _sections(model, keep_bands))
    provenance = bundle.manifest.document["provenance"]
    kept = {key: provenance[key] for key in ("trained", "code", "command")}
    again = {"date": datetime.now(UTC).date().isoformat(), "code": publish.code_revision()}
    return publish.publish(model, recipe, work, zoo, version, True, kept | {"recalibrated": again})


def measure_costs(folder: Path, runs: Path) -> None:
    """Write the bundle in `folder` anew with what answers and classical methods cost on this machine, today.

    Raises ValueError, BrokenBundle, UnknownModel.
    """
    bundle = read(folder)
    model = catalog.load(str(bundle.manifest.physical_model))
    recipe, data = recipe_of(bundle, model), runs / "costs" / bundle.manifest.name
    if model.baselines is not None:
        test = recipe.splits["test"]
        few = replace(test, count=min(test.count, costs.CLASSICAL))
        none = replace(recipe.unlabelled, count=0)
        dataset.sample(model, replace(recipe, splits={"test": few}, unlabelled=none), data, None)
    surrogate = load_surrogate(folder, RuntimeOptions())
    measured = {"machine": costs.machine(), "milliseconds": costs.costs(model, surrogate, recipe, folder, data)}
    document = {k: v for k, v in bundle.manifest.document.items() if k not in ("format", "files")}
    document["report"] = {**document["report"], **measured}
    plot = {} if model.baselines is None else {"cost.png": plots.cost_plot(document["report"])}
    write(folder, document, {**bundle.files, **plot})


def _needed(recipe: Recipe, keep_bands: bool) -> Recipe:
    left_out = {"train", "validation"} | ({"calibration", "test"} if keep_bands else set())
    count = min(recipe.unlabelled.count, CHECKED) if keep_bands else recipe.unlabelled.count
    return replace(
        recipe,
        splits={name: split for name, split in recipe.splits.items() if name not in left_out},
        unlabelled=replace(recipe.unlabelled, count=count),
    )


def _sections(model: PhysicalModel, keep_bands: bool) -> tuple[str, ...]:
    """What is measured again."""
    if keep_bands:
        return tuple(name for name in SECTIONS if name != "held_out")
    return SECTIONS if model.comparison is None else (*SECTIONS, *SCORED)


def _unpack(bundle: Bundle, work: Path) -> None:
    """Lay out the bundle as its training run would be."""
    (work / "graphs").mkdir(parents=True, exist_ok=True)
    for name in (*GRAPH_FILES.values(), WEIGHTS_FILE):
        (work / "graphs" / name).write_bytes(bundle.files[name])
    for name in (CALIBRATION_FILE, GOLDEN_FILE):
        (work / name).write_bytes(bundle.files[name])
    figures: dict[str, Any] = bundle.manifest.document["report"]
    (work / "report.json").write_text(json.dumps(figures, ensure_ascii=False), encoding="utf-8")
