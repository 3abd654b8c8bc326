"""Pages for people: the start page and the API documentation, all files served from here.

fastapi-offline brings Swagger UI 5, the first that reads OpenAPI 3.1.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "page"


def install(app: FastAPI) -> None:
    """Mount the pages."""
    app.mount("/static/docs", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-files")
    app.mount("/static/page", StaticFiles(directory=FOLDER), name="page-files")

    @app.get("/", include_in_schema=False)
    async def start() -> FileResponse:
        return FileResponse(FOLDER / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="API documentation",
            swagger_js_url="/static/docs/swagger-ui-bundle.js",
            swagger_css_url="/static/docs/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
