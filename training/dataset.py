"""Samples on disk: one NPZ shard per block of a split, written by the reference solver, resumable.

A shard is complete or absent (written aside, then renamed); sampling again computes only what is missing.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models import catalog
from models.physical_model import Arrays, PhysicalModel, Recipe, Split
from training import cluster

BLOCK = 50


@dataclass(frozen=True)
class Block:
    """Samples `first` … `first + count − 1` of one split, or inputs only when `labelled` is false."""

    model: str
    split: str
    seed: int
    first: int
    count: int
    points: int
    labelled: bool
    path: str


def _write(path: Path, arrays: Arrays) -> None:
    aside = path.with_suffix(".partial.npz")
    np.savez_compressed(aside, allow_pickle=False, **arrays)
    aside.rename(path)


def make_block(block: Block) -> str:
    """Draw and solve one block, write it, and return its file name. Runs in a worker."""
    model = catalog.load(block.model)
    rows: list[Arrays] = []
    for index in range(block.first, block.first + block.count):
        if block.labelled:
            inputs, outputs = model.pair(block.seed, index, block.points, model.training_family)
            rows.append({f"input.{k}": v for k, v in inputs.items()} | {f"output.{k}": v for k, v in outputs.items()})
        else:
            drawn = model.draw(block.seed, index, block.points, model.training_family)
            rows.append({f"input.{k}": v for k, v in drawn.items()})
    stacked = {key: np.stack([row[key] for row in rows]).astype(np.float32) for key in rows[0]}
    _write(Path(block.path), stacked)
    return block.path


def _blocks(model: PhysicalModel, recipe: Recipe, folder: Path) -> Iterator[Block]:
    streams: list[tuple[str, Split, bool]] = [(name, split, True) for name, split in recipe.splits.items()]
    streams.append(("unlabelled", recipe.unlabelled, False))
    for name, split, labelled in streams:
        for first in range(0, split.count, BLOCK):
            path = folder / f"{name}-{first:05d}.npz"
            count = min(BLOCK, split.count - first)
            yield Block(model.name, name, split.seed, first, count, recipe.points, labelled, str(path))


def sample(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None) -> None:
    """Make every missing shard over the cores, or over a cluster when a scheduler's address is given."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [split.seed for split in recipe.splits.values()] + [recipe.unlabelled.seed]
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"Expected a different seed for every split, got {seeds}. Change the recipe.")
    _check_plan(recipe, folder / "plan.json")
    blocks = list(_blocks(model, recipe, folder))
    missing = [block for block in blocks if not Path(block.path).exists()]
    if missing:
        done = cluster.run(make_block, missing, scheduler)
        for _ in tqdm(done, total=len(missing), desc=f"sample {model.name}", unit="block"):
            pass


def _check_plan(recipe: Recipe, path: Path) -> None:
    """Shards on disk must come from this recipe, or samples of two recipes would be mixed silently."""
    plan = {"points": recipe.points, "unlabelled": vars(recipe.unlabelled)}
    plan |= {name: vars(split) for name, split in recipe.splits.items()}
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != plan:
        raise ValueError(f"Expected samples of this recipe in {path.parent}, got another's. Remove the folder.")
    path.write_text(json.dumps(plan, indent=1), encoding="utf-8")


def load(folder: Path, split: str) -> tuple[Arrays, Arrays]:
    """All inputs and outputs of one split, in order.

    Raises FileNotFoundError when it has not been sampled.
    """
    shards = sorted(folder.glob(f"{split}-?????.npz"))
    if not shards:
        raise FileNotFoundError(f"Expected samples of '{split}', got none. Run `python -m training sample`.")
    columns: dict[str, list[np.ndarray]] = {}
    for shard in shards:
        with np.load(shard, allow_pickle=False) as arrays:
            for key in arrays.files:
                columns.setdefault(key, []).append(arrays[key])
    merged = {key: np.concatenate(values) for key, values in columns.items()}
    inputs = {k.removeprefix("input."): v for k, v in merged.items() if k.startswith("input.")}
    outputs = {k.removeprefix("output."): v for k, v in merged.items() if k.startswith("output.")}
    return inputs, outputs
