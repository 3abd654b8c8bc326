"""A bundle: the files of one surrogate version and the manifest that describes and hashes them.

    <name>/<version>/ manifest.json model.onnx [vjp.onnx jvp.onnx] [weights.bin] calibration.npz [residuals.npz] golden.npz CARD.md …

Everything is read once, verified against the manifest, and used from memory: what was hashed is what runs.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import BrokenBundle
from models.manifest import FORMAT, MANIFEST_FILE, Manifest, parse

WEIGHTS_FILE = "weights.bin"
CALIBRATION_FILE, RESIDUALS_FILE = "calibration.npz", "residuals.npz"
GOLDEN_FILE, CARD_FILE = "golden.npz", "CARD.md"
GRAPH_FILES = {"model": "model.onnx", "vjp": "vjp.onnx", "jvp": "jvp.onnx"}
LARGEST_FILE = 64 * 2**20

ALLOWED_OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Cos",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Floor",
        "Gather",
        "Gelu",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sin",
        "Size",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
"""Operators with a CUDA kernel in ONNX Runtime (its OperatorKernels.md); graphs use no others."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory."""

    manifest: Manifest
    files: Mapping[str, bytes]

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        """The arrays of an NPZ file of the bundle; pickled content is refused."""
        with np.load(io.BytesIO(self.files[file]), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


def _read_regular(folder: Path, name: str, size: int | None) -> bytes:
    """Read a file that is neither a link of any kind nor larger than it should be.

    Raises BrokenBundle.
    """
    try:
        handle = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        got = "a symbolic link" if (folder / name).is_symlink() else "none that can be opened"
        raise BrokenBundle(name, "a regular file", got) from error
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenBundle(name, "a regular file", "something else")
        if status.st_nlink != 1:
            raise BrokenBundle(name, "a file with one name", f"{status.st_nlink} hard links")
        limit = LARGEST_FILE if size is None else size
        if status.st_size > limit or (size is not None and status.st_size != size):
            raise BrokenBundle(name, f"{limit} bytes", f"{status.st_size}")
        return stream.read()


def _names(folder: Path) -> set[str]:
    """Raises BrokenBundle for a folder that has gone."""
    try:
        return {path.name for path in folder.iterdir()}
    except OSError as error:
        raise BrokenBundle(MANIFEST_FILE, "a folder that can be read", "none") from error


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest alone.

    Raises BrokenBundle.
    """
    return parse(_read_regular(folder, MANIFEST_FILE, None))


def read(folder: Path) -> Bundle:
    """Read and verify a whole bundle.

    Raises BrokenBundle when a file is missing, unlisted, linked, of another size or with another hash.
    """
    manifest = read_manifest(folder)
    listed: Mapping[str, Any] = manifest.document["files"]
    present = _names(folder) - {MANIFEST_FILE}
    if present != set(listed):
        odd = sorted(present ^ set(listed))
        raise BrokenBundle(MANIFEST_FILE, "exactly the listed files in the folder", f"a difference in {odd}")
    files = {}
    for name, facts in listed.items():
        files[name] = _read_regular(folder, name, facts["bytes"])
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != facts["sha256"]:
            raise BrokenBundle(name, f"sha256 {facts['sha256'][:12]}…", f"{digest[:12]}…")
    return Bundle(manifest, files)


def write(folder: Path, document: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle into a new folder, manifest last, hashes computed here."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    facts = {}
    for name, content in sorted(files.items()):
        (folder / name).write_bytes(content)
        facts[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps({"format": FORMAT, **document, "files": facts}, indent=1, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
