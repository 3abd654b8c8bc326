"""Triton Inference Server through PyTriton, with its dynamic batcher; the model's name is the file's.

python with_pytriton.py MODEL.onnx PORT
"""

import sys
from pathlib import Path

import numpy as np
from onnx_session import MOST_TOGETHER, WAIT_SECONDS, open_session
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

FIELD = {"dtype": np.float32, "shape": (64, 64)}


def serve(model: str, port: int) -> None:
    """Until stopped."""
    session = open_session(model)

    @batch
    def infer(a: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {"a": a})

    batcher = DynamicBatcher(max_queue_delay_microseconds=int(1e6 * WAIT_SECONDS))
    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=Path(model).stem, infer_func=infer, inputs=[Tensor(name="a", **FIELD)],
            outputs=[Tensor(name="u", **FIELD)], config=ModelConfig(max_batch_size=MOST_TOGETHER, batcher=batcher),
        )  # fmt: skip
        triton.serve()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
