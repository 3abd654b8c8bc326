"""The command line of offline training."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from models import catalog
from models.physical_model import PhysicalModel, Recipe
from models.repository import SHIPPED


def _sample(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import dataset

    # recipes of one model on one grid train on the same samples
    shared = folder.parent / f"data-{recipe.points}"
    link = folder / "data"
    if not link.exists():
        link.symlink_to(Path("..") / shared.name, target_is_directory=True)
    dataset.sample(model, recipe, shared, options.scheduler)


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

    candidate = publish.publish(model, recipe, folder, folder / "candidate", options.version, False)
    share = 1.0 if options.preset == "full" else 0.01
    found = report.report(model, recipe, folder, candidate, share, options.scheduler, options.only)
    shown = {key: value for key, value in found.items() if key not in ("example", "training")}
    print(json.dumps(shown, indent=1, ensure_ascii=False))


def _publish(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import publish

    zoo = options.into or folder / "zoo"
    print(f"bundle written: {publish.publish(model, recipe, folder, zoo, options.version, True)}")


STAGES: dict[str, Callable[[PhysicalModel, Recipe, Path, argparse.Namespace], None]] = {
    "sample": _sample,
    "fit": _fit,
    "export": _export,
    "calibrate": _calibrate,
    "report": _report,
    "publish": _publish,
}


def _package(options: argparse.Namespace) -> None:
    from training import package

    print(f"bundle written: {package.package(options.graph, options.description, options.pairs, options.into)}")


def _readme(options: argparse.Namespace) -> None:
    from training import readme

    readme.update(options.file, options.zoo)


def parser() -> argparse.ArgumentParser:
    """Arguments of every stage."""
    result = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = result.add_subparsers(dest="stage", required=True)
    for stage in (*STAGES, "build"):
        command = commands.add_parser(stage)
        command.add_argument("model", choices=catalog.names())
        command.add_argument("--preset", default="full", help="recipe of the model: full, tiny, …")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
        command.add_argument("--only", nargs="*", default=(), help="sections of the report to measure again")
        command.add_argument("--into", type=Path, default=None, help="zoo to write the bundle to")
        command.add_argument("--version", default="1", help="version of the bundle")
        command.add_argument("--scheduler", default=None, help="address of a Dask scheduler (default: local)")
    package = commands.add_parser("package", help="bundle a foreign ONNX file")
    package.add_argument("graph", type=Path, help="the ONNX file")
    package.add_argument("--description", type=Path, required=True, help="JSON: name, title, inputs, outputs, …")
    package.add_argument("--pairs", type=Path, required=True, help="NPZ of held-out `inputs` and `outputs`")
    package.add_argument("--into", type=Path, required=True, help="zoo to write the bundle to")
    package.set_defaults(run=_package)
    readme = commands.add_parser("readme", help="regenerate the README's tables from the shipped bundles")
    readme.add_argument("--file", type=Path, default=Path("README.md"))
    readme.add_argument("--zoo", type=Path, default=SHIPPED)
    readme.set_defaults(run=_readme)
    return result


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them."""
    options = parser().parse_args(arguments)
    if options.stage in ("package", "readme"):
        options.run(options)
        return
    model = catalog.load(options.model)
    if options.preset not in model.recipes:
        raise SystemExit(f"Expected a preset among {', '.join(model.recipes)}, got '{options.preset}'.")
    recipe = model.recipes[options.preset]
    folder = options.runs / model.name / options.preset
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if options.stage == "build" else (options.stage,):
        STAGES[stage](model, recipe, folder, options)
