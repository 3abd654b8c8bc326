"""Graphs made to do harm, in bundles whose hashes fit: each is refused by name in a process that lives on and serves the rest."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from models.bundle import WEIGHTS_FILE, read, write
from models.repository import SHIPPED
from tests.conftest import ROOT

GOOD = "site_weather"
HUGE = 2**40
MEMORY = 4 * 2**30  # of address space beyond what the process has; the huge constant would take a thousand times that
Graph = onnx.ModelProto


def located(place: str) -> Callable[[Graph], Graph]:
    """Weights that lie somewhere else."""

    def change(graph: Graph) -> Graph:
        entries = [entry for tensor in graph.graph.initializer for entry in tensor.external_data]
        for entry in entries:
            if entry.key == "location":
                entry.value = place
        assert entries
        return graph

    return change


def shifted(graph: Graph) -> Graph:
    """Weights from beyond the end of the file."""
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(HUGE)
    return graph


def huge(graph: Graph) -> Graph:
    """A constant of 2⁴⁰ numbers, which loading would fold."""
    output = graph.graph.output[0]
    added = [
        helper.make_node("Constant", [], ["many"], value=helper.make_tensor("n", TensorProto.INT64, [1], [HUGE])),
        helper.make_node("ConstantOfShape", ["many"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", [f"{output.name}_before", "sum"], [output.name]),
    ]
    _rename(graph, output.name)
    graph.graph.node.extend(added)
    return graph


def unknown(graph: Graph) -> Graph:
    """An operator that a library from elsewhere would bring."""
    output = graph.graph.output[0]
    _rename(graph, output.name)
    graph.graph.node.append(helper.make_node("Shell", [f"{output.name}_before"], [output.name], domain="elsewhere"))
    graph.opset_import.append(helper.make_opsetid("elsewhere", 1))
    return graph


def wrong_shape(graph: Graph) -> Graph:
    """An input of one number more."""
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1
    return graph


def _rename(graph: Graph, name: str) -> None:
    for node in graph.graph.node:
        node.output[:] = [f"{name}_before" if one == name else one for one in node.output]
        node.input[:] = [f"{name}_before" if one == name else one for one in node.input]


HOSTILE: dict[str, Callable[[Graph], Graph]] = {
    "2": located("/etc/passwd"),
    "3": located("../1/weights.bin"),
    "4": located("/dev/zero"),
    "5": shifted,
    "6": huge,
    "7": unknown,
    "8": wrong_shape,
}
LOADING = """
import json, resource, sys
from pathlib import Path
from models.batching import Engine
from models.repository import Repository
from models.runtime import RuntimeOptions
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]),) * 2)
engine = Engine()
repository = Repository(Path(sys.argv[1]), RuntimeOptions(), engine)
print(json.dumps([sorted(repository.versions("site_weather")), repository.is_ready, repository.broken]))
engine.close()
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> tuple[list[str], bool, dict[str, str]]:
    """(versions served, ready, reasons of the refused) of a process that met all of them."""
    zoo = tmp_path_factory.mktemp("hostile") / "zoo"
    source = SHIPPED / GOOD / "1"
    shutil.copytree(source, zoo / GOOD / "1")
    bundle = read(source)
    document = {key: value for key, value in bundle.manifest.document.items() if key not in ("files", "format")}
    for version, change in HOSTILE.items():
        graph = change(onnx.load_model_from_string(bundle.files["model.onnx"]))
        files = {**bundle.files, "model.onnx": graph.SerializeToString()}
        write(zoo / GOOD / version, document | {"version": version}, files)
    command = [sys.executable, "-c", LOADING, str(zoo), str(MEMORY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_the_good_version_is_served_and_the_service_is_not_ready(loaded):
    versions, ready, _ = loaded
    assert (versions, ready) == (["1"], False)


@pytest.mark.parametrize("version", HOSTILE, ids=lambda v: v)
def test_a_hostile_graph_is_refused_with_a_reason(loaded, version):
    reason = loaded[2][f"{GOOD}/{version}"]
    assert reason.startswith("Expected ") and ", got " in reason
    assert "root:" not in reason, "what the file holds"


def test_weights_are_where_the_graph_says(tmp_path: Path):
    """Only so is there something for these tests to move."""
    graph = onnx.load(SHIPPED / GOOD / "1" / "model.onnx", load_external_data=False)
    places = {e.value for tensor in graph.graph.initializer for e in tensor.external_data if e.key == "location"}
    assert places == {WEIGHTS_FILE}
