"""Samples on disk, written block by block by the workers and read window by window.

    samples.zarr          attributes: the plan, that is what every sample follows from
      train, test, …      one group per split
        input.<name>      (sample, *axes) float32, one chunk per block
        output.<name>     the same; absent from `unlabelled`
        done              (block,), one chunk per block, written after the block's other chunks

A block is done when it is marked and all its chunks are there; sampling again computes only what is not done.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm
from zarr.codecs import BloscCodec, Crc32cCodec

from models.physical_model import Arrays, PhysicalModel, Recipe, Split
from training import cluster, sources

STORE = "samples.zarr"
UNLABELLED = "unlabelled"
DONE = "done"
CHUNK_BYTES = 8 * 2**20  # large enough to read at the disk's speed, small enough to hold many
SAME = 1e-4  # relative: round-off of other processors
MOST_SAMPLES = 50  # of cheap small samples: what a killed worker loses
# lossless; smooth float32 fields shrink by a third, binary media eightyfold, read back at about 600 MB/s a core
COMPRESSORS = (BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec())


@dataclass(frozen=True)
class Block:
    """The samples of chunk `number` of one split; a worker draws, solves and writes them."""

    store: str
    model: str
    points: int
    split: str
    seed: int
    family: str
    number: int


def samples_per_block(shapes: Iterable[tuple[int, ...]]) -> int:
    """As many samples as make a chunk of the largest array CHUNK_BYTES long, but at most MOST_SAMPLES."""
    largest = max(4 * int(np.prod(shape)) for shape in shapes)
    return min(MOST_SAMPLES, max(1, CHUNK_BYTES // max(1, largest)))


def sample(model: PhysicalModel, recipe: Recipe, folder: Path, scheduler: str | None) -> None:
    """Make every missing block over the cores, or over a cluster when a scheduler's address is given.

    Workers of a cluster write into the folder themselves: it must lie on a file system they share.
    Raises ValueError when the samples there are another recipe's, or another version's of the sampler or the reference.
    """
    _check_disjoint(model, recipe)
    store = folder.resolve() / STORE
    _prepare(store, model, recipe)
    missing = {name: _missing(store / name) for name in _streams(recipe)}
    begun = [name for name, split in _streams(recipe).items() if split.count and 0 not in missing[name]]
    _check_current(store, model, recipe, begun)
    total = sum(len(numbers) for numbers in missing.values())
    if not total:
        return
    done = cluster.run(make_block, _blocks(store, model, recipe, missing), scheduler)
    for _ in tqdm(done, total=total, desc=f"sample {model.name}", unit="block"):
        pass
    for remnant in store.rglob("*.partial"):  # of writers that were killed
        remnant.unlink(missing_ok=True)


def _check_current(store: Path, model: PhysicalModel, recipe: Recipe, splits: Iterable[str]) -> None:
    """The first sample of each split is made again: sampler and reference may have changed since it was written."""
    for name in splits:
        split = _streams(recipe)[name]
        block = Block(str(store), model.name, recipe.points, name, split.seed, split.family or model.training_family, 0)
        group = zarr.open_group(store, path=name, mode="r", use_consolidated=False)
        for field, value in _named_values(model, block, 0).items():
            stored = np.asarray(group[field][0], dtype=np.float64)  # type: ignore[index]
            if np.linalg.norm(stored - value) > SAME * np.linalg.norm(value):
                raise ValueError(
                    f"Expected samples of the present sampler and reference, got others: {field} of the first sample of "
                    f"'{name}' differs. Remove {store}."
                )


def make_block(block: Block) -> None:
    """Draw and solve one block, write its chunks, mark it. Runs in a worker.

    Raises ValueError when the model returns other names or shapes than it declares.
    """
    model = sources.load(block.model)
    if not Path(block.store).exists():
        raise FileNotFoundError("Expected the samples' store, got nothing. Keep runs on a disk all workers share.")
    group = zarr.open_group(block.store, path=block.split, mode="r+", use_consolidated=False)
    # a chunk of nothing but the fill value is written too, or its block would never be done
    arrays = {name: array.with_config({"write_empty_chunks": True}) for name, array in group.arrays()}
    done = arrays.pop(DONE)
    first = block.number * _chunk(arrays)
    stop = min(first + _chunk(arrays), _count(arrays))
    columns = {name: np.empty((stop - first, *array.shape[1:]), np.float32) for name, array in arrays.items()}
    for row, index in enumerate(range(first, stop)):
        _fill(columns, row, _named_values(model, block, index))
    for name, array in arrays.items():
        array[first:stop] = columns[name]
    done[block.number] = 1


def _named_values(model: PhysicalModel, block: Block, index: int) -> Arrays:
    if block.split == UNLABELLED:
        inputs, outputs = model.draw(block.seed, index, block.points, block.family), {}
    else:
        inputs, outputs = model.pair(block.seed, index, block.points, block.family)
    named = {f"input.{name}": value for name, value in inputs.items()}
    return named | {f"output.{name}": value for name, value in outputs.items()}


def _fill(columns: Arrays, row: int, values: Arrays) -> None:
    expected = {name: column.shape[1:] for name, column in columns.items()}
    got = {name: np.shape(value) for name, value in values.items()}
    if got != expected:
        raise ValueError(f"Expected a sample of shapes {expected}, got {got}. Correct the model's fields or sampler.")
    for name, value in values.items():
        columns[name][row] = value


def _streams(recipe: Recipe) -> dict[str, Split]:
    return {**recipe.splits, UNLABELLED: recipe.unlabelled}


def _blocks(store: Path, model: PhysicalModel, recipe: Recipe, missing: Mapping[str, Iterable[int]]) -> Iterator[Block]:
    for name, split in _streams(recipe).items():
        family = split.family or model.training_family
        for number in missing[name]:
            yield Block(str(store), sources.reference(model), recipe.points, name, split.seed, family, int(number))


def _check_disjoint(model: PhysicalModel, recipe: Recipe) -> None:
    streams = [(split.family or model.training_family, split.seed) for split in _streams(recipe).values()]
    if len(set(streams)) != len(streams):
        raise ValueError(f"Expected a different seed or family for every split, got {streams}. Change the recipe.")


def _plan(model: PhysicalModel, recipe: Recipe) -> dict[str, Any]:
    plan: dict[str, Any] = {"model": model.name, "points": recipe.points}
    if model.lead_times is not None:
        plan["lead times"] = asdict(model.lead_times)
    if model.source:  # its fields follow from a file that may change
        plan["source"] = model.description
    for name, split in _streams(recipe).items():
        plan[name] = {"seed": split.seed, "count": split.count, "family": split.family or model.training_family}
    return plan


def _prepare(store: Path, model: PhysicalModel, recipe: Recipe) -> None:
    """Create the empty store, or check that the one on disk is of this recipe."""
    plan = _plan(model, recipe)
    if store.exists():
        _check_plan(dict(zarr.open_group(store, mode="r", use_consolidated=False).attrs), plan)
        return
    aside = store.with_suffix(".unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    root = zarr.create_group(aside, zarr_format=3, attributes=plan)
    for name, split in _streams(recipe).items():
        _create_split(root.create_group(name), _shapes(model, recipe.points, name != UNLABELLED), split.count)
    aside.rename(store)


def _check_plan(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Samples of two recipes would otherwise be mixed silently."""
    differ = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
    if differ:
        wanted, got = (
            "; ".join(f"{key} {json.dumps(plan.get(key))}" for key in differ).replace('"', "")
            for plan in (expected, found)
        )
        raise ValueError(
            f"Expected samples of this recipe ({wanted}), got another's ({got}). "
            "Remove the samples, or give another folder of runs."
        )


