"""Train all members of an ensemble side by side; resumable, logged, on CPU, CUDA or under torchrun."""

import ctypes
import importlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from tqdm import tqdm

from models.physical_model import Arrays, PhysicalModel, Recipe
from training import dataset
from training.architectures.network import Network, Prepared
from training.muon import Muon

NOT_MUON = ("lift", "project")
CHECKPOINT = "checkpoint.pt"
EVALUATED = 25  # validation samples at a time


@dataclass(frozen=True)
class Place:
    """Where a process trains: its device and its share of the work."""

    device: torch.device
    rank: int
    world: int


def find_place() -> Place:
    """CUDA when there is one; the process group when torchrun started this process."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
    return Place(torch.device(name), rank, world)


def keep_memory_mapped() -> None:
    """Stop glibc from returning every large activation to the kernel: page faults cost 40 % of a CPU step."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Hardware matrix products in bfloat16: any CUDA device, or a processor with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def build_network(recipe: Recipe) -> Network:
    """The architecture named by the recipe: the one class in its module that has `from_recipe`."""
    module = importlib.import_module(f"training.architectures.{recipe.architecture}")
    (network,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type) and item.__module__ == module.__name__ and hasattr(item, "from_recipe")
    )
    built: Network = network.from_recipe(recipe)
    return built


class Run:
    """Network, optimisers, position in the data: everything a checkpoint holds."""

    def __init__(self, model: PhysicalModel, recipe: Recipe, place: Place) -> None:
        torch.manual_seed(recipe.seed)
        self.model, self.recipe, self.place = model, recipe, place
        self.network = build_network(recipe).to(place.device)
        matrices, others = [], []
        for name, parameter in self.network.named_parameters():
            is_matrix = parameter.dim() >= 3 and name.endswith("weight") and not name.startswith(NOT_MUON)
            (matrices if is_matrix else others).append(parameter)
        self.optimisers = (
            Muon(matrices, recipe.muon_rate),
            torch.optim.AdamW(others, recipe.adam_rate, weight_decay=recipe.weight_decay),
        )
        self.rates = (recipe.muon_rate, recipe.adam_rate)
        # the same on every process: each takes its share of the same global batch
        self.generator = torch.Generator().manual_seed(recipe.seed * 1000)
        self.epoch = 0
        self.seconds = 0.0

    def tensors(self, inputs: Arrays, outputs: Arrays) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the network takes and what it should give, on the device."""
        device = self.place.device
        found, truth = (
            {name: torch.from_numpy(np.ascontiguousarray(values)).to(device) for name, values in part.items()}
            for part in (self.model.completed(inputs), outputs)
        )
        return found, truth

    def prepare(self, inputs: Arrays, outputs: Arrays) -> Prepared:
        """Samples as the network trains on them."""
        with torch.no_grad():
            return self.network.prepare(*self.tensors(inputs, outputs))

    def set_rates(self, progress: float) -> None:
        """Linear warm-up, then cosine to zero."""
        warm = self.recipe.warm_up
        share = (progress + 1e-3) / warm if progress < warm else 1.0
        factor = min(1.0, share) * 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - warm) / (1 - warm))))
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    def save(self, path: Path) -> None:
        """Write aside, then rename: a checkpoint is whole or absent."""
        state = {
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "seconds": self.seconds,
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, map_location=self.place.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.seconds = state["epoch"], state["seconds"]


class Windows:
    """The training samples, a window at a time, prepared; a split of one window is prepared once."""

    def __init__(self, run: Run, data: Path) -> None:
        self._run, self._samples = run, dataset.Samples(data, "train")
        self._chunks = -(-self._samples.count // self._samples.chunk)
        self._per_window = max(1, run.recipe.window // self._samples.chunk)
        self._only: Prepared | None = None
        self.count = self._samples.count

    def epoch(self) -> Iterator[Prepared]:
        """Every sample once, chunks in a new random order."""
        order = torch.randperm(self._chunks, generator=self._run.generator).tolist()
        if self._per_window >= self._chunks:
            if self._only is None:
                (window,) = dataset.shuffled_windows(self._samples, range(self._chunks), self._chunks)
                self._only = self._run.prepare(*window)
            yield self._only
            return
        for window in dataset.shuffled_windows(self._samples, order, self._per_window):
            yield self._run.prepare(*window)

    def absorb(self) -> None:
        """Let the network take its constants from the first window of chunks spread over the split."""
        stride = -(-self._chunks // self._per_window)
        spread = range(0, self._chunks, stride)
        (window,) = dataset.shuffled_windows(self._samples, spread, len(spread))
        self._run.network.absorb(*self._run.tensors(*window))


def _gather(run: Run, prepared: Prepared, members: list[Tensor]) -> Prepared:
    """The share of the global batch of one process: (member, batch, …) of every prepared tensor, augmented."""
    batch = tuple(torch.stack([t[i.to(t.device)] for i in members]) for t in prepared)
    batch = run.network.augment(batch, run.generator)
    return tuple(t[:, run.place.rank :: run.place.world] for t in batch)


def _average(tensors: list[Tensor], world: int) -> None:
    """Replace tensors by their means over the processes, in one exchange."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    for tensor, part in zip(tensors, (flat / world).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _step(run: Run, batch: Prepared, reduced_precision: bool) -> Tensor:
    with torch.autocast(run.place.device.type, torch.bfloat16, enabled=reduced_precision):
        member_losses = run.network.loss(*batch)
    for optimiser in run.optimisers:
        optimiser.zero_grad(set_to_none=True)
    # summed over members: each one's gradient is then independent of how many there are
    member_losses.sum().backward()
    loss = member_losses.detach().mean()
    if run.place.world > 1:
        _average([loss, *(p.grad for p in run.network.parameters() if p.grad is not None)], run.place.world)
    for optimiser in run.optimisers:
        optimiser.step()
    return loss


