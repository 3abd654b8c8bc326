"""LitServe with its batching, nested lists in JSON.

python with_litserve.py MODEL.onnx PORT
"""

import sys

import litserve
import numpy as np
from onnx_session import MOST_TOGETHER, WAIT_SECONDS, open_session


class Fields(litserve.LitAPI):
    """POST /predict: {"a": field} → {"u": field}."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes it
        """Open the session, in LitServe's worker process."""
        self.session = open_session(sys.argv[1])

    def decode_request(self, request: dict) -> np.ndarray:
        """One field."""
        return np.asarray(request["a"], dtype=np.float32)

    def predict(self, a: np.ndarray) -> np.ndarray:
        """One batch; LitServe stacks fields and takes the answer apart."""
        return self.session.run(None, {"a": a})[0]

    def encode_response(self, output: np.ndarray) -> dict:
        """One field."""
        return {"u": output.tolist()}


if __name__ == "__main__":
    api = Fields(max_batch_size=MOST_TOGETHER, batch_timeout=WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
