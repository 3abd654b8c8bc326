"""What the service knows of itself, told when it is asked: gates, queue, runs, bundles, drift."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from api import telemetry
from api.service import Service
from models.batching import BOUNDS, LARGEST_BATCH, Statistics

NANO = 1e-9
BATCHES = [2**n for n in range(LARGEST_BATCH.bit_length())]
COUNTERS = {
    "surrogate_samples": ("Samples that graphs have run.", "samples"),
    "surrogate_runs": ("Runs of graphs; samples over runs is the mean batch.", "runs"),
    "surrogate_failed_runs": ("Runs that raised.", "failures"),
    "surrogate_dropped": ("Jobs that expired or were abandoned, unrun or stopped.", "dropped"),
}
"""Counters of every graph: help, field of `models.batching.Statistics`."""


class ServiceCollector:
    """Families made at each scrape."""

    def __init__(self, service: Service, version: str, routes: Iterable[str]) -> None:
        self._service, self._version, self._routes = service, version, tuple(routes)
        self._generation = -1
        self._expect()

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        self._expect()
        yield from self._of_gates()
        yield from self._of_bundles()
        yield from self._of_graphs()
        yield from self._of_drift()
        service = self._service
        build = GaugeMetricFamily("surrogate_build_info", "Always 1.", labels=["version", "revision"])
        build.add_metric([self._version, service.settings.revision], 1)
        yield build

    def _expect(self) -> None:
        repository = self._service.repository
        if self._generation != repository.generation:
            self._generation = repository.generation
            telemetry.MODELS.expect(repository.load_seconds, self._routes)

    def _of_gates(self) -> Iterator[Metric]:
        inside = _gauge("surrogate_inference_inflight", "Requests let in and not answered yet.")
        size = _gauge("surrogate_inflight_bytes", "Bytes of their bodies.")
        pending = _gauge("surrogate_inference_pending_requests", "Requests, or parts of them, that wait for a run.")
        waiting = self._service.engine.waiting_by_owner
        for name in {*telemetry.MODELS.versions, *self._service.gates}:
            gate = self._service.gates.get(name)
            inside.add_metric([name], gate.requests if gate else 0)
            size.add_metric([name], gate.bytes if gate else 0)
            pending.add_metric([name], sum(n for owner, n in waiting.items() if owner.split("/")[0] == name))
        yield from (inside, size, pending)

    def _of_bundles(self) -> Iterator[Metric]:
        repository = self._service.repository
        memory = _gauge("surrogate_model_bytes", "Memory that bundles take.")
        for name, taken in repository.memory.items():
            memory.add_metric([name], taken)
        ready = GaugeMetricFamily("surrogate_model_ready", "1 served, 0 refused.", labels=["model", "version"])
        load = GaugeMetricFamily(
            "surrogate_model_load_seconds", "Time to verify, load and try.", labels=["model", "version"]
        )
        for (name, version), seconds in repository.load_seconds.items():
            ready.add_metric([name, version], 1)
            load.add_metric([name, version], seconds)
        for label in repository.broken:
            if tuple(label.split("/")) not in repository.load_seconds:
                ready.add_metric(label.split("/"), 0)
        device = GaugeMetricFamily("surrogate_device_info", "Always 1.", labels=["device", "provider"])
        asked = self._service.settings.device
        for got in {s.graphs["model"].device for s in repository.surrogates}:
            device.add_metric([asked, got], 1)
        yield from (memory, ready, load, device)
        yield GaugeMetricFamily("surrogate_broken_bundles", "Bundles refused.", value=len(repository.broken))

    def _of_graphs(self) -> Iterator[Metric]:
        found = self._service.engine.all_statistics()
        for name, (text, key) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["model", "version", "graph"])
            for (owner, file), statistics in found.items():
                family.add_metric([*owner.split("/"), file.removesuffix(".onnx")], getattr(statistics, key))
            yield family
        yield from _histograms(found)

    def _of_drift(self) -> Iterator[Metric]:
        drift = _gauge("surrogate_validity_drift_p_value", "Of the last inputs against the training law; small: drift.")
        width = _gauge("surrogate_band_width_ratio", "Width of bands lately over their usual width.")
        for name, watch in telemetry.MODELS.watches.items():
            drift.add_metric([name], watch.p_value)
            width.add_metric([name], watch.width_ratio)
        yield from (drift, width)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["model"])


def _histograms(found: Mapping[tuple[str, str], Statistics]) -> Iterator[Metric]:
    """Queue, compute and batch size of every model, all its versions and graphs together."""
    queue = HistogramMetricFamily("surrogate_inference_queue_seconds", "Wait for a run.", labels=["model"])
    compute = HistogramMetricFamily("surrogate_inference_compute_seconds", "A run.", labels=["model"])
    batch = HistogramMetricFamily("surrogate_batch_size", "Samples in a run.", labels=["model"])
    edges = [f"{bound * NANO:g}" for bound in BOUNDS] + ["+Inf"]
    for name in sorted({owner.split("/")[0] for owner, _ in found}):
        mine = [facts for (owner, _), facts in found.items() if owner.split("/")[0] == name]
        queue.add_metric([name], _cumulated(edges, [f.waits for f in mine]), NANO * sum(f.queued_ns for f in mine))
        compute.add_metric([name], _cumulated(edges, [f.times for f in mine]), NANO * sum(f.computed_ns for f in mine))
        sizes = [0] * (len(BATCHES) + 1)
        for facts in mine:
            for size, (runs, _) in tuple(facts.batches.items()):
                sizes[bisect_left(BATCHES, size)] += runs
        limits = [str(size) for size in BATCHES] + ["+Inf"]
        batch.add_metric([name], _cumulated(limits, [sizes]), sum(f.samples for f in mine))
    yield from (queue, compute, batch)


def _cumulated(edges: list[str], counts: Iterable[list[int]]) -> list[tuple[str, float]]:
    total, result = 0, []
    for edge, column in zip(edges, zip(*counts, strict=True), strict=True):
        total += sum(column)
        result.append((edge, float(total)))
    return result
