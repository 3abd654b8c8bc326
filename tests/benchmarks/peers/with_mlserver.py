"""MLServer with a runtime of our own and its adaptive batching; the model's name is the file's.

python with_mlserver.py MODEL.onnx PORT
"""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_session import MOST_TOGETHER, WAIT_SECONDS, open_session


class OnnxModel(MLModel):
    """One input, one output."""

    async def load(self) -> bool:
        """Open the session."""
        self.session = open_session(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch, as MLServer put it together."""
        a = NumpyCodec.decode_input(payload.inputs[0])
        (u,) = self.session.run(None, {"a": a})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("u", u)])


def write_settings(folder: Path, model: str, port: int) -> None:
    """The two files MLServer reads."""
    with socket.socket() as one, socket.socket() as other:  # both bound before either is given back: two ports
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        grpc, metrics = one.getsockname()[1], other.getsockname()[1]
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc, "metrics_port": metrics, "debug": False}
    own = {
        "name": Path(model).stem, "implementation": "with_mlserver.OnnxModel", "parameters": {"uri": model},
        "max_batch_size": MOST_TOGETHER, "max_batch_time": WAIT_SECONDS,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(own))


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    write_settings(folder, sys.argv[1], int(sys.argv[2]))
    program = Path(sys.executable).with_name("mlserver")
    here = {"PYTHONPATH": str(Path(__file__).parent)}  # for the implementation's name above
    os.execve(program, [str(program), "start", str(folder)], {**os.environ, **here})  # noqa: S606 - no shell is wanted
