"""Where the time of every forward graph goes: the shipped bundles and the 64×64 Fourier neural operator.

python -m tests.benchmarks.graphs [--only darcy,fno_64] [--zoo FOLDER] [--markdown]

Floating-point operations are those of the graph's products and convolutions, two per multiply-add, for one sample. The
rate they are held against is that of a product of two 2048² matrices by the same runtime with as many threads. Every
time is the least of many runs, in rounds that go over all graphs, so that a disturbed minute of the machine does not
count. `kernels` adds up the shortest time of each operator of the graph at the best batch size: what is left when no
operator waits for another. `products` are those among them that make the operations.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import inf, prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from models import bundle, catalog
from models.bundle import GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE
from models.repository import SHIPPED, bundle_folders
from models.runtime import available_cores
from tests.benchmarks.servers import ROOT
from tests.benchmarks.tables import insert, table

BATCHES = (1, 2, 4, 8, 16)
SQUARE = 2048
ROUNDS, SECONDS, PROFILED = 5, 0.15, 25
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "FusedMatMul", "FusedGemm", "FusedConv")
SHOWN = 6  # operator types in the table
PAGE = ROOT / "docs" / "benchmarks.md"
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A graph, its external weights, and physical inputs of a few samples."""

    name: str
    graph: bytes
    weights: bytes | None
    inputs: Feeds

    def feeds(self, batch: int) -> Feeds:
        """The samples over and over, as many as asked for."""
        return {name: np.resize(values, (batch, *values.shape[1:])) for name, values in self.inputs.items()}

    def session(self, profile: Path | None = None) -> onnxruntime.InferenceSession:
        """A session with the service's settings."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = available_cores(), 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        if self.weights is not None:
            options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [self.weights], [len(self.weights)])
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])


def shipped(zoo: Path) -> Iterator[Subject]:
    """The forward graphs of all bundles, fed with their golden inputs."""
    for folder in bundle_folders(zoo):
        content = bundle.read(folder)
        golden = content.arrays(GOLDEN_FILE)
        inputs = {name.removeprefix("input."): v for name, v in golden.items() if name.startswith("input.")}
        physics = content.manifest.physical_model
        if physics is not None:
            inputs = dict(catalog.load(physics).completed(inputs))
        yield Subject(
            content.manifest.name, content.files[GRAPH_FILES["model"]], content.files.get(WEIGHTS_FILE), inputs
        )


def operator() -> Subject:
    """The Fourier neural operator of the serving benchmark."""
    from tests.benchmarks.subjects import POINTS, Operator, export

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fno_64.onnx"
        export(Operator(), path)
        a = np.random.default_rng(7).standard_normal((1, POINTS, POINTS)).astype(np.float32)
        return Subject("fno_64", path.read_bytes(), None, {"a": a})


def square() -> Subject:
    """A product of two large matrices, alone in a graph."""
    sizes = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [SQUARE, SQUARE]) for name in "abc"}
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "square", [sizes["a"], sizes["b"]], [sizes["c"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    random = np.random.default_rng(0)
    values = {name: random.standard_normal((SQUARE, SQUARE)).astype(np.float32) for name in "ab"}
    return Subject("square", model.SerializeToString(), None, values)


def operations(graph: bytes) -> int:
    """Floating-point operations of one sample, from the shapes of the graph as it was exported.

    Raises ValueError when the shape of a product cannot be inferred.
    """
    proto = onnx.load_model_from_string(graph)
    for item in proto.graph.input:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    shapes = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    for item in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        shapes[item.name] = tuple(d.dim_value for d in item.type.tensor_type.shape.dim)
    return sum(_operations(node, shapes) for node in proto.graph.node if node.op_type in PRODUCTS)


def _operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """2 × outputs × terms of each; a transposed convolution adds every input to outputs instead."""
    left, right, out = (shapes.get(name, (0,)) for name in (*node.input[:2], node.output[0]))
    if not all((*left, *right, *out)):
        raise ValueError(f"Expected known shapes in {node.op_type} {node.name}, got {left}, {right} → {out}.")
    if node.op_type == "ConvTranspose":
        return 2 * prod(left) * prod(right[1:])
    if node.op_type == "Conv":
        return 2 * prod(out) * prod(right[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * prod(out) * left[0 if transposed else -1]


@dataclass
class Measured:
    """Least seconds per sample by batch size, and of every node at the best one: (operator type, seconds) by name."""

    flop: int
    seconds: dict[int, float] = field(default_factory=dict)
    nodes: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The batch size that runs fastest per sample."""
        return min(self.seconds, key=self.seconds.__getitem__)

    def kinds(self) -> Counter[str]:
        """Seconds by operator type."""
        found: Counter[str] = Counter()
        for kind, seconds in self.nodes.values():
            found[kind] += seconds  # type: ignore[assignment]
        return found

    @property
    def products(self) -> float:
        """Seconds of products and convolutions."""
        return sum(seconds for kind, seconds in self.nodes.values() if kind in PRODUCTS)


