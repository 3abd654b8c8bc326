"""python -m tests.reliability.jumping — the service with a wall clock that is as far off as the file in $CLOCK says."""

import os
import time
from pathlib import Path

from api.__main__ import main

_now = time.time


def _jumping() -> float:
    return _now() + float(Path(os.environ["CLOCK"]).read_text(encoding="ascii"))


if __name__ == "__main__":
    time.time = _jumping
    main()
