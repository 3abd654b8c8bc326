"""Our service and others on the same graphs, machine and minutes: throughput, latency, tails, memory.

python -m tests.benchmarks.serving [--seconds 6] [--only ours,raw] [--connections 1,4,16,64] [--graphs trivial,fno_64]
python -m tests.benchmarks.serving --memory            # resident memory over 200,000 requests

Each server is a process of its own, warmed, measured and stopped before the next; repetitions are interleaved. wrk makes
the load. Nothing is asserted about times; an answer that is wrong or a request that fails is an error.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np

from models.repository import SHIPPED
from models.runtime import available_cores
from tests.benchmarks import calls, load, tables
from tests.benchmarks.servers import PEERS, ROOT, SERVERS, Server, Unusable, resident_mebibytes, running, version_of

GRAPHS = ("trivial", "fno_64")
WARM_SECONDS, RAW_SECONDS = 4, 1.0
MEMORY_REQUESTS, MEMORY_CONNECTIONS = 200_000, 16
PAGE = ROOT / "docs" / "benchmarks.md"


def subjects(folder: Path) -> None:
    """The graphs and their bundles, built once."""
    if not all((folder / f"{graph}.onnx").exists() for graph in GRAPHS):
        from tests.benchmarks.subjects import build

        folder.mkdir(parents=True, exist_ok=True)
        build(folder)


def sample_of(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """(a field, what the session makes of it)."""
    sys.path.insert(0, str(PEERS))
    from onnx_session import open_session

    a = np.random.default_rng(7).standard_normal((64, 64)).astype(np.float32)
    return a, open_session(str(model)).run(None, {"a": a[None]})[0][0]


def measure_raw(model: Path, results: tables.Results) -> None:
    """The session in a loop, in its own process."""
    command = [sys.executable, str(PEERS / "raw_loop.py"), str(model), str(RAW_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results.raw.setdefault(model.stem, []).append(json.loads(done.stdout))


def measure(server: Server, model: Path, options: argparse.Namespace, results: tables.Results) -> None:
    """One server, one graph, one repetition; all numbers of connections, and for ours the paced load.

    Raises Unusable, WrongAnswer.
    """
    a, expected = sample_of(model)
    call = server.call(model.stem, a)
    with running(server, model, options.peers) as (address, _):
        load.check(address, call, expected)
        load.run(address, call, tables.AT, WARM_SECONDS)
        for connections in options.connections:
            found = load.run(address, call, connections, options.seconds)
            results.loads.setdefault((server.key, model.stem, connections), []).append(found)
            told = f"{found.per_second:.1f}/s, median {found.median:.2f} ms, p99 {found.p99:.2f} ms"
            print(f"{model.stem:8} {server.key:10} {connections:3} conn. {told}, {found.failed} failed", flush=True)
        saturated = results.loads.get((server.key, model.stem, tables.AT))
        if server.key.startswith("ours") and saturated:
            rate = tables.SHARE * saturated[-1].per_second
            for arrivals in load.GAPS:
                found = load.run_paced(address, call, rate, options.seconds, arrivals)
                results.paced.setdefault((server.key, model.stem, arrivals), []).append((rate, found))


def measure_shipped(options: argparse.Namespace, results: tables.Results) -> None:
    """The shipped models, one repetition: outputs alone, then full answers."""
    began = time.monotonic()
    with running(SERVERS[0], SHIPPED, options.peers) as (address, _):
        results.ready.append(time.monotonic() - began)
        for model in httpx.get(f"{address}/v1/models").json()["models"]:
            name = model["name"]
            inputs = httpx.get(f"{address}/v1/models/{name}/example?encoding=base64").json()["inputs"]
            for full in (False, True):
                call = calls.answer(name, inputs, calls.EVERYTHING if full else ["outputs"])
                load.run(address, call, tables.AT, WARM_SECONDS)
                found = load.run(address, call, tables.AT, options.seconds)
                results.shipped.setdefault((name, full), []).append(found)
                print(f"{name:12} {'full' if full else 'outputs':8} {found.per_second:.1f}/s", flush=True)


def measure_all(servers: list[Server], options: argparse.Namespace) -> tables.Results:
    """Repetition by repetition, graph by graph, server by server."""
    results = tables.Results()
    for _ in range(options.repetitions):
        for graph in options.graphs:
            model = options.subjects / f"{graph}.onnx"
            if options.raw:
                measure_raw(model, results)
            for server in servers:
                if server.key in results.skipped:
                    continue
                try:
                    measure(server, model, options, results)
                except (Unusable, load.WrongAnswer) as problem:
                    results.skipped[server.key] = str(problem)
                    print(f"{graph:8} {server.key:10} {problem}", flush=True)
        if options.shipped:
            measure_shipped(options, results)
    return results


def facts(servers: list[Server], options: argparse.Namespace, results: tables.Results) -> dict[str, object]:
    """Where, when and with what."""
    from training.costs import machine

    where = machine()
    measured = {key for key, _, _ in results.loads}
    versions = [version_of(s, options.peers) for s in servers if s.packages and s.key in measured]
    own = [f"{name} {version(name)}" for name in ("onnxruntime", "fastapi", "uvicorn")]
    return {
        "Measured": date.today().isoformat(), "on": f"{where['processor']}, {available_cores()} cores",
        "with Python": where["python"], "and": ", ".join([*own, *versions]),
        "repetitions": options.repetitions, "seconds each": options.seconds,
    }  # fmt: skip


def memory(server: Server, options: argparse.Namespace) -> str:
    """Resident memory of a server over many requests to the trivial graph, sampled every second.

    Raises Unusable, WrongAnswer.
    """
    model = options.subjects / "trivial.onnx"
    a, expected = sample_of(model)
    call = server.call(model.stem, a)
    with running(server, model, options.peers) as (address, group):
        load.check(address, call, expected)
        done, samples = count_while_sampling(address, call, options, lambda: resident_mebibytes(group))
    requests, resident = np.interp(samples[:, 0], done[:, 0], done[:, 1]), samples[:, 1]
    half = requests >= requests[-1] / 2
    slopes = [1e4 * np.polyfit(requests[part], resident[part], 1)[0] for part in (slice(None), half)]
    return (
        f"{server.title}: {done[-1, 1]:.0f} requests, {resident[0]:.1f} MiB at the start, {resident[-1]:.1f} at the end, "
        f"slope per 10,000 requests {slopes[0]:+.3f} MiB (second half {slopes[1]:+.3f})"
    )


def count_while_sampling(
    address: str, call: load.Call, options: argparse.Namespace, sample: Callable[[], float]
) -> tuple[np.ndarray, np.ndarray]:
    """((time, requests so far), (time, sample)), the latter once a second; the load comes in rounds of wrk.

    Raises Unusable when a request failed.
    """
    done, samples, over = [(time.monotonic(), 0)], [(time.monotonic(), sample())], threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            samples.append((time.monotonic(), sample()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        while done[-1][1] < options.requests:
            found = load.run(address, call, MEMORY_CONNECTIONS, options.seconds)
            done.append((time.monotonic(), done[-1][1] + found.requests))
            if found.failed or not found.requests:
                raise Unusable(f"{found.failed} of {found.requests} requests failed")
    finally:
        over.set()
        thread.join()
    samples.append((time.monotonic(), sample()))
    return np.array(done), np.array(samples)


def chosen(keys: list[str]) -> list[Server]:
    """Servers by key; `ours` means all three of ours.

    Raises SystemExit for an unknown key.
    """
    unknown = set(keys) - {server.key for server in SERVERS} - {"raw", "shipped"}
    if unknown:
        raise SystemExit(
            f"Expected servers among raw, shipped, {', '.join(s.key for s in SERVERS)}, got {sorted(unknown)}."
        )
    return [s for s in SERVERS if not keys or s.key in keys or s.key.split("_")[0] in keys]


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""

    def words(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--only", type=words, default=[], help="servers, by key; raw: the session in a loop; shipped: our models"
    )
    parser.add_argument("--connections", type=lambda text: [int(c) for c in words(text)], default=[1, 4, 16, 64])
    parser.add_argument("--graphs", type=words, default=list(GRAPHS))
    parser.add_argument("--subjects", type=Path, default=Path("runs/benchmarks"), help="where the graphs are, or go")
    parser.add_argument("--peers", type=Path, default=Path("runs/peers"), help="environments of the other servers")
    parser.add_argument("--markdown", type=Path, nargs="?", const=PAGE, help="write the tables into this page")
    parser.add_argument("--memory", metavar="SERVER", nargs="?", const="ours", help="watch memory instead")
    parser.add_argument("--requests", type=int, default=MEMORY_REQUESTS, help="of --memory")
    options = parser.parse_args(arguments)
    options.raw = not options.only or "raw" in options.only
    options.shipped = not options.only or "shipped" in options.only
    return options


def main() -> None:
    """Measure and print."""
    options = parse_options()
    if shutil.which("wrk") is None:
        raise SystemExit("Expected the load generator wrk on the path. Install it: apt-get install wrk")
    subjects(options.subjects)
    if options.memory:
        try:
            print(memory(chosen([options.memory])[0], options))
        except (Unusable, load.WrongAnswer) as problem:
            raise SystemExit(str(problem)) from problem
        return
    servers = chosen(options.only)
    results = measure_all(servers, options)
    rows = [tables.Row(server.key, server.title, server.wire) for server in servers]
    section = tables.render(results, rows, options.graphs, facts(servers, options, results))
    print("\n" + section)
    if options.markdown:
        options.markdown.write_text(tables.insert(options.markdown.read_text("utf-8"), section), encoding="utf-8")
    if results.failed:
        raise SystemExit(f"{results.failed} requests failed")


if __name__ == "__main__":
    main()
