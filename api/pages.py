"""Pages for people: the start page and the API documentation, all files served from here.

fastapi-offline brings Swagger UI 5, the first that reads OpenAPI 3.1.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from api.security.pages import page_headers

FOLDER = Path(__file__).parent / "page"


def install(app: FastAPI) -> None:
    """Mount the pages."""
    app.mount("/static/docs", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-files")
    app.mount("/static/page", StaticFiles(directory=FOLDER), name="page-files")

    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    documentation = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="API documentation",
        swagger_js_url="/static/docs/swagger-ui-bundle.js",
        swagger_css_url="/static/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    ).body
    text = bytes(documentation).decode()

    @app.get("/", include_in_schema=False)
    async def start() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers(page))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:  # Swagger UI sets styles on its elements
        return HTMLResponse(text, headers=page_headers(text, "'self' 'unsafe-inline'"))