def least_seconds(session: onnxruntime.InferenceSession, feeds: Feeds, budget: float = SECONDS) -> float:
    """The shortest of as many runs as fit into the budget, three at least."""
    began, least, runs = time.perf_counter(), inf, 0
    while runs < 3 or time.perf_counter() - began < budget:
        started = time.perf_counter()
        session.run(None, feeds)
        least, runs = min(least, time.perf_counter() - started), runs + 1
    return least


def nodes(profile: Path, batch: int) -> dict[str, tuple[str, float]]:
    """Operator type and least seconds per sample of every node in a profile of ONNX Runtime."""
    found: dict[str, tuple[str, float]] = {}
    for event in json.loads(profile.read_text(encoding="utf-8")):
        name = event["name"].removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"]:
            _, least = found.get(name, ("", inf))
            found[name] = (event["args"]["op_name"], min(least, 1e-6 * event["dur"] / batch))
    return found


def profiled(subject: Subject, batch: int) -> dict[str, tuple[str, float]]:
    """Nodes of a session of its own: the profiler slows down what runs beside it."""
    with tempfile.TemporaryDirectory() as folder:
        session = subject.session(Path(folder) / "profile")
        for _ in range(PROFILED):
            session.run(None, subject.feeds(batch))
        return nodes(Path(session.end_profiling()), batch)


def measure(subjects: Sequence[Subject]) -> tuple[dict[str, Measured], float]:
    """All graphs, and the rate of the large product in operations per second."""
    large, sessions = square(), {subject.name: subject.session() for subject in subjects}
    found = {subject.name: Measured(operations(subject.graph)) for subject in subjects}
    reference, least = large.session(), inf
    for _ in range(ROUNDS):
        least = min(least, least_seconds(reference, large.inputs))
        for subject in subjects:
            seconds = found[subject.name].seconds
            for batch in BATCHES:
                spent = least_seconds(sessions[subject.name], subject.feeds(batch)) / batch
                seconds[batch] = min(seconds.get(batch, inf), spent)
    for subject in subjects:
        found[subject.name].nodes = profiled(subject, found[subject.name].best)
    return found, 2 * SQUARE**3 / least


def render(found: dict[str, Measured], rate: float) -> str:
    """The table and where it was measured."""
    from training.costs import machine

    where = machine()
    told = (
        f"Measured {date.today().isoformat()} on {where['processor']}, {available_cores()} cores, with onnxruntime "
        f"{onnxruntime.__version__}; a product of two {SQUARE}² matrices runs at {rate / 1e9:.0f} GFLOP/s."
    )
    head = ["graph", "MFLOP", "batch", "ms", "GFLOP/s", "of the rate", "kernels, ms", "products, ms", "products alone"]
    rows = [_row(name, one, rate) for name, one in found.items()]
    return "\n\n".join([told, table([*head, "where the kernels' time goes"], rows)])


def _row(name: str, one: Measured, rate: float) -> list[str]:
    seconds, kinds = one.seconds[one.best], one.kinds()
    total = kinds.total()
    most = ", ".join(f"{kind} {100 * spent / total:.0f} %" for kind, spent in kinds.most_common(SHOWN))
    return [
        name, f"{one.flop / 1e6:.1f}", f"{one.best}", f"{1e3 * seconds:.3f}", f"{one.flop / seconds / 1e9:.0f}",
        f"{100 * one.flop / seconds / rate:.0f} %", f"{1e3 * total:.3f}", f"{1e3 * one.products:.3f}",
        f"{100 * one.flop / one.products / rate:.0f} %", most,
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="graphs, by name")
    parser.add_argument("--zoo", type=Path, default=SHIPPED)
    parser.add_argument("--markdown", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args()
    subjects = [s for s in (operator(), *shipped(options.zoo)) if not options.only or s.name in options.only]
    text = render(*measure(subjects))
    print(text)
    if options.markdown:
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), text, "graphs"), encoding="utf-8")


if __name__ == "__main__":
    main()
