"""The routes under /v2: an application of its own, beside FastAPI's, so that little stands before the model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from api.encodings.json import MEDIA_TYPE, dump
from api.protocols.open_inference import compression, inference, reply, tensors
from api.protocols.open_inference.failures import HANDLERS, domain, unexpected
from api.protocols.open_inference.inference import Asked
from api.protocols.open_inference.reply import Reply
from api.protocols.open_inference.statistics import statistics
from api.protocols.open_inference.tensors import Contract
from api.routes.requests import check_answer_size, parse_document
from api.service import Visit, service_of, visit_of
from models.errors import NotEnabled, SurrogateError, UnknownModel, UnknownOption, UnknownVersion, WrongType
from models.surrogate import Surrogate

PREFIX = "/v2"
MODELS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
NAME = "surrogate-service"
EXTENSIONS = (
    "binary_tensor_data", "model_repository", "model_repository(unload_dependents)", "model_configuration",
    "statistics", "parameters",
)  # fmt: skip
BINARY = "application/octet-stream"
LARGE_JSON = 2**17  # bytes: reading more is left to a worker
MANY_NUMBERS = 2**17  # writing more is left to a worker
CONTROL = ("loading and unloading models over the API", "SURROGATE_MODEL_CONTROL")


def _json(document: Any, status: int = 200) -> Response:
    return Response(dump(document), status, media_type=MEDIA_TYPE)


def _named(request: Request) -> tuple[str, str | None]:
    found = request.path_params
    return found["name"], found.get("version")


def _surrogate(request: Request) -> Surrogate:
    """The surrogate the path names.

    Raises UnknownModel, UnknownVersion.
    """
    return service_of(request).repository.get(*_named(request))


@dataclass(frozen=True)
class Face:
    """The protocol's handlers; contracts follow from a bundle's files, so its digest names them."""

    version: str
    contracts: dict[str, Contract] = field(default_factory=dict)

    def contract(self, surrogate: Surrogate) -> Contract:
        """The tensors of a surrogate."""
        key = surrogate.manifest.digest
        found = self.contracts.get(key)
        if found is None:
            found = self.contracts[key] = tensors.contract_of(surrogate)
        return found

    async def server(self, _request: Request) -> Response:
        """Server metadata."""
        return _json({"name": NAME, "version": self.version, "extensions": EXTENSIONS})

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        surrogate = _surrogate(request)
        versions = list(service_of(request).repository.versions(surrogate.manifest.name))
        return _json(tensors.metadata(surrogate, self.contract(surrogate), versions))

    async def configuration(self, request: Request) -> Response:
        """Model configuration."""
        surrogate = _surrogate(request)
        limit = service_of(request).settings.max_batch
        return _json(tensors.configuration(surrogate, self.contract(surrogate), limit))

    async def infer(self, request: Request) -> Response:
        """Tensors in, tensors out."""
        surrogate = _surrogate(request)
        visit = visit_of(request)
        visit.enter(surrogate.manifest.name)
        asked = await self._read(visit, surrogate)
        check_answer_size(request, surrogate, asked.count)
        if asked.seconds is not None:
            visit.set_deadline(min(asked.seconds, visit.ticket.seconds or asked.seconds))
        answer = await visit.predict(surrogate, asked.inputs, asked.question)
        return await _answered(visit, asked, partial(reply.write, surrogate, asked, answer))

    async def _read(self, visit: Visit, surrogate: Surrogate) -> Asked:
        settings, header = visit.service.settings, visit.header(inference.HEADER.encode())
        encoding = (visit.header(b"content-encoding") or "identity").strip().lower()
        packed = encoding != "identity"
        if packed:
            compression.require_known(encoding)
        body = await visit.body()
        if packed:
            body = await visit.off_loop(partial(compression.unpack, body, encoding, settings.max_body_bytes))
            visit.hold(len(body))
        work = partial(inference.read, body, header, self.contract(surrogate), settings.max_batch)
        length = len(body) if header is None else int(header) if header.isdecimal() and len(header) < 19 else 0
        return work() if length <= LARGE_JSON else await visit.off_loop(work)


async def _answered(visit: Visit, asked: Asked, work: Callable[[], Reply]) -> Response:
    """The reply, packed only for clients that name one encoding and no other: some cannot undo what they announce."""
    wanted = (visit.header(b"accept-encoding") or "").strip().lower()
    packed = wanted in compression.PACKED
    found = work() if asked.size <= MANY_NUMBERS else await visit.off_loop(work)
    body = await visit.off_loop(partial(compression.pack, found.body, wanted)) if packed else found.body
    headers = {"Content-Encoding": wanted} if packed else {}
    if found.header is None:
        return Response(body, headers=headers, media_type=MEDIA_TYPE)
    return Response(body, headers=headers | {inference.HEADER: str(found.header)}, media_type=BINARY)


async def live(_request: Request) -> Response:
    """The process answers."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """The verdict of /readyz."""
    if service_of(request).repository.is_ready:
        return _json({"ready": True, "live": True})
    return _json({"error": "a bundle is missing; /readyz says why", "ready": False, "live": True}, 503)


async def model_ready(request: Request) -> Response:
    """Whether a model is served; one whose bundle was refused is known, and is not."""
    name, version = _named(request)
    repository = service_of(request).repository
    try:
        return _json({"name": repository.get(name, version).manifest.name, "ready": True})
    except (UnknownModel, UnknownVersion):
        labels = {label if version else label.partition("/")[0] for label in repository.broken}
        if (f"{name}/{version}" if version else name) not in labels:
            raise
    return _json({"error": f"{name} is there and could not be loaded", "name": name, "ready": False}, 503)


async def model_statistics(request: Request) -> Response:
    """Statistics of every version of a model, or of one."""
    service, (name, version) = service_of(request), _named(request)
    chosen = service.repository.versions(name).values() if version is None else [service.repository.get(name, version)]
    return _json({"model_stats": [statistics(s, service.engine) for s in chosen]})


async def all_statistics(request: Request) -> Response:
    """Statistics of every version of every model."""
    service = service_of(request)
    names = [s.manifest.name for s in service.repository.surrogates]
    found = [s for name in names for s in service.repository.versions(name).values()]
    return _json({"model_stats": [statistics(s, service.engine) for s in found]})


async def index(request: Request) -> Response:
    """What is in the repository: versions that are served, and those that could not be."""
    body = await _gated_body(request)
    only_ready = parse_document(body).get("ready", False) if body else False
    if not isinstance(only_ready, bool):
        raise UnknownOption("ready", "true or false", repr(only_ready)[:40])
    repository = service_of(request).repository
    rows = [
        {"name": s.manifest.name, "version": version, "state": "READY", "reason": ""}
        for name in [s.manifest.name for s in repository.surrogates]
        for version, s in repository.versions(name).items()
    ]
    unloaded = dict.fromkeys(repository.unloaded, "unloaded")
    for label, reason in () if only_ready else sorted({**repository.broken, **unloaded}.items()):
        name, _, version = label.partition("/")
        rows.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
    return _json(rows)


async def _gated_body(request: Request) -> bytes:
    """The body of a call that names no model, or one that may not be served: it takes its share of memory all the same."""
    visit = visit_of(request)
    visit.enter(PREFIX)
    return await visit.body()


async def load(request: Request) -> Response:
    """Put a model into service."""
    await _require_control(request)
    await visit_of(request).call(partial(service_of(request).repository.load, request.path_params["name"]))
    return Response()


async def unload(request: Request) -> Response:
    """Take a model out of service."""
    await _require_control(request)
    await visit_of(request).call(partial(service_of(request).repository.unload, request.path_params["name"]))
    return Response()


async def _require_control(request: Request) -> None:
    """Raises NotEnabled without the operator's leave, UnknownOption for files and configurations sent along."""
    if not service_of(request).settings.model_control:
        raise NotEnabled(*CONTROL)
    body = await _gated_body(request)
    given = parse_document(body).get("parameters") if body else None
    if not isinstance(given, dict | None):
        raise WrongType("parameters", "an object", type(given).__name__)
    odd = [key for key in given or () if key != "unload_dependents"]
    if odd:
        raise UnknownOption(f"parameters.{odd[0][:40]}", "a bundle from the service's own directory", "another")


