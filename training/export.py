"""Trained network → the three ONNX graphs of a bundle, which share one weights file.

Weights are rounded to half precision first and stored so (a cast opens each in the graph and is folded when the
session is made): the graph then computes in float32 exactly what torch computes with the same rounded weights.
"""

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from tqdm import tqdm

from models.bundle import ALLOWED_OPERATORS, WEIGHTS_FILE
from models.physical_model import PhysicalModel, Recipe
from training import derivatives
from training.fit import build_network

OPSET = 20
EXTERNAL_BYTES = 1024
ALIGNMENT = 4096
GRAPHS = ("model", "jvp", "vjp")


def load_network(recipe: Recipe, checkpoint: Path) -> nn.Module:
    """The trained network in evaluation mode, its weights rounded to half precision."""
    network = build_network(recipe)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    network.requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return network.eval()


class Forward(nn.Module):
    """Graph outputs by name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, point: Tensor) -> tuple[Tensor, ...]:
        """All outputs of the network."""
        outputs: tuple[Tensor, ...] = self.network(point)
        return outputs


@dataclass(frozen=True)
class GraphSignature:
    """Names of graph inputs and outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def signature(model: PhysicalModel, recipe: Recipe, graph: str) -> GraphSignature:
    """Input and output names of one of the three graphs."""
    (source,), (target,) = model.inputs(recipe.points), model.outputs(recipe.points)
    members = f"{target.name}_members"
    return {
        "model": GraphSignature((source.name,), (members, f"{target.name}_scale")),
        "vjp": GraphSignature((source.name, "cotangent"), (members, "gradient")),
        "jvp": GraphSignature((source.name, "tangent"), (members, "derivative")),
    }[graph]


def export_graph(graph: str, model: PhysicalModel, recipe: Recipe, checkpoint: Path, target: Path) -> None:
    """Export one graph; to be run in a process of its own, because a failed trace leaves functorch state behind."""
    network = load_network(recipe, checkpoint)
    batch, points = derivatives.EXAMPLE_BATCH, recipe.points
    point = 1.0 + torch.rand(batch, points, points)
    value = torch.rand(batch, recipe.members, points, points)

    def members(x: Tensor) -> Tensor:
        outputs: Tensor = network(x)[0]
        return outputs

    module: nn.Module
    examples: tuple[Tensor, ...]
    if graph == "model":
        module, examples = Forward(network), (point,)
    elif graph == "vjp":
        examples = (point, value)
        module = derivatives.trace(derivatives.pull(members), *examples)
    else:
        examples = (point, torch.rand(batch, points, points))
        module = derivatives.trace(derivatives.push(members), *examples)
    names = signature(model, recipe, graph)
    program = torch.onnx.export(
        module, examples, dynamo=True, opset_version=OPSET, verbose=False,
        dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in examples),
        input_names=list(names.inputs), output_names=list(names.outputs),
    )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    onnx.save(proto, target)


class WeightsFile:
    """Tensors stored once by content, at aligned offsets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets: dict[str, int] = {}

    def place(self, tensor: TensorProto, array: np.ndarray) -> None:
        """Move the array of an initialiser here."""
        raw = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(str(array.dtype).encode() + raw).hexdigest()
        if key not in self.offsets:
            self.data.extend(b"\0" * (-len(self.data) % ALIGNMENT))
            self.offsets[key] = len(self.data)
            self.data.extend(raw)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for name, text in (
            ("location", WEIGHTS_FILE), ("offset", self.offsets[key]), ("length", len(raw)),
        ):  # fmt: skip
            entry = tensor.external_data.add()
            entry.key, entry.value = name, str(text)


def share_weights(protos: dict[str, onnx.ModelProto]) -> bytes:
    """Move large initialisers of all graphs into one blob, in half precision where that loses nothing."""
    weights = WeightsFile()
    for proto in protos.values():
        casts = []
        for tensor in proto.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.nbytes <= EXTERNAL_BYTES:
                continue
            half = array.astype(np.float16) if array.dtype == np.float32 else array
            if array.dtype == np.float32 and np.array_equal(half.astype(np.float32), array):
                name, tensor.name = tensor.name, tensor.name + "_half"
                tensor.data_type = TensorProto.FLOAT16
                casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
                array = half
            weights.place(tensor, array)
        nodes = list(proto.graph.node)
        del proto.graph.node[:]
        proto.graph.node.extend([*casts, *nodes])
        del proto.metadata_props[:]
        for node in proto.graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del proto.graph.value_info[:]
    return bytes(weights.data)


def foreign_operators(proto: onnx.ModelProto) -> set[str]:
    """Operators of a graph (and its functions) that are not known to have a CUDA kernel."""
    nodes = list(proto.graph.node) + [node for function in proto.functions for node in function.node]
    local = {function.name for function in proto.functions}
    return {node.op_type for node in nodes} - ALLOWED_OPERATORS - local


def export(model: PhysicalModel, recipe: Recipe, folder: Path) -> None:
    """Write model.onnx, vjp.onnx, jvp.onnx and weights.bin into the run's `graphs` folder.

    Raises ValueError when a graph uses an operator without a CUDA kernel.
    """
    target = folder / "graphs"
    target.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    protos, raws = {}, {graph: target / f"{graph}.raw.onnx" for graph in GRAPHS}
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        running = {
            graph: pool.submit(_export_in_process, graph, model.name, recipe, folder / "checkpoint.pt", raw)
            for graph, raw in raws.items()
        }
        for future in tqdm(running.values(), desc=f"export {model.name}", unit="graph"):
            future.result()
    for graph, raw in raws.items():
        protos[graph] = onnx.load(raw)
        raw.unlink()
        foreign = foreign_operators(protos[graph])
        if foreign:
            raise ValueError(f"Expected operators with CUDA kernels, got {sorted(foreign)}. Rewrite the layer.")
    (target / WEIGHTS_FILE).write_bytes(share_weights(protos))
    for graph, proto in protos.items():
        onnx.save(proto, target / f"{graph}.onnx")
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    (folder / "export.json").write_text(json.dumps(sizes, indent=1))


def _export_in_process(graph: str, name: str, recipe: Recipe, checkpoint: Path, target: Path) -> None:
    from models import catalog

    torch.set_num_threads(1)
    export_graph(graph, catalog.load(name), recipe, checkpoint, target)
