"""ONNX Runtime sessions: devices, threads, verified bytes. The only importer of onnxruntime."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from models.bundle import WEIGHTS_FILE, Bundle
from models.errors import BrokenBundle

Device = Literal["cpu", "cuda"]


class DeviceUnavailable(RuntimeError):
    """A GPU was asked for and the session did not get one."""


@dataclass(frozen=True)
class RuntimeOptions:
    """Where graphs run; `threads` 0 means the cores this process may use."""

    device: Device = "cpu"
    threads: int = 0


def available_cores() -> int:
    """Cores from the affinity mask and the control group's quota, whichever is smaller."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


class Graph:
    """One ONNX graph, ready to run; `run` may be called from several threads."""

    def __init__(self, bundle: Bundle, file: str, options: RuntimeOptions) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads or available_cores()
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        weights = bundle.files.get(WEIGHTS_FILE)
        if weights is not None:
            settings.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[options.device]
        if options.device == "cuda":
            onnxruntime.preload_dlls()
        try:
            self._session = onnxruntime.InferenceSession(bundle.files[file], settings, providers=[provider])
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad file
            raise BrokenBundle(file, "a graph that ONNX Runtime can load", str(error)[:200]) from error
        if self._session.get_providers()[0] != provider:
            raise DeviceUnavailable(f"Expected {provider}, got {self._session.get_providers()}. Set device to cpu.")
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self._busy = threading.Lock()

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once. One run at a time: the session's own threads already use every core."""
        with self._busy:
            results: list[np.ndarray] = self._session.run(list(self.outputs), dict(feeds))
        return results