def _shapes(model: PhysicalModel, points: int, labelled: bool) -> dict[str, tuple[int, ...]]:
    """Shape of one sample in every array, from the declared fields: nothing is drawn or solved to find out."""
    times = model.lead_times if model.lead_times is not None and model.lead_times.input is not None else None
    inputs = [field for field in model.inputs(points) if times is None or field.name != times.input]
    shapes = {f"input.{field.name}": field.shape for field in inputs}
    if labelled:
        leading = () if times is None else (times.frames,)
        shapes |= {f"output.{field.name}": (*leading, *field.shape) for field in model.outputs(points)}
    return shapes


def _create_split(group: zarr.Group, shapes: Mapping[str, tuple[int, ...]], count: int) -> None:
    chunk = min(samples_per_block(shapes.values()), max(1, count))
    flat = {"name": "default", "separator": "."}  # one folder per array
    for name, shape in shapes.items():
        group.create_array(
            name, shape=(count, *shape), chunks=(chunk, *shape), dtype="float32", fill_value=np.nan,
            compressors=COMPRESSORS, chunk_key_encoding=flat,
        )  # fmt: skip
    group.create_array(
        DONE, shape=(-(-count // chunk),), chunks=(1,), dtype="uint8", compressors=None, chunk_key_encoding=flat
    )


def _missing(split: Path) -> list[int]:
    """Numbers of the blocks that are not done, from the names of the chunks on disk."""
    blocks = zarr.open_array(split / DONE, mode="r").shape[0]
    done = set(range(blocks))
    for array in split.iterdir():
        if array.is_dir():
            names = (chunk.name for chunk in array.glob("c.*") if chunk.suffix != ".partial")
            done &= {int(name.split(".")[1]) for name in names}
    return [number for number in range(blocks) if number not in done]


def _chunk(arrays: Mapping[str, zarr.Array]) -> int:
    return int(next(iter(arrays.values())).chunks[0])


def _count(arrays: Mapping[str, zarr.Array]) -> int:
    return int(next(iter(arrays.values())).shape[0])


class Samples:
    """One split, opened: `count` samples in chunks of `chunk`. Nothing is read before it is asked for.

    Raises FileNotFoundError when it has not been sampled, or not to its end.
    """

    def __init__(self, folder: Path, split: str) -> None:
        store = folder / STORE
        missing = _missing(store / split) if (store / split).is_dir() else None
        if missing is None or missing:
            got = "none" if missing is None else f"all but {len(missing)} blocks"
            raise FileNotFoundError(f"Expected samples of '{split}', got {got}. Run `python -m training sample`.")
        group = zarr.open_group(store, path=split, mode="r", use_consolidated=False)
        arrays = {name: array for name, array in sorted(group.arrays()) if name != DONE}
        self.count, self.chunk = _count(arrays), _chunk(arrays)
        self._inputs, self._outputs = (
            {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
            for kind in ("input.", "output.")
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs: none of unlabelled samples."""
        return tuple(self._outputs)

    def read(self, first: int, stop: int) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of samples `first` … `stop − 1`."""
        if not 0 <= first <= stop <= self.count:
            raise IndexError(f"Expected samples within 0 … {self.count}, got {first} … {stop}.")
        return self._gather([(first, stop)])

    def read_chunks(self, numbers: Iterable[int]) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of whole chunks, in the order given."""
        spans = [(number * self.chunk, min((number + 1) * self.chunk, self.count)) for number in numbers]
        for first, stop in spans:
            if not 0 <= first < stop:
                raise IndexError(f"Expected chunks within {self.count} samples, got one from sample {first}.")
        return self._gather(spans)

    def _gather(self, spans: list[tuple[int, int]]) -> tuple[Arrays, Arrays]:
        inputs, outputs = (
            {name: _gather_rows(array, spans) for name, array in part.items()} for part in (self._inputs, self._outputs)
        )
        return inputs, outputs


def _gather_rows(array: zarr.Array, spans: list[tuple[int, int]]) -> np.ndarray:
    rows = np.empty((sum(stop - first for first, stop in spans), *array.shape[1:]), array.dtype)
    start = 0
    for first, stop in spans:
        rows[start : start + stop - first] = array[first:stop]
        start += stop - first
    return rows


def load(folder: Path, split: str) -> tuple[Arrays, Arrays]:
    """All inputs and outputs of one split, in order.

    Raises FileNotFoundError when it has not been sampled.
    """
    samples = Samples(folder, split)
    return samples.read(0, samples.count)


def shuffled_windows(samples: Samples, order: Iterable[int], per_window: int) -> Iterator[tuple[Arrays, Arrays]]:
    """Inputs and outputs of `per_window` whole chunks at a time, in the given order of chunks.

    The next window is read while the caller works on this one: two are in memory, whatever the number of samples.
    """
    numbers = list(order)
    windows = [numbers[first : first + per_window] for first in range(0, len(numbers), per_window)]
    with ThreadPoolExecutor(1) as reader:
        following: Future[tuple[Arrays, Arrays]] | None = None
        for window in [*windows, []]:
            current, following = following, reader.submit(samples.read_chunks, window) if window else None
            if current is not None:
                yield current.result()
