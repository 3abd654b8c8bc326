"""What browsers may do with the service: headers of its own pages, and other origins, none by default."""

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ASKED = ("Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "X-Request-Timeout")
TOLD = ("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id")
_scripts = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page_headers(html: str, styles: str = "'self'") -> dict[str, str]:
    """Headers of one page: nothing from elsewhere, no script but files of the service and what is written in it."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in _scripts.findall(html)]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in hashes)])
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return HEADERS | {"Content-Security-Policy": policy}


def shared(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application for pages of these origins too; without any, as it is."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, ("GET", "POST"), ASKED, expose_headers=TOLD)
