"""HTTP as bad clients speak it, and what the service says of itself while they do."""

import socket
import time
from collections.abc import Callable

import httpx

WAIT = 20.0
PREDICT = "/v1/models/burgers/predict"
JSON = {"Content-Type": "application/json"}


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=WAIT)


def head(length: int | str, path: str = PREDICT) -> bytes:
    kind = f"Content-Length: {length}" if isinstance(length, int) else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{kind}\r\n\r\n".encode()


def metric(address: str, name: str, **labels: str) -> float:
    """Sum of a metric over the series with these labels."""
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [line for line in lines if line.startswith(name) and all(part in line for part in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def nothing_is_left(address: str) -> None:
    names = ("surrogate_inference_inflight", "surrogate_inflight_bytes", "surrogate_inference_pending_requests")
    eventually(lambda: not any(metric(address, name) for name in names), "requests or bytes were never given back")


def status_of(address: str, sent: bytes) -> int:
    """Status of the answer to raw bytes; 0 where the connection was closed without one."""
    with connect(address) as link:
        try:
            link.sendall(sent)
            received = link.recv(100)
        except (ConnectionError, TimeoutError):
            return 0
    return int(received.split()[1]) if received.startswith(b"HTTP/1.1") else 0
