"""BentoML with its adaptive batching, nested lists in JSON.

python with_bentoml.py MODEL.onnx PORT
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from onnx_session import MOST_TOGETHER, open_session

Batch = Annotated[np.ndarray, DType("float32")]
LONGEST_MS = 30_000  # BentoML answers 503 to what would take longer; it chooses how long it waits by itself


@bentoml.service(workers=1)
class Fields:
    """POST /predict: {"a": batch} → batch."""

    def __init__(self) -> None:
        self.session = open_session(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=MOST_TOGETHER, max_latency_ms=LONGEST_MS)
    def predict(self, a: Batch) -> Batch:
        """One batch, as BentoML put it together."""
        return self.session.run(None, {"a": a})[0]


if __name__ == "__main__":
    program = Path(sys.executable).with_name("bentoml")
    here = Path(__file__).resolve().parent
    command = [str(program), "serve", "with_bentoml:Fields", "--host", "127.0.0.1", "--port", sys.argv[2]]
    told = {"MODEL": sys.argv[1], "BENTOML_DO_NOT_TRACK": "True"}
    os.execve(program, [*command, "--working-dir", str(here)], {**os.environ, **told})  # noqa: S606 - no shell is wanted
