"""Samples on disk: exact, resumable after any interruption, the same on every cluster, in bounded memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dask.distributed import LocalCluster

from models import catalog
from models.fields import Axis, Field, LeadTimes
from models.physical_model import PhysicalModel, Split
from training import cluster, dataset

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "splits": {"train": Split(0, 7), "validation": Split(1, 3)},
    "unlabelled": Split(2, 5),
}
# a model that costs nothing: two constant fields of 16 kB a sample; every worker notes its peak memory
BULKY = '''
"""Constant fields, for measuring the data layer."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.catalog import darcy
from models.fields import Axis, Field
from models.physical_model import Split

SIDE = 64
AXES = (Axis("x", "1", SIDE, 0.0, 1.0), Axis("y", "1", SIDE, 0.0, 1.0))


def _pair(seed, index, points, family):
    time.sleep(float(os.environ.get("BULKY_SECONDS", "0")))
    if "BULKY_PEAKS" in os.environ:
        status = Path("/proc/self/status").read_text()
        Path(os.environ["BULKY_PEAKS"], str(os.getpid())).write_text(status.split("VmHWM:")[1].split()[0])
    values = np.random.default_rng((seed, index)).normal() * np.ones((SIDE, SIDE))
    return {"a": values}, {"u": 2 * values}


physical_model = replace(
    darcy.physical_model,
    name="bulky",
    inputs=lambda points: (Field("a", "a", "1", "", AXES),),
    outputs=lambda points: (Field("u", "u", "1", "", AXES),),
    draw=lambda *given: _pair(*given)[0],
    pair=_pair,
)


def recipe(count):
    return replace(
        darcy.physical_model.recipes["tiny"],
        splits={"train": Split(0, count), "validation": Split(1, 100)},
        unlabelled=Split(2, 100),
    )