def _inference(face: Face) -> list[Route]:
    return [Route(f"{model}/infer", face.infer, methods=["POST"]) for model in MODELS]


def _others(face: Face) -> list[BaseRoute]:
    """`stats` of all before a model of that name."""
    get = {
        "": face.metadata, "/ready": model_ready, "/config": face.configuration, "/stats": model_statistics,
    }  # fmt: skip
    repository = "/v2/repository/models/{name}"
    return [
        *(Route(path, face.server) for path in (PREFIX, f"{PREFIX}/")),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/stats", all_statistics),
        *(Route(f"{model}{path}", handler) for model in MODELS for path, handler in get.items()),
        Route("/v2/repository/index", index, methods=["POST"]),
        Route(f"{repository}/load", load, methods=["POST"]),
        Route(f"{repository}/unload", unload, methods=["POST"]),
    ]


class Application:
    """Everything at and below /v2; it takes paths as they are, since `/v2` itself is one.

    Inference goes past Starlette's routing and layers, which take longer than the run of a small graph.
    """

    def __init__(self, version: str) -> None:
        self._face = Face(version)
        self._inference = _inference(self._face)
        self._starlette = Starlette(
            routes=[*self._inference, *_others(self._face)], exception_handlers=HANDLERS
        )  # fmt: skip
        self._starlette.router.redirect_slashes = False

    @property
    def routes(self) -> list[BaseRoute]:
        """Every route."""
        return self._starlette.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        for route in self._inference:
            named = route.path_regex.match(scope["path"]) if scope["method"] == "POST" else None
            if named is not None:
                scope["route"], scope["path_params"] = route, named.groupdict()
                await self._infer(Request(scope), receive, send)
                return
        await self._starlette(scope, receive, send)

    async def _infer(self, request: Request, receive: Receive, send: Send) -> None:
        try:
            response = await self._face.infer(request)
        except SurrogateError as error:
            response = await domain(request, error)
        except Exception as error:
            await (await unexpected(request, error))(request.scope, receive, send)
            raise  # for the log
        await response(request.scope, receive, send)
