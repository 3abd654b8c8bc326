"""The Tesseract runtime protocol at /tesseract/{name}: one model each, arrays in JSON, with derivatives.

    apply  x ↦ y(x), bands, validity        jacobian_vector_product  J t        vector_jacobian_product  Jᵀ w

Inputs are the model's fields without a batch axis, in float32; derivatives are those of the ensemble mean. A reference
time counts hours since 1970-01-01T00:00Z and has no derivative. Source: the runtime of tesseract-core, 1.11 to 1.15.
"""

from starlette.applications import Starlette
from starlette.routing import Route

from api.protocols.tesseract import calls
from api.protocols.tesseract.failures import handlers

__all__ = ["application", "handlers"]


def application() -> Starlette:
    """The application to mount at /tesseract."""
    posted = (
        calls.apply, calls.abstract_eval, calls.jacobian, calls.jacobian_vector_product, calls.vector_jacobian_product
    )  # fmt: skip
    routes = [Route(f"/{{name}}/{call.__name__}", call, methods=["POST"]) for call in posted]
    routes += [Route("/{name}/health", calls.health), Route("/{name}/openapi.json", calls.described)]
    app = Starlette(routes=routes, exception_handlers=handlers())
    app.router.redirect_slashes = False  # clients take a redirect for an answer
    return app
