"""python -m models — list | describe | predict | check | assess."""

import argparse
import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models import acceptance
from models.errors import BrokenBundle, SurrogateError
from models.fields import check_names
from models.repository import SHIPPED, Repository, bundle_folders, load_surrogate
from models.runtime import RuntimeOptions
from models.signature import Signers, read_signers
from models.surrogate import Question, Surrogate, describe


def _check(root: Path, signers: Signers) -> int:
    failed, folders = 0, bundle_folders(root)
    if not folders:
        print("FAILED: expected bundles, <name>/<version>/manifest.json, got none", file=sys.stderr)
        return 1
    for folder in folders:
        label = f"{folder.parent.name}/{folder.name}"
        try:
            distance = acceptance.check(load_surrogate(folder, RuntimeOptions(), signers=signers))
        except BrokenBundle as error:
            failed += 1
            print(f"FAILED {label}: {error}")
        else:
            print(f"ok     {label}: hashes, shapes, golden outputs (distance {distance:.1e})")
    return 1 if failed else 0


def _predict(surrogate: Surrogate, source: Path, target: Path, level: float) -> None:
    inputs = _read_inputs(surrogate, source)
    answer = surrogate.predict(inputs, Question(level))
    arrays = {name: prediction.mean for name, prediction in answer.predictions.items()}
    for name, band in answer.bands.items():
        if band is not None:
            arrays |= {f"{name}_lower": band.lower, f"{name}_upper": band.upper}
    np.savez(target, allow_pickle=False, **arrays)
    for index, statements in enumerate(answer.statements):
        for statement in statements:
            print(json.dumps({"sample": index} | statement.document(), ensure_ascii=False))


def _assess(surrogate: Surrogate, seed: int, cases: int, as_json: bool) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from tqdm import tqdm

    from models import assessment

    def progress(items: Iterable[Any], note: str) -> Iterable[Any]:
        bar: Iterable[Any] = tqdm(items, desc=note, leave=False)
        return bar

    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        found = assessment.assess(surrogate, seed, cases, workers.map, progress)
    labels = partial(assessment.lead_labels, surrogate)
    print(json.dumps(found, ensure_ascii=False) if as_json else assessment.text(found, labels))


def _read_inputs(surrogate: Surrogate, source: Path) -> dict[str, np.ndarray]:
    """Inputs by field from an .npz file, or the only one from an .npy file; a batch axis is added where there is none."""
    loaded = np.load(source, allow_pickle=False)
    fields = {item.name: item for item in surrogate.manifest.inputs}
    given = {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else {next(iter(fields)): loaded}
    check_names(surrogate.manifest.inputs, given)
    return {name: v if v.ndim > len(fields[name].shape) else v[None] for name, v in given.items()}


def parser() -> argparse.ArgumentParser:
    """Arguments."""
    result = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    result.add_argument("--zoo", type=Path, default=SHIPPED, help="directory of bundles")
    commands = result.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, versions, titles")
    check = commands.add_parser("check", help="verify hashes, shapes and golden outputs of every bundle")
    check.add_argument("--signers", type=Path, help="PEM file of public keys: bundles must be signed by one of them")
    one = commands.add_parser("describe", help="everything a manifest says")
    one.add_argument("model")
    run = commands.add_parser("predict", help="inputs in an .npz or .npy file to an .npz file")
    run.add_argument("model")
    run.add_argument("source", type=Path)
    run.add_argument("target", type=Path)
    run.add_argument("--level", type=float, default=0.9)
    fresh = commands.add_parser("assess", help="hold every claim against fresh cases of the reference solver")
    fresh.add_argument("model")
    fresh.add_argument("--seed", type=int, required=True, help="one that the bundle was not made with")
    fresh.add_argument("--cases", type=int, default=200)
    fresh.add_argument("--json", action="store_true", help="all figures, for programs")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 when something is wrong."""
    options = parser().parse_args(arguments)
    if options.command == "check":
        return _check(options.zoo, () if options.signers is None else read_signers(options.signers))
    repository = Repository(options.zoo, RuntimeOptions())
    try:
        if options.command == "list":
            for item in repository.surrogates:
                print(f"{item.manifest.name}\t{item.manifest.version}\t{item.manifest.document['title']}")
        elif options.command == "describe":
            print(json.dumps(describe(repository.get(options.model)), indent=1, ensure_ascii=False))
        elif options.command == "assess":
            _assess(repository.get(options.model), options.seed, options.cases, options.json)
        else:
            _predict(repository.get(options.model), options.source, options.target, options.level)
    except (SurrogateError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if repository.broken else 0


if __name__ == "__main__":
    sys.exit(main())
