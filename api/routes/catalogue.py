"""GET /v1/models…: what is served, described, with cards and examples."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markdown_it import MarkdownIt
from starlette.exceptions import HTTPException

from api.encodings import json
from api.routes import requests
from api.schemas import compact
from api.security.pages import page_headers
from api.service import service_of, visit_of
from models.bundle import CARD_FILE, GOLDEN_FILE
from models.errors import NotOffered
from models.forecast import lead_times_of
from models.surrogate import Surrogate, describe

router = APIRouter()
MARKDOWN, HTML = "text/markdown", "text/html"
LARGEST_SEED = 2**32 - 1


def entry(surrogate: Surrogate) -> dict[str, Any]:
    """One line of the catalogue."""
    document = surrogate.manifest.document
    return {key: document[key] for key in ("name", "version", "title", "domain", "time")} | {
        "inputs": [field.name for field in surrogate.manifest.inputs],
        "outputs": [field.name for field in surrogate.manifest.outputs],
        "lead_times": document.get("lead_times"),
        "links": {"self": f"/v1/models/{document['name']}"},
    }


@router.get("/models")
async def models(request: Request) -> Response:
    """Every model served, latest versions."""
    served = service_of(request).repository.surrogates
    return requests.json_response({"models": [entry(surrogate) for surrogate in served]})


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}")
async def model(request: Request, name: str, version: str | None = None) -> Response:
    """Fields, axes, units, ranges, accuracy and coverage report, statements and explanations on offer."""
    surrogate = requests.surrogate_of(request, name, version)
    here = f"/v1/models/{name}"
    time = ("forecast",) if surrogate.lead_times is not None else ()
    calls = ("predict", *time, "explain", "example", "card", *surrogate.derivatives_offered)
    links = {"self": here} | {call: f"{here}/{call}" for call in calls}
    return requests.json_response(describe(surrogate) | {"links": links})


@router.get("/models/{name}/card")
@router.get("/models/{name}/versions/{version}/card")
async def card(request: Request, name: str, version: str | None = None) -> Response:
    """The model card, as Markdown, or as HTML when the client accepts it first."""
    surrogate = requests.surrogate_of(request, name, version)
    if CARD_FILE not in surrogate.bundle.files:
        raise NotOffered(f"a card of {name}", "a bundle that has one: packaged models have none")
    text = surrogate.bundle.files[CARD_FILE].decode("utf-8")
    if requests.accepted(request, (MARKDOWN, HTML)) == MARKDOWN:
        return Response(text, media_type=MARKDOWN)
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text).replace('src="', 'src="card/')
    style = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}td,th{padding:.2rem .8rem;text-align:left}"
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{style}</style>{body}</html>"
    return Response(page, headers=page_headers(page, "'unsafe-inline'"), media_type=HTML)  # columns are aligned inline


@router.get("/models/{name}/card/{picture}")
@router.get("/models/{name}/versions/{version}/card/{picture}")
async def picture(request: Request, name: str, picture: str, version: str | None = None) -> Response:
    """A plot of the card, looked up among the bundle's verified files."""
    files = requests.surrogate_of(request, name, version).bundle.files
    if not picture.endswith(".png") or picture not in files:
        raise HTTPException(404, "The card has no such picture.")
    return Response(files[picture], media_type="image/png")


@router.get("/models/{name}/example")
@router.get("/models/{name}/versions/{version}/example")
async def example(
    request: Request,
    name: str,
    version: str | None = None,
    seed: Annotated[int, Query(ge=0, le=LARGEST_SEED, description="Number of the example.")] = 0,
    encoding: Annotated[Literal["json", "base64"], Query()] = "json",
    call: Annotated[Literal["predict", "forecast"], Query(description="What the body is for.")] = "predict",
) -> Response:
    """A valid body drawn from the training distribution (seeds apart from training), ready to post."""
    surrogate = requests.surrogate_of(request, name, version)
    if call == "forecast":
        lead_times_of(surrogate)
    return requests.json_response(
        {"inputs": await visit_of(request).off_loop(lambda: body(surrogate, seed, encoding, call))}
    )


def body(surrogate: Surrogate, seed: int, encoding: json.Encoding, call: str = "predict") -> dict[str, Any]:
    """Example inputs on the wire; a forecast takes its lead times apart from the inputs."""
    lead = surrogate.lead_times
    clock = lead.input if lead is not None and call == "forecast" else None
    values = draw(surrogate, seed)
    return {
        item.name: compact(values[item.name].astype(np.float32))  # as the graph reads it
        if encoding == "base64" and item.shape
        else json.encode_input(item, values[item.name], "json")
        for item in surrogate.manifest.inputs
        if item.name != clock
    }


EXAMPLE_STREAM = 1_000_003


def draw(surrogate: Surrogate, seed: int) -> dict[str, np.ndarray]:
    """One input from the training law, or from the golden cases of a packaged model."""
    physics, lead = surrogate.physics, surrogate.lead_times
    if physics is None:
        golden = surrogate.bundle.arrays(GOLDEN_FILE)
        stored = {k.removeprefix("input."): v for k, v in golden.items() if k.startswith("input.")}
        return {name: values[seed % len(values)] for name, values in stored.items()}
    family = "examples" if "examples" in physics.families else physics.training_family
    found = physics.draw(EXAMPLE_STREAM, seed, int(surrogate.manifest.document["points"]), family)
    if lead is not None and lead.input is not None:
        found = found | {lead.input: np.array(lead.stop)}
    return found