def train_epoch(run: Run, windows: Windows, fast: bool) -> float:
    """One pass over the samples; returns the mean loss."""
    started, losses, seen = time.perf_counter(), [], 0
    run.network.train()
    size = run.recipe.batch
    with tqdm(total=windows.count, desc=f"epoch {run.epoch + 1}/{run.recipe.epochs}", leave=False) as bar:
        for prepared in windows.epoch():
            held = len(prepared[0])
            orders = [torch.randperm(held, generator=run.generator) for _ in range(run.recipe.members)]
            for first in range(0, max(1, held // size) * size, size):
                progress = (run.epoch + (seen + first) / windows.count) / run.recipe.epochs
                run.set_rates(progress)
                reduced = fast and progress < 1.0 - run.recipe.full_precision_share
                batch = _gather(run, prepared, [order[first : first + size] for order in orders])
                losses.append(_step(run, batch, reduced))
                bar.update(size)
            seen += held
    run.epoch += 1
    run.seconds += time.perf_counter() - started
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):
        raise FloatingPointError(f"Expected a finite loss, got {loss} in epoch {run.epoch}. Lower the learning rates.")
    return loss


@torch.no_grad()
def evaluate(run: Run, prepared: Prepared) -> dict[str, float]:
    """Mean validation error of each member (averaged) and of the ensemble mean.

    Raises FloatingPointError where one is not finite.
    """
    run.network.eval()
    parts = zip(*(t.split(EVALUATED) for t in prepared), strict=True)
    members, mean = (torch.cat(part) for part in zip(*(run.network.errors(*part) for part in parts), strict=True))
    found = {"member": float(members.mean()), "ensemble": float(mean.mean())}
    if not all(map(math.isfinite, found.values())):
        raise FloatingPointError(f"Expected finite validation errors, got {found} after epoch {run.epoch}.")
    return found


def begin(run: Run, windows: Windows, folder: Path) -> None:
    """From the last checkpoint, from another preset's weights, or from constants of the training data."""
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        run.restore(checkpoint)
    elif run.recipe.initial is not None:
        source = folder.parent / run.recipe.initial / CHECKPOINT
        state = torch.load(source, map_location=run.place.device, weights_only=True)
        run.network.load_state_dict(state["network"])
    else:
        windows.absorb()


def fit(model: PhysicalModel, recipe: Recipe, folder: Path) -> None:
    """Train to the end of the recipe, from the last checkpoint if there is one."""
    keep_memory_mapped()
    place = find_place()
    run = Run(model, recipe, place)
    windows = Windows(run, folder / "data")
    begin(run, windows, folder)
    validation = run.prepare(*dataset.load(folder / "data", "validation"))  # after its constants are known
    fast = has_fast_bfloat16(place.device)
    with tqdm(total=recipe.epochs, initial=run.epoch, desc=f"fit {model.name}", unit="epoch") as bar:
        while run.epoch < recipe.epochs:
            loss = train_epoch(run, windows, fast)
            if run.epoch == recipe.epochs:
                with torch.no_grad():
                    run.network.finish(*validation)
            entry = {"epoch": run.epoch, "seconds": round(run.seconds, 1), "loss": loss}
            entry |= evaluate(run, validation)
            if place.rank == 0:
                run.save(folder / CHECKPOINT)
                with (folder / "fit.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry | {"device": str(place.device), "bfloat16": fast}) + "\n")
            bar.set_postfix(validation=f"{entry['ensemble']:.5f}")
            bar.update()
