"""The command line of offline training."""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from models import catalog
from models.physical_model import PhysicalModel, Recipe
from models.repository import SHIPPED, bundle_folders


def _sample(model: PhysicalModel, recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    from training import dataset

    # recipes of one model on one grid train on the same samples
    shared = folder.parent / f"data-{recipe.points}"
    link = folder / "data"
    if not link.is_symlink():
        link.symlink_to(Path("..") / shared.name, target_is_directory=True)
    started = time.perf_counter()
    dataset.sample(model, recipe, shared, options.scheduler)
    _add_seconds(shared / "seconds.json", time.perf_counter() - started)


def _add_seconds(path: Path, seconds: float) -> None:
    """Sampling may have been interrupted: its cost is the sum of its parts."""
    before = json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0
    path.write_text(json.dumps({"seconds": before + seconds}), encoding="utf-8")


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
    share = 0.01 if options.preset == "tiny" else 1.0
    found = report.report(model, recipe, folder, candidate, share, options.scheduler, options.only)
    shown = {key: value for key, value in found.items() if key not in ("examples", "training")}
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
    from training import publish, readme

    for folder in bundle_folders(options.zoo):
        publish.rewrite_card(folder)
    readme.update(options.root, options.zoo)


def _explanations(options: argparse.Namespace) -> None:
    import json

    from training import explanations

    if options.write:
        explanations.write(options.bundle, options.seed, options.share)
    else:
        found = explanations.of_bundle(options.bundle, options.seed, options.share)
        print(json.dumps(found, indent=1, ensure_ascii=False))


def _residuals(options: argparse.Namespace) -> None:
    from models import bundle
    from training import publish, recalibrate

    content = bundle.read(options.bundle)
    model = catalog.load(str(content.manifest.physical_model))
    publish.add_residuals(options.bundle, model, recalibrate.recipe_of(content, model), options.seed)


def _recalibrate(options: argparse.Namespace) -> None:
    from training import recalibrate

    folder = max(options.zoo.glob(f"{options.name}/*"), key=lambda found: int(found.name), default=None)
    if folder is None:
        raise SystemExit(f"Expected a bundle in {options.zoo}, got '{options.name}'.")
    into = options.into or options.zoo
    print(
        f"bundle written: {recalibrate.recalibrate(folder, options.runs, into, options.scheduler, options.keep_bands)}"
    )


def _costs(options: argparse.Namespace) -> None:
    from training import recalibrate

    recalibrate.measure_costs(options.bundle, options.runs)


def _weatherbench(options: argparse.Namespace) -> None:
    from training import sources

    try:
        model = sources.load(f"{sources.RECIPE_FILE}{options.recipe.resolve()}")
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f"checked: {model.description}")
    _run_stages(model, options.stages, options)


def _run_stages(model: PhysicalModel, stages: Iterable[str], options: argparse.Namespace) -> None:
    if options.preset not in model.recipes:
        raise SystemExit(f"Expected a preset among {', '.join(model.recipes)}, got '{options.preset}'.")
    recipe = model.recipes[options.preset]
    folder = options.runs / model.name / options.preset
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        STAGES[stage](model, recipe, folder, options)


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
    weather = commands.add_parser("weatherbench", help="train on an ERA5-schema store, as a recipe file says")
    weather.add_argument("recipe", type=Path, help="TOML; docs/own_data.md explains it")
    weather.add_argument(
        "--stages", nargs="*", choices=STAGES, default=tuple(STAGES), help="none: check the store only"
    )
    weather.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    weather.add_argument("--into", type=Path, default=None, help="zoo to write the bundle to")
    weather.add_argument("--version", default="1", help="version of the bundle")
    weather.add_argument("--scheduler", default=None, help="address of a Dask scheduler (default: local)")
    weather.set_defaults(run=_weatherbench, preset="full", only=())
    _add_later_commands(commands)
    return result


def _add_later_commands(commands: Any) -> None:
    """What is done to bundles that are there already."""
    explained = commands.add_parser("explanations", help="measure the explanations of a shipped bundle")
    explained.add_argument("bundle", type=Path, help="its folder: models/zoo/darcy/1")
    explained.add_argument("--seed", type=int, default=32, help="of the fresh inputs")
    explained.add_argument("--share", type=float, default=1.0, help="of the usual numbers of cases and orders")
    explained.add_argument(
        "--write", action="store_true", help="put the figures into its manifest; readme redraws cards"
    )
    explained.set_defaults(run=_explanations)
    kept = commands.add_parser(
        "residuals", help="residuals that a recipe keeps, and what intervals of quantities cover on fresh cases"
    )
    kept.add_argument("bundle", type=Path, help="its folder: models/zoo/burgers/1")
    kept.add_argument("--seed", type=int, default=3201, help="of the fresh cases")
    kept.set_defaults(run=_residuals)
    again = commands.add_parser("recalibrate", help="bands and validity of a shipped bundle anew, without training")
    again.add_argument("name", help="of the bundle")
    again.add_argument("--zoo", type=Path, default=SHIPPED)
    again.add_argument("--into", type=Path, default=None, help="zoo to write the bundle to (default: where it was)")
    again.add_argument("--runs", type=Path, default=Path("runs"), help="where samples are kept")
    again.add_argument("--scheduler", default=None, help="address of a Dask scheduler (default: local)")
    again.add_argument("--keep-bands", action="store_true", help="only the standard deviation and the hard checks")
    again.set_defaults(run=_recalibrate)
    cost = commands.add_parser(
        "costs", help="what answers and classical methods cost, into a shipped bundle's manifest"
    )
    cost.add_argument("bundle", type=Path, help="its folder: models/zoo/heat/1")
    cost.add_argument("--runs", type=Path, default=Path("runs"), help="where samples are kept")
    cost.set_defaults(run=_costs)
    readme = commands.add_parser(
        "readme", help="regenerate cards and the README's tables from the reports in the shipped bundles"
    )
    readme.add_argument("--root", type=Path, default=Path(), help="the repository")
    readme.add_argument("--zoo", type=Path, default=SHIPPED)
    readme.set_defaults(run=_readme)


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them."""
    options = parser().parse_args(arguments)
    if options.stage not in (*STAGES, "build"):
        options.run(options)
        return
    stages = STAGES if options.stage == "build" else (options.stage,)
    _run_stages(catalog.load(options.model), stages, options)
