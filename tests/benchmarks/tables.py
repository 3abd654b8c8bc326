"""Measurements of servers → Markdown: medians over repetitions with their spread, ratios, overhead, tails."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import Any

from tests.benchmarks.load import GAPS, Load
from tests.benchmarks.queueing import tail_ratio

AT = 16  # connections at which servers are compared
SHARE = 0.7  # of the saturated throughput, for tails
START, END = "<!-- generated: {} -->\n", "\n<!-- end -->"


@dataclass(frozen=True)
class Row:
    """What a table says about a server before any number."""

    key: str
    title: str
    wire: str


@dataclass
class Results:
    """All that was measured in one run.

    `loads` by (server, graph, connections), `paced` by (server, graph, arrivals), one entry per repetition; `raw` by graph, then
    arrangement: samples per second and ms per run; `shipped` by (model, whether the answer is full); `ready` are seconds
    from the start to ready with the shipped models; `skipped` says why a server has no figures.
    """

    loads: dict[tuple[str, str, int], list[Load]] = field(default_factory=dict)
    paced: dict[tuple[str, str, str], list[tuple[float, Load]]] = field(default_factory=dict)
    raw: dict[str, list[Mapping[str, Mapping[str, float]]]] = field(default_factory=dict)
    shipped: dict[tuple[str, bool], list[Load]] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Requests that failed, in all."""
        loads = [load for found in (*self.loads.values(), *self.shipped.values()) for load in found]
        return sum(load.failed for load in loads + [load for found in self.paced.values() for _, load in found])

    def per_second(self, key: str, graph: str, connections: int = AT) -> float | None:
        """Median over repetitions; None when not measured."""
        found = self.loads.get((key, graph, connections))
        return median(load.per_second for load in found) if found else None

    def raw_median(self, graph: str, batch: str, quantity: str) -> float:
        """Median over repetitions of `per_second` or `median`."""
        return median(times[batch][quantity] for times in self.raw[graph])

    def limit(self, graph: str) -> tuple[float, str] | None:
        """(samples per second of the bare session, best batch); None when not measured."""
        if graph not in self.raw:
            return None
        return max((self.raw_median(graph, batch, "per_second"), batch) for batch in self.raw[graph][0])


