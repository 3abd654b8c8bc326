"""python -m api — serve."""

import logging

import uvicorn

from api.app import create_app
from api.settings import read_settings

KEEP_ALIVE = 75  # seconds: longer than the pools of clients and proxies keep a connection


def main() -> None:
    """Serve until stopped."""
    settings = read_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    address = f"http://{settings.host}:{settings.port}"
    print(f"Page:           {address}/")
    print(f"Documentation:  {address}/docs")
    print("First request:  " + first_request(address), flush=True)
    uvicorn.run(
        create_app(settings), host=settings.host, port=settings.port, log_level=settings.log_level,
        access_log=settings.log_level == "debug", timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.grace_seconds,
    )  # fmt: skip


def first_request(address: str) -> str:
    """A shell line that asks for an example and posts it."""
    model = f"{address}/v1/models/darcy"
    return (
        f"curl -s {model}/example | curl -s -H 'Content-Type: application/json' -H 'Accept: image/png' "
        f"-d @- {model}/predict -o answer.png"
    )


if __name__ == "__main__":
    main()
