"""Bundle a foreign ONNX file: a field description and held-out pairs give it bands, validity and explanations.

Nothing is known of its physics, so there is no bound, no fallback solver and no sampler; the manifest says so. The graph
has one input (batch, *grid) and gives (batch, *grid), or (batch, member, *grid) with `member_axis: true` in the
description. Half of the pairs shape the band's scale and the validity detectors, the other half calibrates.
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
    Manifest,
    write,
)  # fmt: skip
from models.fields import Field, check_values
from models.runtime import Graph, RuntimeOptions
from models.uncertainty import interior
from models.validity import THRESHOLD, detector_scores, fit_detectors, hard_checks
from training.calibrate import band_scores, half_precision
from training.export import foreign_operators, share_weights
from training.publish import code_revision, npz

NEEDED = ("name", "version", "title", "domain", "time", "inputs", "outputs", "truth")
DETECTORS = 3
COMPONENTS = 40
EXACT_BOUNDARY = 0


def read_description(path: Path) -> dict[str, Any]:
    """The field description.

    Raises ValueError naming what is missing.
    """
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in NEEDED if key not in document]
    if missing:
        raise ValueError(f"Expected {', '.join(NEEDED)} in {path.name}, missing {missing}. Add them.")
    if len(document["inputs"]) != 1 or len(document["outputs"]) != 1:
        raise ValueError("Expected one input and one output field. Packaging of several is not offered.")
    return document


def read_pairs(path: Path, source: Field, target: Field) -> tuple[np.ndarray, np.ndarray]:
    """Held-out inputs and outputs, checked against the description.

    Raises KeyError, InvalidInput, ValueError when there are too few for validity.
    """
    with np.load(path, allow_pickle=False) as archive:
        inputs, outputs = archive["inputs"].astype(np.float32), archive["outputs"].astype(np.float64)
    check_values(source, inputs)
    check_values(target, outputs)
    least = int(np.ceil(2 * (2 * DETECTORS / THRESHOLD + 1)))
    if len(inputs) != len(outputs) or len(inputs) < least:
        raise ValueError(f"Expected at least {least} pairs (the p-value floor), got {len(inputs)}. Add held-out pairs.")
    return inputs, outputs


def package(graph_file: Path, description: Path, pairs: Path, zoo: Path) -> Path:
    """Write the bundle and return its folder.

    Raises ValueError when the graph uses operators without a CUDA kernel or the description is incomplete.
    """
    document = read_description(description)
    source, target = Field.from_document(document["inputs"][0]), Field.from_document(document["outputs"][0])
    proto = onnx.load(graph_file)
    if foreign_operators(proto):
        raise ValueError(f"Expected operators with CUDA kernels, got {sorted(foreign_operators(proto))}. Replace them.")
    weights = share_weights({"model": proto})
    files = {GRAPH_FILES["model"]: proto.SerializeToString(), WEIGHTS_FILE: weights}
    graph = Graph(Bundle(Manifest({}, ""), files), GRAPH_FILES["model"], RuntimeOptions())
    inputs, outputs = read_pairs(pairs, source, target)
    member_axis = bool(document.pop("member_axis", False))
    members = np.concatenate([graph.run({graph.inputs[0]: part})[0] for part in np.array_split(inputs, 20)])
    members = members if member_axis else members[:, None]
    calibration, checks = _calibrate(inputs, members, outputs)
    golden = {"input": inputs[:3], "members": members[:3]}
    files |= {CALIBRATION_FILE: npz(calibration), GOLDEN_FILE: npz(golden)}
    half = len(inputs) - len(inputs) // 2
    manifest = document | {
        "graph": {
            "inputs": {source.name: graph.inputs[0]}, "outputs": [graph.outputs[0]],
            "members": members.shape[1], "member_axis": member_axis,
        },
        "calibration": {"smoothing": 0.0, "floor": 0.0, "exact_boundary": EXACT_BOUNDARY, "cases": half, "profile": True},
        "domain_checks": checks, "baseline": float(np.mean(inputs)),
        "statements": [{"norm": "band", "kind": "statistical"}, {"norm": "energy", "kind": "none"}],
        "report": None, "provenance": {"trained": None, "code": code_revision(), "packaged_from": graph_file.name},
    }  # fmt: skip
    folder = zoo / str(document["name"]) / str(document["version"])
    write(folder, manifest, files)
    return folder


def _calibrate(
    inputs: np.ndarray, members: np.ndarray, outputs: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Scale profile from the first half, scores from the second; detectors likewise."""
    first = len(inputs) // 2
    residual = outputs - members.mean(axis=1)
    profile = np.sqrt(np.mean(np.square(residual[:first]), axis=0))
    profile = profile + 0.1 * float(np.sqrt(np.mean(np.square(profile))))
    scale = np.broadcast_to(profile, residual[first:].shape) * interior(profile.shape, EXACT_BOUNDARY)
    stored, residual_unit = half_precision(residual[first:])
    stored_scale, scale_unit = half_precision(scale)
    parameters = fit_detectors(inputs[:first], min(COMPONENTS, first // 4))
    arrays = {f"validity.{k}": v for k, v in parameters.items()}
    arrays |= {f"reference.{k}": np.sort(v) for k, v in detector_scores(parameters, inputs[first:]).items()}
    arrays |= {
        "profile": profile, "scores": np.sort(band_scores(residual[first:], scale)),
        "residuals": stored, "residual_unit": residual_unit, "scales": stored_scale, "scale_unit": scale_unit,
    }  # fmt: skip
    return arrays, hard_checks(inputs)
