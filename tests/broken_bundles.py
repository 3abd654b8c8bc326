"""Ways in which a bundle can be wrong; each takes its folder and spoils it."""

import json

import numpy as np

from models import bundle


def truncated(folder):
    path = folder / "weights.bin"
    path.write_bytes(path.read_bytes()[:-100])


def bit_flipped(folder):
    path = folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewritten(folder, change):
    """A bundle whose hashes fit and whose content does not."""
    content = bundle.read(folder)
    document, files = json.loads(json.dumps(content.manifest.document)), dict(content.files)
    change(document, files)
    del document["files"], document["format"]
    bundle.write(folder, document, files)


def wrong_signature(folder):
    rewritten(folder, lambda document, _: document["graph"]["inputs"].update(viscosity="no_such_input"))


def other_graph(folder):
    rewritten(folder, lambda _, files: files.update({"model.onnx": files["vjp.onnx"]}))


def other_derivative(folder):
    rewritten(folder, lambda _, files: files.update({"vjp.onnx": files["jvp.onnx"]}))


def other_weights(folder):
    def spoil(document, files):
        weights = np.frombuffer(files["weights.bin"], dtype=np.float32).copy()
        weights[: len(weights) // 2] *= 1.01
        files["weights.bin"] = weights.tobytes()

    rewritten(folder, spoil)


def not_json(folder):
    (folder / "manifest.json").write_text("{")


def odd_manifest(folder):
    document = json.loads((folder / "manifest.json").read_text())
    document["files"] = ["weights.bin"]
    (folder / "manifest.json").write_text(json.dumps(document))


FAULTS = [truncated, bit_flipped, wrong_signature, other_graph, other_derivative, other_weights, not_json, odd_manifest]
