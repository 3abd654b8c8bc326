"""python -m api — serve; python -m api keys — make an API key."""

import argparse
import contextlib
import sys

import uvicorn

from api import logs
from api.app import VERSION, create_app
from api.protocol import LimitedProtocol
from api.security.access import SCOPES
from api.security.keys import new_key
from api.settings import read_settings

KEEP_ALIVE = 75  # seconds: longer than the pools of clients and proxies keep a connection


def serve() -> None:
    """Serve until stopped."""
    settings = read_settings()
    logs.configure(settings, VERSION)
    if settings.log_format == "text":
        with contextlib.suppress(OSError):  # a full disk under the output is no reason not to serve
            print(greeting(f"http://{settings.host}:{settings.port}"), flush=True)
    uvicorn.run(
        create_app(settings), host=settings.host, port=settings.port, log_config=None, http=LimitedProtocol, ws="none",
        access_log=settings.log_level == "debug", timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.grace_seconds,
    )  # fmt: skip


def greeting(address: str) -> str:
    """Where to look first, and a shell line that asks for an example and posts it."""
    model = f"{address}/v1/models/darcy"
    return (
        f"Page:           {address}/\nDocumentation:  {address}/docs\n"
        f"First request:  curl -s {model}/example | curl -s -H 'Content-Type: application/json' -H 'Accept: image/png' "
        f"-d @- {model}/predict -o answer.png"
    )


def print_key(options: argparse.Namespace) -> None:
    """A new key on stderr, for its client alone; its line for the key file on stdout."""
    key, line = new_key(options.client, tuple(options.scopes.split(",")), options.days, options.limits)
    print(f"The key, shown this once: {key}", file=sys.stderr)
    print(line.model_dump_json(exclude_none=True))


def parser() -> argparse.ArgumentParser:
    """Arguments."""
    result = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = result.add_subparsers(dest="command")
    keys = commands.add_parser("keys", help="make a key: its line for SURROGATE_KEYS on stdout, the key on stderr")
    keys.add_argument("client", help="a name for logs and quotas")
    keys.add_argument("--scopes", default="predict,explain", help=f"some of {','.join(SCOPES)}")
    keys.add_argument("--days", type=float, default=365.0, help="how long it holds")
    keys.add_argument("--limits", help="limits of its own, like '60/second; 100000/day'")
    return result


def main() -> None:
    """Run one command."""
    options = parser().parse_args()
    if options.command == "keys":
        print_key(options)
    else:
        serve()


if __name__ == "__main__":
    main()
