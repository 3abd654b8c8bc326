"""ONNX Runtime sessions: devices, threads, verified bytes, stoppable runs. The only importer of onnxruntime."""

import contextlib
import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report to its makers; read when the library is loaded
import onnxruntime

from models.bundle import WEIGHTS_FILE, Bundle
from models.errors import BrokenBundle

Device = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
KINDS = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8,
}  # fmt: skip


class DeviceUnavailable(RuntimeError):
    """A GPU was asked for and the session did not get one."""

    def __init__(self) -> None:
        expected, got = PROVIDERS["cuda"], PROVIDERS["cpu"]
        super().__init__(f"Expected {expected}, got {got}. Set the device to cpu, or allow falling back to it.")


@dataclass(frozen=True)
class RuntimeOptions:
    """Where graphs run.

    `threads` 0 means the cores this process may use. `fall_back` allows the CPU where a GPU was asked for and none is
    there. `bind` runs with outputs allocated beforehand, always so on a GPU. `cuda_graphs` replays recorded launches,
    for which every run has the batch size that was found best.
    """

    device: Device = "cpu"
    threads: int = 0
    fall_back: bool = False
    bind: bool = False
    cuda_graphs: bool = False


def available_cores() -> int:
    """Cores from the affinity mask and the quotas of control groups (version 2 or 1), whichever is smallest."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    groups = ""
    with contextlib.suppress(OSError):
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return max(1, min([cores, *_quotas(Path("/sys/fs/cgroup"), groups)]))


def _quotas(root: Path, groups: str) -> Iterator[int]:
    """Whole cores that this process's control groups, as the kernel lists them, and all above these allow."""
    for _, controllers, path in (line.split(":", 2) for line in groups.splitlines()):
        top = root / "cpu" if controllers else root
        if controllers and "cpu" not in controllers.split(","):
            continue
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            cores = _quota(folder)
            if cores is not None:
                yield max(1, cores)
            if folder == top:
                break


def _quota(folder: Path) -> int | None:
    """Whole cores of one control group's quota; None without one."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) // int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return None if int(quota) < 0 else int(quota) // int(period)
    return None


class Stop:
    """Ends one run from another thread, where ONNX Runtime gets to look: between two operators."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()

    def now(self) -> None:
        """End the run."""
        self.options.terminate = True


