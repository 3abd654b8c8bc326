"""Train all members of an ensemble side by side; resumable, logged, on CPU, CUDA or under torchrun."""

import ctypes
import importlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from tqdm import tqdm

from models.physical_model import PhysicalModel, Recipe
from training import dataset, losses
from training.muon import Muon

Prepared = tuple[Tensor, ...]
NOT_MUON = ("lift", "project")


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


def build_network(recipe: Recipe) -> nn.Module:
    """The architecture named by the recipe: the one class in its module that has `from_recipe`."""
    module = importlib.import_module(f"training.architectures.{recipe.architecture}")
    (network,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type) and item.__module__ == module.__name__ and hasattr(item, "from_recipe")
    )
    built: nn.Module = network.from_recipe(recipe)
    return built


def transform(field: Tensor, element: int) -> Tensor:
    """One of the eight symmetries of the square."""
    if element & 1:
        field = field.flip(-1)
    if element & 2:
        field = field.flip(-2)
    return field.mT if element & 4 else field


class Run:
    """Network, optimisers, position in the data: everything a checkpoint holds."""

    def __init__(self, recipe: Recipe, samples: int, place: Place) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.samples, self.place = recipe, samples, place
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
        self.generator = torch.Generator().manual_seed(recipe.seed * 1000 + place.rank)
        self.epoch = 0
        self.seconds = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, over all processes."""
        return max(1, self.samples // (self.recipe.batch * self.place.world))

    def progress(self, step: int) -> float:
        """Share of the training done."""
        return (self.epoch * self.steps_per_epoch + step) / (self.recipe.epochs * self.steps_per_epoch)

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


def _batches(run: Run) -> list[list[Tensor]]:
    """Per member, an own order of the samples; returned as steps × members of indices."""
    orders = [torch.randperm(run.samples, generator=run.generator) for _ in range(run.recipe.members)]
    size = run.recipe.batch
    return [[order[k * size : (k + 1) * size] for order in orders] for k in range(run.steps_per_epoch)]


def _gather(run: Run, prepared: Prepared, members: list[Tensor]) -> Prepared:
    """(member, batch, x, y) of every prepared tensor, each member under its own symmetry."""
    elements = torch.randint(8, (len(members),), generator=run.generator).tolist()
    return tuple(
        torch.stack([transform(t[i], e) for i, e in zip(members, elements, strict=True)]).to(run.place.device)
        for t in prepared
    )


def _loss(run: Run, batch: Prepared, reduced_precision: bool) -> Tensor:
    *inputs, truth = batch
    with torch.autocast(run.place.device.type, torch.bfloat16, enabled=reduced_precision):
        prediction, scale = run.network.fit_terms(*inputs)
    truth = truth.transpose(0, 1)
    loss = losses.relative_l2(prediction, truth)
    loss = loss + run.recipe.gradient_weight * losses.relative_gradient(prediction, truth)
    score = losses.laplace_score(prediction, scale, truth, run.network.bubble)
    # summed over members: each one's gradient is then independent of how many there are
    return loss.mean(0).sum() + run.recipe.scale_weight * score.mean((0, 2, 3)).sum()


def _step(run: Run, batch: Prepared, reduced_precision: bool) -> float:
    loss = _loss(run, batch, reduced_precision)
    for optimiser in run.optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if run.place.world > 1:
        for parameter in run.network.parameters():
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= run.place.world
    for optimiser in run.optimisers:
        optimiser.step()
    return float(loss.detach()) / run.recipe.members


def train_epoch(run: Run, prepared: Prepared, fast: bool) -> float:
    """One pass over the samples; returns the mean loss."""
    started, total = time.perf_counter(), 0.0
    run.network.train()
    plan = _batches(run)
    bar = tqdm(plan, desc=f"epoch {run.epoch + 1}/{run.recipe.epochs}", leave=False)
    for step, members in enumerate(bar):
        progress = run.progress(step)
        run.set_rates(progress)
        reduced = fast and progress < 1.0 - run.recipe.full_precision_share
        total += _step(run, _gather(run, prepared, members), reduced)
    run.epoch += 1
    run.seconds += time.perf_counter() - started
    return total / len(plan)


@torch.no_grad()
def evaluate(run: Run, prepared: Prepared) -> dict[str, float]:
    """Mean relative L2 error of each member (averaged) and of the ensemble mean."""
    run.network.eval()
    members, mean = [], []
    for part in zip(*(t.split(run.recipe.batch) for t in prepared), strict=True):
        *inputs, truth = (t.to(run.place.device)[None] for t in part)
        copies = (t.expand(run.recipe.members, *t.shape[1:]) for t in inputs)
        prediction, _ = run.network.fit_terms(*copies)
        members.append(losses.relative_l2(prediction, truth.transpose(0, 1)))
        mean.append(losses.relative_l2(prediction.mean(1), truth[0]))
    return {"member": float(torch.cat(members).mean()), "ensemble": float(torch.cat(mean).mean())}


def load_prepared(network: nn.Module, data: Path, split: str) -> Prepared:
    """A split as the tensors the network trains on."""
    inputs, outputs = dataset.load(data, split)
    tensors = [torch.from_numpy(np.ascontiguousarray(v)) for v in (*inputs.values(), *outputs.values())]
    prepared: Prepared = network.cpu().prepare(*tensors)
    return prepared


def fit(model: PhysicalModel, recipe: Recipe, folder: Path) -> None:
    """Train to the end of the recipe, from the last checkpoint if there is one."""
    keep_memory_mapped()
    place = find_place()
    run = Run(recipe, recipe.splits["train"].count, place)
    train, validation = (load_prepared(run.network, folder / "data", s) for s in ("train", "validation"))
    run.network.to(place.device)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    fast = has_fast_bfloat16(place.device)
    with tqdm(total=recipe.epochs, initial=run.epoch, desc=f"fit {model.name}", unit="epoch") as bar:
        while run.epoch < recipe.epochs:
            loss = train_epoch(run, train, fast)
            entry = {"epoch": run.epoch, "seconds": round(run.seconds, 1), "loss": loss}
            entry |= evaluate(run, validation)
            if place.rank == 0:
                run.save(checkpoint)
                with (folder / "fit.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry | {"device": str(place.device), "bfloat16": fast}) + "\n")
            bar.set_postfix(validation=f"{entry['ensemble']:.5f}")
            bar.update()
