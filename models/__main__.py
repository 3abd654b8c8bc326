"""python -m models — list | describe | predict | check."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from models.bundle import GOLDEN_FILE
from models.errors import BrokenBundle, SurrogateError
from models.repository import SHIPPED, Repository, bundle_folders, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate, describe

GOLDEN_TOLERANCE = 1e-5  # relative; summation order differs between processors and providers


def check_golden(surrogate: Surrogate) -> float:
    """Relative distance of today's outputs from the stored ones.

    Raises BrokenBundle when it exceeds the tolerance.
    """
    golden = surrogate.bundle.arrays(GOLDEN_FILE)
    members = surrogate.run({surrogate.input.name: golden["input"]}).members
    distance = float(np.linalg.norm(members - golden["members"]) / np.linalg.norm(golden["members"]))
    if not distance <= GOLDEN_TOLERANCE:
        raise BrokenBundle(GOLDEN_FILE, f"outputs within {GOLDEN_TOLERANCE:g}", f"{distance:.2e}")
    return distance


def _check(root: Path) -> int:
    failed = 0
    for folder in bundle_folders(root):
        label = f"{folder.parent.name}/{folder.name}"
        try:
            distance = check_golden(load_surrogate(folder, RuntimeOptions()))
        except BrokenBundle as error:
            failed += 1
            print(f"FAILED {label}: {error}")
        else:
            print(f"ok     {label}: hashes, shapes, golden outputs (distance {distance:.1e})")
    return 1 if failed else 0


def _predict(surrogate: Surrogate, source: Path, target: Path, level: float) -> None:
    values = np.load(source, allow_pickle=False)
    batched = values.ndim > len(surrogate.input.shape)
    answer = surrogate.predict({surrogate.input.name: values if batched else values[None]}, level)
    arrays = {surrogate.output.name: answer.prediction.mean}
    if answer.band is not None:
        arrays |= {"lower": answer.band.lower, "upper": answer.band.upper}
    np.savez(target, allow_pickle=False, **arrays)
    for index, statements in enumerate(answer.statements):
        for statement in statements:
            print(json.dumps({"sample": index} | statement.document(), ensure_ascii=False))


def parser() -> argparse.ArgumentParser:
    """Arguments."""
    result = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    result.add_argument("--zoo", type=Path, default=SHIPPED, help="directory of bundles")
    commands = result.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, versions, titles")
    commands.add_parser("check", help="verify hashes, shapes and golden outputs of every bundle")
    one = commands.add_parser("describe", help="everything a manifest says")
    one.add_argument("model")
    run = commands.add_parser("predict", help="inputs in an .npy file to an .npz file")
    run.add_argument("model")
    run.add_argument("source", type=Path)
    run.add_argument("target", type=Path)
    run.add_argument("--level", type=float, default=0.9)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 when something is wrong."""
    options = parser().parse_args(arguments)
    if options.command == "check":
        return _check(options.zoo)
    repository = Repository(options.zoo, RuntimeOptions())
    try:
        if options.command == "list":
            for item in repository.surrogates:
                print(f"{item.manifest.name}\t{item.manifest.version}\t{item.manifest.document['title']}")
        elif options.command == "describe":
            print(json.dumps(describe(repository.get(options.model)), indent=1, ensure_ascii=False))
        else:
            _predict(repository.get(options.model), options.source, options.target, options.level)
    except (SurrogateError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if repository.broken else 0


if __name__ == "__main__":
    sys.exit(main())
