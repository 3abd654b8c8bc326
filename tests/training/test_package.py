"""A foreign ONNX file becomes a bundle that is served without physics code."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.errors import NotOffered
from models.explanation import Request, document, explain
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from training.package import package

POINTS, PAIRS = 12, 1700


def foreign_graph(path: Path, operator: str = "Tanh") -> None:
    """Y = tanh(A x) for a fixed smoothing matrix A."""
    distance = np.abs(np.subtract.outer(np.arange(POINTS), np.arange(POINTS)))
    matrix = np.exp(-distance / 2.0).astype(np.float32) / 4.0
    nodes = [helper.make_node("MatMul", ["A", "x"], ["h"]), helper.make_node(operator, ["h"], ["y"])]
    grid = ["batch", POINTS, POINTS]
    graph = helper.make_graph(
        nodes, "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, grid)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, grid)],
        [numpy_helper.from_array(matrix, "A")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)


@pytest.fixture
def parts(tmp_path: Path, generator) -> tuple[Path, Path, Path]:
    graph, description, pairs = tmp_path / "g.onnx", tmp_path / "d.json", tmp_path / "p.npz"
    foreign_graph(graph)
    axes = [{"name": n, "units": "m", "points": POINTS, "start": 0.0, "stop": 1.0} for n in ("x", "y")]
    field = {"symbol": "q", "units": "K", "description": "A field.", "axes": axes, "minimum": None, "maximum": None}
    document = {
        "name": "partner", "version": "1", "title": "A partner's model", "domain": "environment", "time": "steady",
        "inputs": [{"name": "forcing", **field}], "outputs": [{"name": "response", **field}],
        "truth": "observations",
    }  # fmt: skip
    description.write_text(json.dumps(document))
    inputs = generator.standard_normal((PAIRS, POINTS, POINTS)).astype(np.float32)
    distance = np.abs(np.subtract.outer(np.arange(POINTS), np.arange(POINTS)))
    clean = np.tanh(np.exp(-distance / 2.0) / 4.0 @ inputs)
    np.savez(pairs, inputs=inputs, outputs=clean + 0.05 * generator.standard_normal(clean.shape))
    return graph, description, pairs


def test_packaged_model_has_bands_validity_and_explanations_but_no_bound(parts, tmp_path, generator):
    folder = package(*parts, tmp_path / "zoo")
    surrogate = load_surrogate(folder, RuntimeOptions())
    values = generator.standard_normal((1, POINTS, POINTS)).astype(np.float32)
    answer = surrogate.predict({"forcing": values})
    by_norm = {statement.norm: statement for statement in answer.statements[0]}
    assert by_norm["energy"].kind == "none"
    assert "no physical model" in by_norm["energy"].assumptions[0]
    assert by_norm["band"].kind == "statistical"
    assert 0.05 < by_norm["band"].value < 0.5  # 144 points of noise 0.05: the largest is near 0.17
    far = surrogate.predict({"forcing": 5 * values})
    assert not far.validity[0].in_domain
    assert {s.norm: s.kind for s in far.statements[0]}["band"] == "none"
    request = {"quantity": {"type": "region_mean", "x": [0, 0.5]}, "method": "occlusion", "regions": 2}
    found = document(explain(surrogate, {"forcing": values}, Request(**request)))
    rows = {row["id"]: abs(row["value"]) for row in found["regions"]}
    assert len(rows) == 4
    for lacking, field in (({"method": "gradient"}, "method"), ({"baseline": "expected"}, "baseline")):
        with pytest.raises(NotOffered) as caught:
            explain(surrogate, {"forcing": values}, Request(**{**request, **lacking}))
        assert caught.value.field == field


def test_a_packaged_band_covers_fresh_noise(parts, tmp_path, generator):
    surrogate = load_surrogate(package(*parts, tmp_path / "zoo"), RuntimeOptions())
    inputs = generator.standard_normal((200, POINTS, POINTS)).astype(np.float32)
    prediction = surrogate.run({"forcing": inputs})["response"]
    truth = prediction.mean + 0.05 * generator.standard_normal(prediction.mean.shape)
    half = surrogate.calibrations["response"].simultaneous(0.9) * prediction.scale
    covered = int((np.abs(truth - prediction.mean) <= half).all(axis=(1, 2)).sum())
    assert 163 <= covered <= 195  # BetaBinomial(200, 586, 65) at 1e-3


def test_graphs_with_operators_without_a_gpu_kernel_are_refused(parts, tmp_path):
    foreign_graph(parts[0], operator="Mish")
    with pytest.raises(ValueError, match="Mish"):
        package(*parts, tmp_path / "zoo")


def test_incomplete_descriptions_and_too_few_pairs_are_refused(parts, tmp_path):
    graph, description, pairs = parts
    document = json.loads(description.read_text())
    with np.load(pairs) as arrays:
        np.savez(tmp_path / "few.npz", inputs=arrays["inputs"][:100], outputs=arrays["outputs"][:100])
    with pytest.raises(ValueError, match="pairs"):
        package(graph, description, tmp_path / "few.npz", tmp_path / "zoo")
    document.pop("truth")
    description.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="truth"):
        package(graph, description, pairs, tmp_path / "zoo")
