"""What the serving benchmarks serve: a Fourier neural operator on 64×64 points, and a graph that does next to nothing.

The operator has width 32, 12 modes, 4 layers and one member (arXiv 2010.08895), about 0.17 GFLOP and 2.4 M parameters
in its spectral weights (2·12·12·2·32·32·4); its weights are random, which changes no timing. Both are bundles made by
`training.package`, with the ONNX file beside them for the peers.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.architectures.fourier import FourierBlock, Lift, PointwiseLinear
from training.package import least_pairs, package

POINTS, WIDTH, MODES, LAYERS = 64, 32, 12, 4


class Operator(nn.Module):
    """(batch, 64, 64) → (batch, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        coordinates = torch.linspace(0.0, 1.0, POINTS)
        y, x = torch.meshgrid(coordinates, coordinates, indexing="ij")
        self.register_buffer("place", torch.stack([x, y, torch.ones_like(x)])[None])
        self.lift = Lift(1, 3, WIDTH)
        self.blocks = nn.ModuleList(FourierBlock(1, WIDTH, MODES, POINTS, POINTS) for _ in range(LAYERS))
        self.widen, self.project = PointwiseLinear(1, WIDTH, 4 * WIDTH), PointwiseLinear(1, 4 * WIDTH, 1)

    def forward(self, a: Tensor) -> Tensor:
        """The field after four layers."""
        field = self.lift(torch.cat([a.mT[:, None], self.place.expand(a.shape[0], -1, -1, -1)], 1)[:, None])
        for block in self.blocks:
            field = block(field)
        found = self.project(nn.functional.gelu(self.widen(field.flatten(2, 3).mT)))
        return found[:, 0, 0].unflatten(1, (POINTS, POINTS)).mT


class Trivial(nn.Module):
    """Twice the field."""

    def forward(self, a: Tensor) -> Tensor:
        """2 a."""
        return 2.0 * a


def description(name: str) -> dict:
    axis = {"units": "1", "points": POINTS, "start": 0.0, "stop": 1.0}
    axes = [{"name": "x", **axis}, {"name": "y", **axis}]
    field = {"units": "1", "axes": axes, "minimum": None, "maximum": None}
    return {
        "name": name, "version": "1", "title": name, "domain": "pde", "time": "steady", "truth": "itself",
        "inputs": [{"name": "a", "symbol": "a", "description": "Input.", **field}],
        "outputs": [{"name": "u", "symbol": "u", "description": "Output.", **field}],
    }  # fmt: skip


def export(network: nn.Module, path: Path) -> None:
    """The ONNX file, with any batch size."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        network.eval(), (torch.randn(2, POINTS, POINTS),), path, input_names=["a"], output_names=["u"],
        opset_version=20, dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False,
    )  # fmt: skip


def build(folder: Path) -> dict[str, Path]:
    """ONNX files by name; their bundles lie in folder/zoo."""
    torch.manual_seed(0)
    found = {}
    for name, network in (("fno_64", Operator()), ("trivial", Trivial())):
        path = folder / f"{name}.onnx"
        export(network, path)
        inputs = np.random.default_rng(1).standard_normal((least_pairs(1), POINTS, POINTS)).astype(np.float32)
        with torch.no_grad():
            outputs = torch.cat([network(part) for part in torch.from_numpy(inputs).split(16)]).numpy()
        noise = 0.1 * np.random.default_rng(2).standard_normal(outputs.shape)
        np.savez(folder / f"{name}.npz", inputs=inputs, outputs=outputs + noise)
        (folder / f"{name}.json").write_text(json.dumps(description(name)))
        package(path, folder / f"{name}.json", folder / f"{name}.npz", folder / "zoo")
        found[name] = path
    return found


if __name__ == "__main__":
    import sys

    print(build(Path(sys.argv[1])))
