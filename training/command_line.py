"""The command line of offline training."""

import argparse
from collections.abc import Callable
from pathlib import Path

from models import catalog
from models.physical_model import PhysicalModel, Recipe


def _sample(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import dataset

    dataset.sample(model, recipe, folder / "data", options.scheduler)


def _fit(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import fit

    fit.fit(model, recipe, folder)


def _export(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import export

    export.export(model, recipe, folder)


def _calibrate(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import calibrate

    calibrate.calibrate(model, recipe, folder, options.scheduler)


def _report(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import publish, report

    zoo = options.into or folder / "zoo"
    candidate = publish.publish(model, recipe, folder, folder / "candidate", options.version, False)
    share = 1.0 if options.preset == "full" else 0.01
    report.report(model, recipe, folder, candidate, share, options.scheduler)
    written = publish.publish(model, recipe, folder, zoo, options.version, True)
    print(f"bundle written: {written}")


STAGES: dict[str, Callable[[PhysicalModel, Recipe, Path, argparse.Namespace], None]] = {
    "sample": _sample,
    "fit": _fit,
    "export": _export,
    "calibrate": _calibrate,
    "report": _report,
}


def parser() -> argparse.ArgumentParser:
    """Arguments of every stage."""
    result = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = result.add_subparsers(dest="stage", required=True)
    for stage in (*STAGES, "build"):
        command = commands.add_parser(stage)
        command.add_argument("model", choices=catalog.names())
        command.add_argument("--preset", default="full", help="recipe of the model: full, tiny, …")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
        command.add_argument("--into", type=Path, default=None, help="zoo to write the bundle to")
        command.add_argument("--version", default="1", help="version of the bundle")
        command.add_argument("--scheduler", default=None, help="address of a Dask scheduler (default: local)")
    return result


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them."""
    options = parser().parse_args(arguments)
    model = catalog.load(options.model)
    if options.preset not in model.recipes:
        raise SystemExit(f"Expected a preset among {', '.join(model.recipes)}, got '{options.preset}'.")
    recipe = model.recipes[options.preset]
    folder = options.runs / model.name / options.preset
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if options.stage == "build" else (options.stage,):
        STAGES[stage](model, recipe, folder, options)
