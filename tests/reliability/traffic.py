"""Clients beside a fault: honest ones that check every answer, and the rest of the world."""

import gzip
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np

from tests.raw_http import JSON, PREDICT, WAIT, connect, head, status_of

CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # float32 sums in another order, in batches of another size


@dataclass(frozen=True)
class Question:
    """A request and its right answer."""

    body: bytes
    right: np.ndarray

    @classmethod
    def of(cls, address: str, seed: int = 3) -> "Question":
        """The example of this seed, answered while nothing is wrong."""
        found = httpx.get(f"{address}/v1/models/burgers/example", params={"seed": seed}, timeout=WAIT).json()
        body = json.dumps(found | {"include": ["outputs"]}).encode()
        return cls(body, values(httpx.post(address + PREDICT, content=body, headers=JSON, timeout=WAIT)))

    def is_right(self, answer: httpx.Response) -> bool:
        """Whether an answer of 200 has the right numbers."""
        return bool(np.allclose(values(answer), self.right, **CLOSE))


def values(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text[:300]
    return np.asarray(answer.json()["outputs"]["velocity"]["data"], dtype=np.float64)


@dataclass
class Honest:
    """What honest clients got: statuses (0 where the connection broke), wrong answers, seconds of the right ones."""

    statuses: Counter = field(default_factory=Counter)
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)
    no_hint: int = 0

    def ask(self, client: httpx.Client, address: str, question: Question) -> None:
        """One request."""
        began = time.monotonic()
        try:
            answer = client.post(address + PREDICT, content=question.body, headers=JSON)
        except httpx.TransportError:
            self.statuses[0] += 1
            time.sleep(0.05)
            return
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.seconds.append(time.monotonic() - began)
            self.wrong += not question.is_right(answer)
        elif answer.status_code == 503:
            self.no_hint += int(answer.headers.get("Retry-After", 0)) < 1
            time.sleep(0.05)

    @property
    def text(self) -> str:
        """In a line."""
        spent = np.percentile(self.seconds or [np.nan], [50, 99]) * 1e3
        counts = ", ".join(f"{n} × {status or 'broken'}" for status, n in sorted(self.statuses.items()))
        return f"{counts}; {self.wrong} wrong; median {spent[0]:.0f} ms, 99 % {spent[1]:.0f} ms"


@contextmanager
def beside(work: Callable[[], None], threads: int) -> Iterator[None]:
    """`work` again and again in so many threads, for as long as the block runs."""
    going = threading.Event()
    going.set()

    def loop() -> None:
        while going.is_set():
            work()

    workers = [threading.Thread(target=loop) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        going.clear()
        for worker in workers:
            worker.join(2 * WAIT)


@contextmanager
def honest(address: str, question: Question, clients: int = 4) -> Iterator[Honest]:
    """So many honest clients beside the block."""
    found = Honest()
    with httpx.Client(timeout=WAIT) as client, beside(lambda: found.ask(client, address, question), clients):
        yield found


def world(address: str, question: Question, chance: random.Random) -> int:
    """One of the things that happen: vanished clients, garbage, bombs, deadlines, explanations, pictures, forecasts."""
    kind = chance.randrange(9)
    if kind == 0:
        with connect(address) as link:
            link.sendall(head(len(question.body)) + question.body[: chance.randrange(len(question.body))])
        return 0
    if kind == 1:
        return status_of(address, chance.randbytes(chance.randrange(1, 3000)))
    if kind == 2:
        return status_of(address, head(10**12) + b"{")
    body, headers, path = question.body, dict(JSON), PREDICT
    if kind == 3:
        headers["X-Request-Timeout"] = "0.001"
    elif kind == 4:
        headers["Content-Encoding"] = "gzip"
        body, path = gzip.compress(b"[" + b" " * 2**22 + b"]"), "/v2/models/burgers/infer"
    elif kind == 5:
        headers["Accept"] = "image/png"
    elif kind == 6:
        headers["Accept"] = "application/x-netcdf"
    elif kind == 7:
        path = PREDICT.replace("predict", "explain")
        asked = json.loads(body) | {"quantity": {"type": "norm"}, "method": "gradient"}
        asked.pop("include")
        body = json.dumps(asked).encode()
    return httpx.post(address + path, content=body, headers=headers, timeout=WAIT).status_code
