"""What one writes in ten minutes: FastAPI, raw bytes in and out, the session in the thread pool, no batching.

python with_fastapi.py MODEL.onnx PORT
"""

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from onnx_session import open_session


def create_app(model: str) -> FastAPI:
    """POST /predict: one field."""
    app, session = FastAPI(), open_session(model)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        a = np.frombuffer(await request.body(), np.float32).reshape(1, 64, 64)
        (u,) = await run_in_threadpool(session.run, None, {"a": a})
        return Response(u.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), access_log=False, log_level="warning")
