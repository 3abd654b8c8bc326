"""What stands before every request, in microseconds of processor time: python -m tests.benchmarks.overhead.

Counting and the request's id; the guard with a key; the guard with two limits counted in memory. Each is timed around an
application that does nothing, the fastest of five rounds, less the application alone.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.protocols.faces import refusal
from api.security.guard import guarded
from api.settings import Settings
from api.telemetry import MODELS, Measure
from tests.api.access_files import write_key

CALLS, ROUNDS = 5000, 5
ROUTE = SimpleNamespace(path="/v2/models/{name}/infer")
VISIT = SimpleNamespace(model="m", concluded=1.0)
LIMITS = "1000000/second; 100000000/day"


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers at once."""
    scope.update(route=ROUTE, path_params={"name": "m"}, visit=VISIT)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def microseconds(app: ASGIApp, key: str) -> float:
    """Of one request."""
    headers = [
        (b"host", b"x"),
        (b"accept", b"*/*"),
        (b"user-agent", b"x"),
        (b"authorization", f"Bearer {key}".encode()),
    ]

    async def send(message: Message) -> None:
        pass

    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await app({"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": headers}, send, send)
        spent.append(time.process_time() - began)
    return min(spent) / CALLS * 1e6


async def main() -> None:
    """Print the table."""
    MODELS.expect([("m", "1")], [ROUTE.path])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.jsonl"
        key = write_key(file)
        limited = Settings(keys=file, limits=LIMITS)
        layers = {
            "metrics and request id": Measure(nothing),
            "a key": guarded(nothing, refusal, Settings(keys=file)),
            "a key and two limits in memory": guarded(nothing, refusal, limited),
        }
        alone = await microseconds(nothing, key)
        for name, app in layers.items():
            print(f"{name}: {await microseconds(app, key) - alone:.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
