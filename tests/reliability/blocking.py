"""python -m tests.reliability.blocking — the service with a loop that each prediction stops: health must be seen to wait."""

import time

from api.__main__ import main
from api.service import Visit

STOP = 0.01  # seconds; 48 clients then keep it waiting for half a second
_run = Visit.run


async def _blocking(self, graph, feeds):
    time.sleep(STOP)
    return await _run(self, graph, feeds)


if __name__ == "__main__":
    Visit.run = _blocking
    main()
