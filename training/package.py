"""Bundle a foreign ONNX file: a field description and held-out pairs give it bands, validity and explanations.

Nothing is known of its physics, so there is no bound, no fallback solver and no sampler; the manifest says so. The graph
takes the input fields and gives the output fields in the order of the description, each (batch, *shape), or
(batch, member, *shape) with `member_axis: true`. Pairs are arrays `input.<field>` and `output.<field>`, or `inputs` and
`outputs` when there is one of each. Half of them shape the bands' scales and the validity detectors, the other half
calibrates.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.bundle import (
    CALIBRATION_FILE,
    GOLDEN_FILE,
    GRAPH_FILES,
    WEIGHTS_FILE,
    Bundle,
    write,
)  # fmt: skip
from models.fields import LEAD_TIME, Field, check_values
from models.manifest import Manifest
from models.physical_model import Arrays, Bound
from models.runtime import Graph, RuntimeOptions
from models.validity import THRESHOLD, detector_scores, fit_detectors, hard_checks
from training.calibrate import Errors, field_arrays
from training.export import foreign_operators, share_weights
from training.publish import code_revision, npz, statements_offered

NEEDED = ("name", "version", "title", "domain", "time", "inputs", "outputs", "truth")
DETECTORS = 4
COMPONENTS = 40


def read_description(path: Path) -> dict[str, Any]:
    """The field description.

    Raises ValueError naming what is missing.
    """
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in NEEDED if key not in document]
    if missing:
        raise ValueError(f"Expected {', '.join(NEEDED)} in {path.name}, missing {missing}. Add them.")
    return document


def least_pairs(inputs: int) -> int:
    """Pairs that a model of so many input fields needs: half of them are what p-values are counted among."""
    return int(np.ceil(2 * (2 * DETECTORS * inputs / THRESHOLD + 1)))


def read_pairs(path: Path, sources: tuple[Field, ...], targets: tuple[Field, ...]) -> tuple[Arrays, Arrays]:
    """Held-out inputs and outputs by field, checked against the description.

    Raises KeyError, InvalidInput, ValueError when there are too few for validity.
    """
    with np.load(path, allow_pickle=False) as archive:
        stored = {key: archive[key] for key in archive.files}
    if len(sources) == len(targets) == 1 and "inputs" in stored:
        stored = {f"input.{sources[0].name}": stored["inputs"], f"output.{targets[0].name}": stored["outputs"]}
    inputs = {item.name: stored[f"input.{item.name}"].astype(np.float32) for item in sources}
    outputs = {item.name: stored[f"output.{item.name}"].astype(np.float64) for item in targets}
    count = len(next(iter(inputs.values())))
    for item, values in zip((*sources, *targets), (*inputs.values(), *outputs.values()), strict=True):
        check_values(item, values, count)
    least = least_pairs(len(sources))
    if count < least:
        raise ValueError(f"Expected at least {least} pairs (the p-value floor), got {count}. Add held-out pairs.")
    return inputs, outputs


def package(graph_file: Path, description: Path, pairs: Path, zoo: Path) -> Path:
    """Write the bundle and return its folder.

    Raises ValueError when the graph uses operators without a CUDA kernel or the description is incomplete.
    """
    document = read_description(description)
    sources, targets = (tuple(Field.from_document(item) for item in document[key]) for key in ("inputs", "outputs"))
    proto = onnx.load(graph_file)
    if foreign_operators(proto):
        raise ValueError(f"Expected operators with CUDA kernels, got {sorted(foreign_operators(proto))}. Replace them.")
    weights = share_weights({"model": proto})
    files = {GRAPH_FILES["model"]: proto.SerializeToString(), WEIGHTS_FILE: weights}
    graph = Graph(Bundle(Manifest({}, ""), files), GRAPH_FILES["model"], RuntimeOptions())
    inputs, outputs = read_pairs(pairs, sources, targets)
    member_axis = bool(document.pop("member_axis", False))
    members = _run(graph, inputs, targets, member_axis)
    calibration, facts = _calibrate(outputs, members, targets)
    domain, checks = _domain(inputs, sources)
    golden = {f"input.{name}": values[:3] for name, values in inputs.items()}
    golden |= {f"{name}_members": values[:3] for name, values in members.items()}
    files |= {CALIBRATION_FILE: npz(calibration | domain), GOLDEN_FILE: npz(golden)}
    manifest = document | {
        "physical_model": None,
        "graph": {
            "inputs": dict(zip(inputs, graph.inputs, strict=True)), "outputs": list(graph.outputs),
            "members": next(iter(members.values())).shape[1], "member_axis": member_axis,
        },
        "calibration": facts, "domain_checks": checks,
        "baseline": {name: float(np.mean(values)) for name, values in inputs.items()},
        "statements": statements_offered(Bound(item.name, "energy", "none") for item in targets),
        "report": None, "provenance": {"trained": None, "code": code_revision(), "packaged_from": graph_file.name},
    }  # fmt: skip
    folder = zoo / str(document["name"]) / str(document["version"])
    write(folder, manifest, files)
    return folder


def _run(graph: Graph, inputs: Arrays, targets: tuple[Field, ...], member_axis: bool) -> Arrays:
    """Members of every output for all pairs."""
    count = len(next(iter(inputs.values())))
    parts = [
        graph.run({name: values[part] for name, values in zip(graph.inputs, inputs.values(), strict=True)})
        for part in np.array_split(np.arange(count), 20)
    ]
    joined = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {item.name: values if member_axis else values[:, None] for item, values in zip(targets, joined, strict=True)}


def _calibrate(outputs: Arrays, members: Arrays, targets: tuple[Field, ...]) -> tuple[Arrays, dict[str, Any]]:
    """Scale profile from the first half, scores from the second."""
    arrays: Arrays = {}
    facts = {}
    for item in targets:
        truth = outputs[item.name]
        first = len(truth) // 2
        mean = members[item.name].mean(axis=1)
        residual = truth - mean
        profile = np.sqrt(np.mean(np.square(residual[:first]), axis=0))
        profile = profile + 0.1 * float(np.sqrt(np.mean(np.square(profile))))
        scale = np.broadcast_to(profile, residual[first:].shape)
        errors = Errors(residual[first:], scale, mean[first:], bool(item.axes) and item.axes[0].name == LEAD_TIME)
        shipped = {"profile": profile, **field_arrays(errors, scale, stored=True)}
        arrays |= {f"{item.name}.{key}": values for key, values in shipped.items()}
        facts[item.name] = {
            "smoothing": 0.0, "floor": 0.0, "exact_boundary": 0, "transform": "identity", "cases": len(truth) - first,
            "arrays": f"{item.name}.",
        }  # fmt: skip
    return arrays, facts


def _domain(inputs: Arrays, sources: tuple[Field, ...]) -> tuple[Arrays, dict[str, Any]]:
    """Detectors from the first half, their reference scores from the second."""
    arrays: Arrays = {}
    checks = {}
    for item in sources:
        name, values = item.name, inputs[item.name]
        first = len(values) // 2
        periodic = all(axis.periodic for axis in item.axes)
        parameters = fit_detectors(values[:first], min(COMPONENTS, first // 4), periodic=periodic)
        scores = detector_scores(parameters, values[first:])
        arrays |= {f"{name}.validity.{key}": array for key, array in parameters.items()}
        arrays |= {f"{name}.reference.{key}": np.sort(array) for key, array in scores.items()}
        checks[name] = hard_checks(values) | {"arrays": f"{name}."}
    return arrays, checks
