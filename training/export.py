"""Trained network → the three ONNX graphs of a bundle, which share one weights file.

Weights are rounded to half precision first and stored so (a cast opens each in the graph and is folded when the
session is made): the graph then computes in float32 exactly what torch computes with the same rounded weights.
"""

import hashlib
import inspect
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
from training import dataset, derivatives, sources
from training.architectures.network import Network
from training.fit import CHECKPOINT, build_network

OPSET = 20
EXTERNAL_BYTES = 1024
ALIGNMENT = 4096
GRAPHS = ("model", "jvp", "vjp")


def load_network(recipe: Recipe, checkpoint: Path) -> Network:
    """The trained network in evaluation mode, its weights rounded to half precision."""
    network = build_network(recipe)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    network.requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return network.eval()


@dataclass(frozen=True)
class GraphSignature:
    """Names of graph inputs and outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def signature(model: PhysicalModel, recipe: Recipe, graph: str) -> GraphSignature:
    """Input and output names of one of the three graphs."""
    features = () if model.features is None else model.features.names
    sources = (*(item.name for item in model.inputs(recipe.points)), *features)
    targets = tuple(item.name for item in model.outputs(recipe.points))
    members = tuple(f"{name}_members" for name in targets)
    if graph == "model":
        return GraphSignature(sources, tuple(f"{name}_{part}" for name in targets for part in ("members", "scale")))
    if graph == "vjp":
        weights = tuple(f"{name}_cotangent" for name in targets)
        return GraphSignature((*sources, *weights), (*members, *(f"{name}_gradient" for name in sources)))
    tangents = tuple(f"{name}_tangent" for name in sources)
    return GraphSignature((*sources, *tangents), (*members, *(f"{name}_derivative" for name in targets)))


def examples(model: PhysicalModel, recipe: Recipe, data: Path) -> tuple[Tensor, ...]:
    """A batch of training inputs in the order of the graph; lead times are spread over their range."""
    samples = dataset.Samples(data, "train")
    count = derivatives.EXAMPLE_BATCH
    inputs, _ = samples.read(0, min(count, samples.count))
    found = {}
    for item in model.inputs(recipe.points):
        if model.lead_times is not None and item.name == model.lead_times.input:
            values = np.linspace(model.lead_times.start, model.lead_times.stop, count, dtype=np.float32)
        else:
            values = np.resize(inputs[item.name], (count, *item.shape))
        found[item.name] = values
    return tuple(torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for v in model.completed(found).values())


def export_graph(graph: str, model: PhysicalModel, recipe: Recipe, checkpoint: Path, data: Path, target: Path) -> None:
    """Export one graph; to be run in a process of its own, because a failed trace leaves functorch state behind."""
    network = load_network(recipe, checkpoint)
    inputs = examples(model, recipe, data)
    with torch.no_grad():
        values = tuple(torch.ones_like(value) for value in network(*inputs)[::2])

    def members(*fields: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = network(*fields)[::2]
        return outputs

    module: nn.Module = network
    arguments = inputs
    if graph == "vjp":
        arguments = (*inputs, *values)
        module = derivatives.trace(derivatives.pull(members, len(inputs)), *arguments)
    elif graph == "jvp":
        arguments = (*inputs, *(torch.ones_like(value) for value in inputs))
        module = derivatives.trace(derivatives.push(members, len(inputs)), *arguments)
    names = signature(model, recipe, graph)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in arguments)
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    program = torch.onnx.export(
        module, arguments, dynamo=True, opset_version=OPSET, verbose=False,
        dynamic_shapes=(shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes,
        input_names=list(names.inputs), output_names=list(names.outputs),
    )  # fmt: skip
    assert program is not None
    onnx.save(program.model_proto, target)


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


def fixed_batches(proto: onnx.ModelProto) -> list[str]:
    """Inputs whose batch axis the trace has merged with another size."""
    return [item.name for item in proto.graph.input if not item.type.tensor_type.shape.dim[0].dim_param]


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
            graph: pool.submit(_export_in_process, graph, sources.reference(model), recipe, folder, raw)
            for graph, raw in raws.items()
        }
        for future in tqdm(running.values(), desc=f"export {model.name}", unit="graph"):
            future.result()
    for graph, raw in raws.items():
        protos[graph] = onnx.load(raw)
        raw.unlink()
        fixed = fixed_batches(protos[graph])
        if fixed:
            raise ValueError(
                f"Expected a free batch axis in {graph}, got a fixed one of {fixed}. Change the example batch."
            )
        foreign = foreign_operators(protos[graph])
        if foreign:
            raise ValueError(f"Expected operators with CUDA kernels, got {sorted(foreign)}. Rewrite the layer.")
    (target / WEIGHTS_FILE).write_bytes(share_weights(protos))
    for graph, proto in protos.items():
        onnx.save(proto, target / f"{graph}.onnx")
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    (folder / "export.json").write_text(json.dumps(sizes, indent=1))


def _export_in_process(graph: str, reference: str, recipe: Recipe, folder: Path, target: Path) -> None:
    torch.set_num_threads(1)
    export_graph(graph, sources.load(reference), recipe, folder / CHECKPOINT, folder / "data", target)