def render(results: Results, rows: Sequence[Row], graphs: Sequence[str], facts: Mapping[str, Any]) -> str:
    """The whole section."""
    rows_measured = [row for row in rows if any(key == row.key for key, _, _ in results.loads)]
    parts = ["; ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    parts += [graph_table(results, rows_measured, graph) for graph in graphs]
    parts += [overhead_table(results, rows_measured), paced_table(results, rows_measured, graphs)]
    parts += [shipped_table(results), skipped_table(results, rows)]
    if results.failed:
        parts.append(f"**{results.failed} requests failed; the figures are void.**")
    return "\n\n".join(part for part in parts if part)


def graph_table(results: Results, rows: Sequence[Row], graph: str) -> str:
    """Requests per second and latencies by number of connections; shares of the limit, our multiple of each server."""
    connections = sorted({c for _, g, c in results.loads if g == graph})
    ours = next((row for row in rows if results.per_second(row.key, graph)), None)
    head = [graph, "wire", *(f"{c} conn." for c in connections), "of the limit", f"{ours.title} is" if ours else ""]
    body = [_raw_line(results, graph, len(connections))] if graph in results.raw else []
    for row in rows:
        cells = [_cell(results.loads.get((row.key, graph, c), [])) for c in connections]
        body.append([row.title, row.wire, *cells, *_ratios(results, graph, row, ours)])
    return table(head, body)


def _raw_line(results: Results, graph: str, columns: int) -> list[str]:
    limit, best = results.limit(graph)
    by_batch = ", ".join(f"{b}: {results.raw_median(graph, b, 'per_second'):.0f}" for b in results.raw[graph][0])
    title = f"session in a loop, samples/s by batch (or runs×batch): {by_batch}"
    return [title, "–", *[""] * (columns - 1), f"limit {limit:.0f} (batch {best})", "100 %", ""]


def _ratios(results: Results, graph: str, row: Row, ours: Row | None) -> tuple[str, str]:
    own, limit = results.per_second(row.key, graph), results.limit(graph)
    if not own or ours is None:
        return "", ""
    reference = results.per_second(ours.key, graph)
    share = f"{100 * own / limit[0]:.3g} %" if limit else ""
    return share, f"{reference / own:.1f}×" if row != ours else ""


def _cell(loads: Sequence[Load]) -> str:
    """`requests/s [least–most], median / p99 ms`."""
    if not loads:
        return "–"
    rates = [load.per_second for load in loads]
    times = f"{median(load.median for load in loads):.2f} / {median(load.p99 for load in loads):.2f} ms"
    return f"{median(rates):.0f} [{min(rates):.0f}–{max(rates):.0f}], {times}"


def overhead_table(results: Results, rows: Sequence[Row], graph: str = "trivial") -> str:
    """One connection: median latency less the session's own time."""
    if graph not in results.raw:
        return ""
    own = results.raw_median(graph, "1", "median")
    body = []
    for row in rows:
        loads = results.loads.get((row.key, graph, 1))
        if loads:
            times = [load.median - own for load in loads]
            body.append([row.title, row.wire, f"{median(times):.2f} [{min(times):.2f}–{max(times):.2f}]"])
    return table([f"one connection, {graph} (session alone {own:.3f} ms)", "wire", "added ms"], body) if body else ""


def paced_table(results: Results, rows: Sequence[Row], graphs: Iterable[str]) -> str:
    """Tails below saturation."""
    body = []
    for graph, row, arrivals in product(graphs, rows, GAPS):
        found = results.paced.get((row.key, graph, arrivals))
        if found:
            ratios = [load.p99 / load.median for _, load in found]
            asked, got = median(rate for rate, _ in found), median(load.per_second for _, load in found)
            times = f"{median(x.median for _, x in found):.2f} / {median(x.p99 for _, x in found):.2f} ms"
            spread = f"{median(ratios):.1f} [{min(ratios):.1f}–{max(ratios):.1f}]"
            body.append([graph, row.title, row.wire, arrivals, f"{asked:.0f}", f"{got:.0f}", times, spread])
    head = [f"70 % of the throughput at {AT}", "server", "wire", "arrivals"]
    head += ["asked/s", "got/s", "median / p99", "p99 ÷ median"]
    if not body:
        return ""
    chance = ", ".join(f"{tail_ratio(n, SHARE):.1f} with {n}" for n in (1, 2))
    return (
        table(head, body)
        + f"\n\nRandom arrivals alone give p99 ÷ median of {chance} runs at a time (M/D/c at this load)."
    )


def shipped_table(results: Results) -> str:
    """Prediction alone and full answers of the shipped models, and how long they take to be ready."""
    if not results.shipped:
        return ""
    body = []
    for name in dict.fromkeys(name for name, _ in results.shipped):
        bare, full = results.shipped[name, False], results.shipped[name, True]
        ratios = [one.per_second / other.per_second for one, other in zip(bare, full, strict=True)]
        body.append([name, _cell(bare), _cell(full), f"{median(ratios):.1f}× [{min(ratios):.1f}–{max(ratios):.1f}]"])
    head = [f"{AT} connections, /v1, base64 JSON", "outputs alone", "full answer", "a full answer costs"]
    ready = f"Start to ready with these models: {median(results.ready):.1f} s [{min(results.ready):.1f}–{max(results.ready):.1f}]."
    return table(head, body) + "\n\n" + ready


def skipped_table(results: Results, rows: Sequence[Row]) -> str:
    """What was not measured, and why."""
    titles = {row.key: row.title for row in rows}
    body = [[titles.get(key, key), why.replace("\n", " ").replace("|", "/")] for key, why in results.skipped.items()]
    return table(["not measured, or not to the end", "why"], body) if body else ""


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def insert(text: str, section: str, name: str = "serving") -> str:
    """`text` with one of its generated parts replaced.

    Raises ValueError unless there is one of that name.
    """
    start = START.format(name)
    pattern = re.escape(start) + ".*?" + re.escape(END)
    replaced, count = re.subn(pattern, lambda _: start + section + END, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"Expected one block {start.strip()!r} … {END.strip()!r}, got {count}. Restore it.")
    return replaced
