"""Pages for people: the start page and the API documentation, all files served from here."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

FOLDER = Path(__file__).parent / "page"


def install(app: FastAPI) -> None:
    """Mount the pages."""
    app.mount("/static/docs", StaticFiles(directory=swagger_ui_path), name="docs-files")
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
            swagger_favicon_url="/static/docs/favicon-32x32.png",
        )
