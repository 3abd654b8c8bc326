"""The session every peer runs, and the batching every peer that has one is given: equal for all."""

import os

import onnxruntime

MOST_TOGETHER, WAIT_SECONDS = 16, 0.003


def open_session(path: str) -> onnxruntime.InferenceSession:
    """A session on the CPU with THREADS threads (default: the cores of the affinity mask) that do not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", 0)) or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
