"""Open Inference Protocol v2 over HTTP, with the extensions for binary tensors, repository and statistics.

    /v2/…    what Triton's, KServe's and MLServer's clients speak

The protocol: github.com/kserve/open-inference-protocol; its extensions: triton-inference-server/server, docs/protocol.
"""

from api.protocols.open_inference.routes import Application

__all__ = ["Application"]