'''
SAMPLE_BULKY = """
import json, os, sys
from pathlib import Path

from models.catalog import bulky
from training import dataset


def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    os.cpu_count = lambda: 2
    folder = Path(sys.argv[1])
    dataset.sample(bulky.physical_model, bulky.recipe(int(sys.argv[2])), folder, None)
    found = {"client": peak()}
    samples = dataset.Samples(folder, "train")
    chunks = -(-samples.count // samples.chunk)
    found["samples"] = sum(len(w[0]["a"]) for w in dataset.shuffled_windows(samples, range(chunks), 2))
    found["reader"] = peak()
    dataset.load(folder, "train")
    found["whole"] = peak()
    print(json.dumps(found))
"""
# MiB of peak memory that eight times the samples may add: allocators and Dask's logs drift by single MiB (measured: 2),
# while holding the samples adds 7 · 800 · 32 KiB = 175 MiB
MEMORY_SLACK = 30.0
MANY = 800


@pytest.fixture(scope="module")
def darcy() -> PhysicalModel:
    return catalog.load("darcy")


@pytest.fixture(scope="module")
def recipe(darcy):
    return darcy.recipes["tiny"]


@pytest.fixture(scope="module")
def sampled(darcy, recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    dataset.sample(darcy, recipe, folder, None)
    return folder


@pytest.fixture
def copied(sampled, tmp_path) -> Path:
    return shutil.copytree(sampled, tmp_path / "copied")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        yield local.scheduler_address


@pytest.fixture
def at_once(monkeypatch):
    """Blocks made in this process, of a model that is in no catalogue."""

    def use(model: PhysicalModel) -> None:
        monkeypatch.setattr(catalog, "load", lambda _: model)
        monkeypatch.setattr(cluster, "run", lambda function, tasks, _: map(function, tasks))

    return use


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """The packages with one more catalogue entry, for processes of their own."""
    folder = tmp_path_factory.mktemp("workshop")
    for package in ("models", "training"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    (folder / "models" / "catalog" / "bulky").mkdir()
    (folder / "models" / "catalog" / "bulky" / "__init__.py").write_text(BULKY)
    (folder / "sample_bulky.py").write_text(SAMPLE_BULKY)
    return folder


def sample_bulky(workshop: Path, folder: Path, count: int, **environment: str) -> dict[str, float]:
    command = [sys.executable, "sample_bulky.py", str(folder), str(count)]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=workshop, capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def ages(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_samples_come_back_as_they_were_drawn(darcy, recipe, sampled):
    inputs, outputs = dataset.load(sampled, "validation")
    for index in range(recipe.splits["validation"].count):
        drawn, solved = darcy.pair(1, index, recipe.points, "two_phase")
        np.testing.assert_array_equal(inputs["permeability"][index], drawn["permeability"].astype(np.float32))
        np.testing.assert_array_equal(outputs["pressure"][index], solved["pressure"].astype(np.float32))


def test_unlabelled_samples_have_inputs_only(recipe, sampled):
    inputs, outputs = dataset.load(sampled, "unlabelled")
    assert outputs == {}
    assert len(inputs["permeability"]) == recipe.unlabelled.count


def test_a_split_is_read_in_slices(recipe, sampled):
    samples = dataset.Samples(sampled, "unlabelled")
    assert (samples.count, samples.chunk) == (recipe.unlabelled.count, dataset.MOST_SAMPLES)
    assert (samples.input_names, samples.output_names) == (("permeability",), ())
    whole = dataset.load(sampled, "unlabelled")[0]["permeability"]
    np.testing.assert_array_equal(samples.read(30, 170)[0]["permeability"], whole[30:170])
    with pytest.raises(IndexError, match="within 0 … 900"):
        samples.read(890, 901)


def test_sampling_again_computes_nothing(darcy, recipe, copied, monkeypatch):
    def refuse(*given):
        raise AssertionError

    monkeypatch.setattr(cluster, "run", refuse)
    dataset.sample(darcy, recipe, copied, None)


def test_samples_of_another_reference_are_refused(darcy, recipe, copied):
    def otherwise(*given):
        inputs, outputs = darcy.pair(*given)
        return inputs, {name: 1.01 * values for name, values in outputs.items()}

    with pytest.raises(ValueError, match=r"output\.pressure of the first sample of 'train' differs"):
        dataset.sample(replace(darcy, pair=otherwise), recipe, copied, None)


@pytest.mark.parametrize("lost", ["done/c.4", "input.permeability/c.4.0.0"])
def test_sampling_again_computes_only_what_is_missing(darcy, recipe, sampled, copied, at_once, lost):
    at_once(darcy)
    split = copied / dataset.STORE / "unlabelled"
    (split / lost).unlink()
    with pytest.raises(FileNotFoundError, match="all but 1 blocks"):
        dataset.Samples(copied, "unlabelled")
    before = ages(copied)
    dataset.sample(darcy, recipe, copied, None)
    assert files(copied) == files(sampled)
    rewritten = {path for path, age in ages(copied).items() if before.get(path) != age}
    assert rewritten == {split / "done/c.4", split / "input.permeability/c.4.0.0"}


def test_a_killed_run_resumes_to_the_same_bytes(workshop, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    sample_bulky(workshop, straight, 300)
    command = [sys.executable, "sample_bulky.py", str(killed), "300"]
    process = subprocess.Popen(
        command, cwd=workshop, env={**os.environ, "BULKY_SECONDS": "0.004"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    marks = killed / dataset.STORE / "train" / "done"
    deadline = time.monotonic() + 60
    while len(list(marks.glob("c.*"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in killed.rglob("done/c.*")}
    assert 3 <= len(finished) < 10
    (marks.parent / "input.a" / "c.0.0.remnant.partial").write_bytes(b"half a chunk")
    sample_bulky(workshop, killed, 300)
    assert files(killed) == files(straight)
    assert all(path.stat().st_mtime_ns == age for path, age in finished.items())


def test_a_store_killed_while_it_is_laid_out_is_laid_out_again(darcy, recipe, tmp_path, at_once):
    at_once(darcy)
    (tmp_path / "samples.unfinished" / "train").mkdir(parents=True)
    dataset.sample(darcy, replace(recipe, **SMALL), tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == [dataset.STORE]


def test_samples_of_another_recipe_are_not_mixed_in(darcy, recipe, copied):
    other = replace(recipe, splits={**recipe.splits, "train": replace(recipe.splits["train"], count=60)})
    before = ages(copied)
    with pytest.raises(ValueError, match=r"train .*count: 60.*another's \(train .*count: 48.*Remove"):
        dataset.sample(darcy, other, copied, None)
    with pytest.raises(ValueError, match="family: one_phase"):
        dataset.sample(replace(darcy, training_family="one_phase"), recipe, copied, None)
    assert ages(copied) == before


def test_splits_must_not_share_samples(darcy, recipe, tmp_path):
    same = {"train": Split(0, 3), "test": Split(2, 3, "two_phase")}
    with pytest.raises(ValueError, match="different seed or family"):
        dataset.sample(darcy, replace(recipe, splits=same, unlabelled=Split(2, 1)), tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_splits_of_other_families_may_share_a_seed(darcy, recipe, tmp_path, at_once):
    at_once(replace(darcy, pair=lambda *given: recorded(*given[2:])))
    splits = {"train": Split(0, 2, "early"), "test": Split(0, 2, "late")}
    dataset.sample(catalog.load("any"), replace(recipe, splits=splits, unlabelled=Split(0, 0)), tmp_path, None)
    assert float(dataset.load(tmp_path, "train")[0]["permeability"].min()) == len("early")
    assert float(dataset.load(tmp_path, "test")[0]["permeability"].min()) == len("late")


def recorded(points, family):
    values = np.full((points, points), float(len(family)))
    return {"permeability": values}, {"pressure": values}


def test_a_scheduler_gives_the_same_bytes(darcy, recipe, sampled, scheduler, tmp_path):
    dataset.sample(darcy, recipe, tmp_path, scheduler)
    assert files(tmp_path) == files(sampled)


def test_tasks_are_taken_as_workers_free_up(scheduler):
    taken, finished, ahead = 0, 0, 0

    def tasks():
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    for _ in cluster.run(str, tasks(), scheduler):
        ahead = max(ahead, taken - finished)
        finished += 1
    assert finished == 200
    assert ahead <= 2 * cluster.AHEAD + 2


def test_an_error_of_a_worker_reaches_the_caller(scheduler):
    with pytest.raises(ZeroDivisionError):
        list(cluster.run(lambda number: 1 / number, [2, 1, 0], scheduler))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_samples(workshop, tmp_path):
    found = []
    for count in (MANY, 8 * MANY):
        notes = tmp_path / f"peaks-{count}"
        notes.mkdir()
        peaks = sample_bulky(workshop, tmp_path / str(count), count, BULKY_PEAKS=str(notes))
        assert peaks.pop("samples") == count
        peaks["worker"] = max(int(note.read_text()) for note in notes.iterdir()) / 1024
        found.append(peaks)
        shutil.rmtree(tmp_path / str(count))
    few, many = found
    assert many.pop("whole") - few.pop("whole") > MEMORY_SLACK  # what the measure shows when samples are held
    for part in few:
        print(f"{part}: {few[part]:.0f} MiB for {MANY} samples, {many[part]:.0f} MiB for {8 * MANY}")
        assert many[part] - few[part] < MEMORY_SLACK, part


def test_windows_give_every_sample_once_in_the_order_of_chunks(sampled):
    samples = dataset.Samples(sampled, "unlabelled")
    whole = samples.read(0, samples.count)[0]["permeability"]
    order = np.random.default_rng(5).permutation(18).tolist()
    windows = [inputs["permeability"] for inputs, _ in dataset.shuffled_windows(samples, order, 4)]
    assert [len(window) for window in windows] == [200, 200, 200, 200, 100]
    expected = np.concatenate([whole[50 * number : 50 * number + 50] for number in order])
    np.testing.assert_array_equal(np.concatenate(windows), expected)


def test_the_last_chunk_may_be_short(darcy, recipe, tmp_path, at_once, monkeypatch):
    monkeypatch.setattr(dataset, "MOST_SAMPLES", 4)
    at_once(darcy)
    dataset.sample(darcy, replace(recipe, **SMALL), tmp_path, None)
    samples = dataset.Samples(tmp_path, "train")
    (inputs, outputs), (rest, _) = dataset.shuffled_windows(samples, [1, 0], 1)
    assert (len(inputs["permeability"]), len(outputs["pressure"]), len(rest["permeability"])) == (3, 3, 4)
    whole = dataset.load(tmp_path, "train")[0]["permeability"]
    np.testing.assert_array_equal(inputs["permeability"], whole[4:])


def test_no_more_than_two_windows_are_read_ahead_of_their_use(sampled):
    samples, read = dataset.Samples(sampled, "unlabelled"), []
    original = samples.read_chunks
    samples.read_chunks = lambda numbers: read.append(numbers) or original(numbers)
    for used, _ in enumerate(dataset.shuffled_windows(samples, range(18), 3), start=1):
        time.sleep(0.02)
        assert len(read) == min(6, used + 1)  # the one in use and the next


def test_an_error_of_the_reading_thread_reaches_the_caller(sampled, copied):
    windows = dataset.shuffled_windows(dataset.Samples(sampled, "unlabelled"), [0, 18], 1)
    next(windows)
    with pytest.raises(IndexError, match="within 900"):
        next(windows)
    chunk = copied / dataset.STORE / "train" / "output.pressure" / "c.0.0.0"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(ValueError, match="checksum"):
        list(dataset.shuffled_windows(dataset.Samples(copied, "train"), [0], 1))


def test_scalars_and_lead_times_keep_their_shapes(darcy, recipe, tmp_path, at_once):
    """The graph's lead-time input is not stored; its truths carry one leading axis of times."""
    axis = (Axis("x", "m", 6, 0.0, 1.0),)
    fields = (
        Field("state", "s", "1", "", axis),
        Field("hour", "h", "h", "", (), role="reference_time"),
        Field("ahead", "t", "h", "", (), role="lead_time"),
    )
    hour = 433_000.25  # in 2019: float32 keeps quarter hours

    def pair(seed, index, points, family):
        return {"state": np.full(6, index), "hour": np.float64(hour + index)}, {"next": np.full((5, 6), index)}

    model = replace(
        darcy, inputs=lambda _: fields, outputs=lambda _: (Field("next", "n", "1", "", axis),), pair=pair,
        draw=lambda *given: pair(*given)[0], lead_times=LeadTimes("h", 0.0, 4.0, 5, "ahead"),
    )  # fmt: skip
    at_once(model)
    dataset.sample(model, replace(recipe, **SMALL), tmp_path, None)
    inputs, outputs = dataset.load(tmp_path, "train")
    assert {name: value.shape for name, value in inputs.items()} == {"state": (7, 6), "hour": (7,)}
    assert outputs["next"].shape == (7, 5, 6)
    np.testing.assert_array_equal(inputs["hour"], hour + np.arange(7))
    with pytest.raises(ValueError, match="lead times"):
        dataset.sample(
            replace(model, lead_times=LeadTimes("h", 0.0, 8.0, 5, "ahead")), replace(recipe, **SMALL), tmp_path, None
        )


def test_a_sample_of_another_shape_than_declared_is_refused(darcy, recipe, tmp_path, at_once):
    at_once(replace(darcy, pair=lambda *_: ({"permeability": 1.0}, {"pressure": 1.0})))
    with pytest.raises(ValueError, match="Expected a sample of shapes"):
        dataset.sample(catalog.load("any"), replace(recipe, **SMALL), tmp_path, None)


def test_chunks_are_of_a_few_megabytes_and_of_at_most_fifty_samples():
    assert dataset.samples_per_block([(), (17, 17)]) == 50
    assert dataset.samples_per_block([(), (512, 512)]) == 8
    assert dataset.samples_per_block([(40, 512, 512)]) == 1


def test_what_was_not_sampled_is_not_found(sampled, tmp_path):
    for folder, split in ((tmp_path, "train"), (sampled, "trial")):
        with pytest.raises(FileNotFoundError, match="got none"):
            dataset.load(folder, split)
