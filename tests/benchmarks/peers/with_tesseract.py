"""The Tesseract runtime, base64 in JSON; it has no batching.

python with_tesseract.py MODEL.onnx PORT
"""

import os
import sys
from functools import cache
from pathlib import Path

from onnx_session import open_session
from pydantic import BaseModel
from tesseract_core.runtime import Array, Float32


class InputSchema(BaseModel):
    """The input field."""

    a: Array[(None, 64, 64), Float32]


class OutputSchema(BaseModel):
    """The output field."""

    u: Array[(None, 64, 64), Float32]


@cache
def session():
    """Opened at the first call."""
    return open_session(os.environ["MODEL"])


def apply(inputs: InputSchema) -> OutputSchema:
    """One field."""
    return OutputSchema(u=session().run(None, {"a": inputs.a})[0])


if __name__ == "__main__":
    program = Path(sys.executable).with_name("tesseract-runtime")
    told = {"TESSERACT_API_PATH": str(Path(__file__).resolve()), "MODEL": sys.argv[1]}
    command = [str(program), "serve", "--host", "127.0.0.1", "--port", sys.argv[2]]
    os.execve(program, command, {**os.environ, **told})  # noqa: S606 - no shell is wanted
