"""Which scope a request needs, decided on its path and method alone, before any route is looked for.

Default deny: a path that is not open needs a client, and a call that is not listed needs `admin`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["predict", "explain", "jobs", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What probes ask, who have no key; compared as it is, so nothing that merely looks alike is open."""

READING = ("GET", "HEAD", "OPTIONS")
CALLS: dict[str, Scope | None] = {
    **dict.fromkeys(("predict", "forecast", "infer", "Evaluate", "apply", "abstract_eval"), "predict"),
    **dict.fromkeys(("explain", "jvp", "vjp", "Gradient", "ApplyJacobian", "ApplyHessian"), "explain"),
    **dict.fromkeys(("jacobian", "jacobian_vector_product", "vector_jacobian_product"), "explain"),
    **dict.fromkeys(("load", "unload"), "admin"),
    **dict.fromkeys(("ModelInfo", "InputSizes", "OutputSizes", "index"), None),
}
"""Scope of every call that is posted, by the last part of its path; None: any client may."""


@dataclass(frozen=True)
class Client:
    """Somebody who has shown a key or a token: a name for logs and quotas, scopes, and limits where they are its own."""

    name: str
    scopes: frozenset[Scope]
    limits: str | None = None


def required_scope(method: str, path: str) -> Scope | None:
    """The scope a request needs beyond being some client's; None where there is none."""
    parts = [part.strip() for part in path.split("/") if part.strip()]
    if parts[:2] == ["v1", "jobs"]:
        return "jobs"
    if parts == ["metrics"]:
        return "admin"
    if method in READING:
        return None
    return CALLS.get(parts[-1], "admin") if parts else "admin"