class Scheduler(Protocol):
    """Runs graphs for many callers; `models.batching` has one."""

    def run(self, graph: "Graph", feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of one graph for one caller's batch."""
        ...


def _settings(bundle: Bundle, options: RuntimeOptions) -> onnxruntime.SessionOptions:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or available_cores()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.device == "cuda" and not options.fall_back:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    weights = bundle.files.get(WEIGHTS_FILE)
    if weights is not None:
        settings.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    return settings


def _is_built_for_gpus() -> bool:
    """Whether this ONNX Runtime knows CUDA at all; what works only a session tells."""
    return PROVIDERS["cuda"] in onnxruntime.get_available_providers()


def providers(options: RuntimeOptions) -> list[Any]:
    """Execution providers with their options, in order of preference."""
    if options.device == "cpu" or (options.fall_back and not _is_built_for_gpus()):
        return [PROVIDERS["cpu"]]
    cuda = {
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": "1" if options.cuda_graphs else "0",
    }
    return [(PROVIDERS["cuda"], cuda), *([PROVIDERS["cpu"]] if options.fall_back else [])]


def _open(bundle: Bundle, file: str, options: RuntimeOptions) -> onnxruntime.InferenceSession:
    """A session on the device asked for.

    Raises BrokenBundle, DeviceUnavailable.
    """
    if options.device == "cuda":
        if not (options.fall_back or _is_built_for_gpus()):
            raise DeviceUnavailable
        onnxruntime.preload_dlls()
    try:
        session = _session(bundle, file, options)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad file
        if options.device == "cuda" and not options.fall_back and _falls_back(bundle, file, options):
            raise DeviceUnavailable from error
        raise BrokenBundle(file, "a graph that ONNX Runtime can load", str(error)[:200]) from error
    if session.get_providers()[0] != PROVIDERS[options.device] and not options.fall_back:
        raise DeviceUnavailable
    return session


def _session(bundle: Bundle, file: str, options: RuntimeOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle.files[file], _settings(bundle, options), providers=providers(options))


def _falls_back(bundle: Bundle, file: str, options: RuntimeOptions) -> bool:
    """Whether all of a graph that no GPU has taken would run on the processor: not the graph is to blame, but the GPU."""
    try:
        session = _session(bundle, file, replace(options, fall_back=True))
    except Exception:  # noqa: BLE001  as above; then it is the graph
        return False
    return bool(session.get_providers()[0] == PROVIDERS["cpu"])


class _Buffers:
    """Inputs and outputs of one batch size that keep their addresses on the device, as replayed launches need."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, blank: Mapping[str, np.ndarray]) -> None:
        self._session, self._binding, self._size = session, session.io_binding(), len(next(iter(blank.values())))
        self._inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0) for name, values in blank.items()
        }
        self._held = {name: values.copy() for name, values in blank.items()}
        self._outputs = []
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for item in session.get_outputs():
            shape = list(_sizes(item.shape, self._size))
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, KINDS[item.type], device, 0)
            self._outputs.append(value)
            self._binding.bind_ortvalue_output(item.name, value)

    def run(self, feeds: Mapping[str, np.ndarray], count: int, options: onnxruntime.RunOptions) -> list[np.ndarray]:
        """The first `count` rows of every output."""
        for name, values in feeds.items():
            self._held[name][:count] = values
            self._inputs[name].update_inplace(self._held[name])
        options.add_run_config_entry("gpu_graph_id", str(self._size))
        self._session.run_with_iobinding(self._binding, options)
        return [value.numpy()[:count].copy() for value in self._outputs]


class Graph:
    """One ONNX graph, ready to run; `run` may be called from several threads.

    `owner` is name/version of the model; `batch` is the number of samples that run fastest at once and `seconds` what that
    run takes, None and infinite as long as nothing was measured. A graph whose batch size is fixed gets filled up to it.
    """

    def __init__(self, bundle: Bundle, file: str, options: RuntimeOptions, scheduler: Scheduler | None = None) -> None:
        self._bundle, self._session = bundle, _open(bundle, file, options)
        self._spread: onnxruntime.InferenceSession | None = None
        found = bundle.manifest.document
        self.owner, self.file = f"{found.get('name', '')}/{found.get('version', '')}", file
        self.device = {name: kind for kind, name in PROVIDERS.items()}[self._session.get_providers()[0]]
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self._options, self._scheduler, self._busy = options, scheduler, threading.Lock()
        sizes = {item.shape[0] for item in self._session.get_inputs() if item.shape}
        self.fixed_batch: int | None = next((size for size in sizes if isinstance(size, int)), None)
        self.batch, self.seconds = self.fixed_batch, math.inf
        self._buffers: dict[int, _Buffers] = {}
        self._busy_buffers = threading.Lock()

    @property
    def is_spread(self) -> bool:
        """Whether a run that is alone has a session of its own."""
        return self._spread is not None

    @property
    def is_bound(self) -> bool:
        """Whether runs write into outputs allocated beforehand."""
        return self._options.bind or self.device == "cuda"

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once, by the scheduler where there is one.

        Alone, one run at a time: the session's own threads already use every core.
        """
        if self._scheduler is not None:
            return self._scheduler.run(self, feeds)
        with self._busy:
            return self.execute(feeds)

    def execute(
        self, feeds: Mapping[str, np.ndarray], stop: Stop | None = None, is_alone: bool = False
    ) -> list[np.ndarray]:
        """Run here and now, with every core if it `is_alone`; raises what ONNX Runtime raises, also when it was stopped."""
        count = len(next(iter(feeds.values())))
        if self.fixed_batch not in (None, count):
            return self._run_filled(feeds, count, stop, is_alone)
        options = None if stop is None else stop.options
        if self._options.cuda_graphs:
            return self._run_recorded(feeds, options)
        if self.is_bound:
            return self._run_bound(feeds, options)
        session = (self._spread if is_alone else None) or self._session
        results: list[np.ndarray] = session.run(self.outputs, feeds, options)
        return results

    def spread(self) -> bool:
        """Open a second session, with a thread for every core, for runs that are alone; whether that is another one."""
        if self.is_bound or not 0 < self._options.threads < available_cores():
            return False
        self._spread = _open(self._bundle, self.file, replace(self._options, threads=0))
        return True

    def narrow(self) -> None:
        """Close the second session."""
        self._spread = None

    def _run_filled(
        self, feeds: Mapping[str, np.ndarray], count: int, stop: Stop | None, is_alone: bool
    ) -> list[np.ndarray]:
        """Runs of the one batch size that the graph takes, the last one filled up with its last sample."""
        size = self.fixed_batch or count
        order = np.minimum(np.arange(size * math.ceil(count / size)), count - 1)
        parts = [
            self.execute({name: values[some] for name, values in feeds.items()}, stop, is_alone)
            for some in order.reshape(-1, size)
        ]
        return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]

    def _run_bound(self, feeds: Mapping[str, np.ndarray], options: onnxruntime.RunOptions | None) -> list[np.ndarray]:
        """Inputs and outputs bound: ONNX Runtime allocates nothing on the way and copies each array once."""
        count = len(next(iter(feeds.values())))
        shapes = [[count, *item.shape[1:]] for item in self._session.get_outputs()]
        if any(not isinstance(size, int) for shape in shapes for size in shape):
            return self._session.run(self.outputs, feeds, options)  # type: ignore[no-any-return]
        binding = self._session.io_binding()
        for name, values in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(values))
        kinds = [KINDS[item.type] for item in self._session.get_outputs()]
        results: list[np.ndarray] = [np.empty(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
        for name, values in zip(self.outputs, results, strict=True):
            binding.bind_output(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        self._session.run_with_iobinding(binding, options)
        return results

    def _run_recorded(
        self, feeds: Mapping[str, np.ndarray], options: onnxruntime.RunOptions | None
    ) -> list[np.ndarray]:
        """Batches filled up to a power of two, in buffers that stay where they are."""
        count = len(next(iter(feeds.values())))
        size = 1 << (count - 1).bit_length()
        with self._busy_buffers:
            if size not in self._buffers:
                self._buffers[size] = _Buffers(self._session, self.device, self.blank(size))
            return self._buffers[size].run(feeds, count, options or onnxruntime.RunOptions())

    def shrink(self) -> None:
        """Give memory back that runs of more than `batch` samples have left, on the processor; such a run finds its own.

        What the allocator has taken it keeps, otherwise, until the session ends.
        """
        if self.device != "cpu" or self.batch is None:
            return
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._session.run(self.outputs, self.blank(1 if self.fixed_batch is None else self.fixed_batch), options)
        self.execute(self.blank(self.batch))

    def blank(self, count: int) -> dict[str, np.ndarray]:
        """Ones of the shapes the graph takes, for warming it up and measuring it."""
        return {
            item.name: np.ones(list(_sizes(item.shape, count)), KINDS[item.type]) for item in self._session.get_inputs()
        }


def _sizes(shape: list[Any], count: int) -> Iterator[int]:
    for index, size in enumerate(shape):
        yield size if isinstance(size, int) else count if index == 0 else 1
