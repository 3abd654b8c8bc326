"""Load by wrk (one thread, a process of its own), its script and its report; one answer checked beforehand."""

import json
import math
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from tests.benchmarks.calls import Call

MARK = "RESULT "
CLOSE = 1e-5  # of the field's norm: another batch size or another file of the same graph sums in another order
PACED_CONNECTIONS = 64

REPORT = r"""
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "microseconds": %d, "median": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
# wrk asks, when a connection is free, how many ms it waits before it asks again: until the next time of one schedule for
# all, whether answers are slow or not; the clock is C's, as Lua's own tells whole seconds
SCHEDULE = """
local ffi = require("ffi")
ffi.cdef("typedef struct {{ long seconds, microseconds; }} moment; int gettimeofday(moment *, void *);")
local moment, due = ffi.new("moment"), nil
math.randomseed(41)
delay = function()
  ffi.C.gettimeofday(moment, nil)
  local now = tonumber(moment.seconds) * 1e3 + tonumber(moment.microseconds) / 1e3
  due = (due or now) + {gap}
  return math.max(0, math.floor(due - now + 0.5))
end
"""
# between requests, ms: a metronome; Poisson's law
GAPS = {"even": "{mean}", "random": "-{mean} * math.log(1 - math.random())"}


class WrongAnswer(RuntimeError):
    """A server that answers, but not with what the session says."""


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests per second, latencies in ms, requests that failed (not 2xx or 3xx, time-outs, resets)."""

    requests: int
    per_second: float
    median: float
    p99: float
    failed: int


def parse(text: str) -> Load:
    """wrk's output.

    Raises ValueError when the line is missing that the script prints.
    """
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    if len(lines) != 1:
        raise ValueError(f"Expected one line '{MARK}…' from wrk, got {len(lines)}: {text[-500:]!r}. Run wrk by hand.")
    found = json.loads(lines[0].removeprefix(MARK))
    per_second = found["requests"] / (found["microseconds"] / 1e6)
    return Load(found["requests"], per_second, found["median"] / 1e3, found["p99"] / 1e3, found["failed"])


def script(call: Call, body: Path, gap: str = "") -> str:
    """wrk's Lua for one call, whose body lies in a file; `gap` is Lua for the ms between two requests."""
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in call.headers.items())
    opening = f'local file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\nwrk.method = "POST"\n'
    return opening + headers + REPORT + (SCHEDULE.format(gap=gap) if gap else "")


def run(address: str, call: Call, connections: int, seconds: int, gap: str = "") -> Load:
    """Load for a while."""
    with tempfile.TemporaryDirectory() as folder:
        body, lua = Path(folder, "body"), Path(folder, "call.lua")
        body.write_bytes(call.body)
        lua.write_text(script(call, body, gap))
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(lua)]
        done = subprocess.run(["wrk", *options, address + call.path], capture_output=True, text=True, check=False)
    return parse(done.stdout + done.stderr)


def run_paced(address: str, call: Call, rate: float, seconds: int, arrivals: str) -> Load:
    """`rate` requests per second, `even` or `random`, as long as not all of 64 connections wait for an answer."""
    gap = GAPS[arrivals].format(mean=1e3 / rate)
    return run(address, call, PACED_CONNECTIONS, seconds, gap)


def check(address: str, call: Call, expected: np.ndarray) -> None:
    """One answer equals the session's.

    Raises WrongAnswer.
    """
    try:
        answer = httpx.post(address + call.path, content=call.body, headers=call.headers, timeout=30)
    except httpx.TransportError as error:
        raise WrongAnswer(f"POST {call.path} was not answered: {error}") from error
    if answer.status_code != 200:
        raise WrongAnswer(f"POST {call.path} answered {answer.status_code}")
    try:
        got = np.asarray(call.read(answer.content, answer.headers)).reshape(-1)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WrongAnswer(f"POST {call.path} answered what cannot be read: {answer.content[:80]!r}") from error
    if got.shape != expected.reshape(-1).shape:
        raise WrongAnswer(f"{got.size} numbers instead of {expected.size}")
    gap = float(np.linalg.norm(got - expected.reshape(-1)) / np.linalg.norm(expected))
    if not (math.isfinite(gap) and gap <= CLOSE):
        raise WrongAnswer(f"numbers off by {gap:.1e} of their norm")
