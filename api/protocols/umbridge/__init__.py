"""UM-Bridge 1.0: maps between lists of vectors, with derivatives, for samplers and optimisers.

    Evaluate  θ ↦ u(θ)        Gradient  sensᵀ ∂u_o/∂θ_i        ApplyJacobian  ∂u_o/∂θ_i vec

θ are the input fields of a model and u its output fields (ensemble mean), each flattened row-major, in the order of the
manifest; a reference time counts hours since 1970-01-01T00:00Z and has no derivative. `<model>:half_width` maps θ to half
the width of the prediction band. Under /umbridge are all models, under /umbridge/{model} one of them alone. Clients in C++ know a host and a port but no path:
for them a setting puts all models at the root as well.

Source: the UM-Bridge documentation, protocol 1.0.
"""

from starlette.applications import Starlette
from starlette.routing import Route

from api.protocols.umbridge import calls
from api.protocols.umbridge.failures import handlers

__all__ = ["PATHS", "application", "handlers"]

CALLS = {
    "/ModelInfo": calls.model_info, "/InputSizes": calls.input_sizes, "/OutputSizes": calls.output_sizes,
    "/Evaluate": calls.evaluate, "/Gradient": calls.gradient, "/ApplyJacobian": calls.apply_jacobian,
    "/ApplyHessian": calls.apply_hessian,
}  # fmt: skip
PATHS = ("/Info", *CALLS)


def application() -> Starlette:
    """The application to mount at /umbridge; at the root it answers PATHS."""
    routes = []
    for view in ("", "/{model}"):
        routes.append(Route(view + "/Info", calls.info))
        routes += [Route(view + path, call, methods=["POST"]) for path, call in CALLS.items()]
    app = Starlette(routes=routes, exception_handlers=handlers())
    app.router.redirect_slashes = False  # clients take a redirect for an answer
    return app
