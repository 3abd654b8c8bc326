"""Nobody gets past the guard without a key or token, on no face, by no path; and nobody does more than its scopes say."""

import asyncio
import base64
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import jwt
import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from api.app import create_app
from api.protocols import open_inference, tesseract, umbridge
from api.protocols.faces import refusal
from api.security import keys
from api.security.access import CALLS, READING, required_scope
from api.security.guard import guarded
from api.security.keys import KeyRing
from api.security.tokens import Tokens, keys_from
from api.settings import Settings
from models.errors import Unauthenticated
from tests.api.access_files import AUDIENCE, ISSUER, Issuer, token_settings, write_key, yesterday

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PROBED = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
FILLED = {"version": "1", "path": "page.js"}
PREFIXES = {"/umbridge": umbridge.application(), "/tesseract": tesseract.application()}
FACES = {
    "/v1/models": lambda body: body["code"],
    "/v2/models/darcy/infer": lambda body: body["error"],
    "/umbridge/Evaluate": lambda body: body["error"]["type"],
    "/tesseract/darcy/apply": lambda body: body["detail"],
    "/Evaluate": lambda body: body["error"]["type"],  # of UM-Bridge, at the root where a setting puts it there too
}


@pytest.fixture
def key_file(tmp_path) -> Path:
    return tmp_path / "keys.jsonl"


def walk(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Path template and methods of every route; a mount of files stands for what is in it."""
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, Mount):
            yield f"{prefix}{route.original_route.path}/{{path}}", {"GET"}
        else:
            yield f"{prefix}{route.path}", set(route.methods or ())


def _filled(parameter: re.Match[str]) -> str:
    return FILLED.get(parameter[1], "darcy")


def every_route() -> list[tuple[str, set[str]]]:
    foreign = [found for prefix, app in PREFIXES.items() for found in walk(app.routes, prefix)]
    own = create_app(Settings()).routes
    return [*walk(own), *foreign, *walk(open_inference.Application("0").routes)]


def filled_paths() -> list[str]:
    """The path of every route of every face, for a model that there is."""
    return sorted({re.sub(r"\{(\w+)[^}]*}", _filled, path) for path, _ in every_route()})


def asked(app, method: str, path: str, **options) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://surrogates") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


async def behind(scope, receive, send) -> None:
    """What the guard protects in tests of the guard alone."""
    await Response("in")(scope, receive, send)


def guard(settings: Settings) -> ASGIApp:
    return guarded(behind, refusal, settings)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# ---- the walk -------------------------------------------------------------------------------------------------------


def test_every_route_of_every_face_needs_a_key_but_those_of_probes(key_file):
    write_key(key_file)
    app = create_app(Settings(keys=key_file))
    paths = filled_paths()
    assert {"/v1/models", "/v2", "/umbridge/Evaluate", "/tesseract/darcy/apply", "/", "/docs", "/metrics"} <= set(paths)
    wrong = bearer(f"{keys.PREFIX}{'0' * 12}_guess")

    async def ask() -> set[tuple[str, str]]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://surrogates") as client:
            return {
                (method, path)
                for path in [*paths, "/nowhere", "/static/page/", "/v3/models"]
                for method in METHODS
                for headers in ({}, wrong)
                if (await client.request(method, path, headers=headers)).status_code != 401
            }

    assert {path for _, path in asyncio.run(ask())} == PROBED


def test_a_walk_over_an_unguarded_service_is_noticed():
    assert asked(create_app(Settings()), "GET", "/docs").status_code != 401


def test_without_keys_or_tokens_the_guard_is_not_there():
    assert guarded(asked, asked, Settings()) is asked


@pytest.mark.parametrize(
    "path",
    ["/healthz/", "//healthz", "/HEALTHZ", "/healthz/../docs", "/v1/models?x=/healthz", "/v2/health/live/../../models",
     "/readyz;/docs", "/%2e%2e/docs", "/healthz%2f..%2fdocs", "/docs%00/healthz"],
)  # fmt: skip
def test_paths_that_look_like_open_ones_are_not(key_file, path):
    write_key(key_file)
    assert asked(create_app(Settings(keys=key_file)), "GET", path).status_code == 401


def test_a_host_header_changes_nothing(key_file):
    write_key(key_file)
    app = create_app(Settings(keys=key_file))
    for host in ("surrogates/healthz?", "healthz", "x/healthz#", "127.0.0.1"):
        assert asked(app, "GET", "/docs", headers={"Host": host}).status_code == 401


@given(path=st.text(max_size=40), method=st.sampled_from(METHODS))
def test_what_is_not_listed_is_refused_to_all_but_administrators(path, method):
    needed = required_scope(method, "/" + path)
    last = [part.strip() for part in path.split("/") if part.strip()][-1:]
    assert method in READING or needed == "admin" or last[0] in CALLS or path.strip().startswith("v1/jobs")


def test_every_call_that_is_posted_has_a_scope_of_its_own():
    """A new call is for administrators until it is listed in `api.security.access.CALLS`."""
    posted = [path for path, methods in every_route() if "POST" in methods]
    assert len(posted) > len(CALLS)
    assert [path for path in posted if path.split("/")[-1] not in CALLS and "/jobs" not in path] == []


# ---- each face in its own words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FACES)
def test_a_refusal_has_the_shape_of_its_face(key_file, path):
    key = write_key(key_file, scopes=("jobs",))
    app = create_app(Settings(keys=key_file))
    method = "GET" if path == "/v1/models" else "POST"
    unknown = asked(app, method, path)
    assert unknown.status_code == 401 and unknown.headers["WWW-Authenticate"].startswith("Bearer")
    text = FACES[path](unknown.json())
    assert "key or token" in text or text in ("unauthenticated", "Unauthorized")
    forbidden = asked(app, "POST", path.replace("/v1/models", "/v1/models/darcy/predict"), headers=bearer(key))
    assert forbidden.status_code == 403
    text = FACES[path](forbidden.json())
    assert "scope 'predict'" in text or text in ("out-of-scope", "Unauthorized")


def test_a_browser_is_asked_for_the_key_and_may_send_it_as_a_password(key_file):
    key = write_key(key_file)
    app = guard(Settings(keys=key_file))
    first = asked(app, "GET", "/docs", headers={"Accept": "text/html"})
    assert first.headers["WWW-Authenticate"].startswith("Basic")
    shown = {"Authorization": "Basic " + base64.b64encode(f"me:{key}".encode()).decode()}
    assert asked(app, "GET", "/docs", headers=shown).status_code == 200
    assert asked(app, "PUT", "/docs", headers=shown | {"Sec-Fetch-Site": "same-origin"}).status_code == 200
    foreign = asked(app, "PUT", "/docs", headers=shown | {"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 401 and "another site" in foreign.json()["got"]


@pytest.mark.parametrize(
    "headers",
    [[("Authorization", "Bearer {key}"), ("X-API-Key", "{key}")], [("Authorization", "Bearer {key}")] * 2,
     [("Authorization", "{key}")], [("Authorization", "Digest {key}")], [("Authorization", "Basic !!!")],
     [("Authorization", "Basic {key}")], [("Cookie", "key={key}")], [("X-API-Key", "")]],
)  # fmt: skip
def test_keys_shown_twice_or_in_odd_ways_do_not_count(key_file, headers):
    key = write_key(key_file)
    shown = [(name, value.format(key=key)) for name, value in headers]
    app = guard(Settings(keys=key_file))
    assert asked(app, "GET", "/docs", headers=shown).status_code == 401
    assert asked(app, "GET", f"/docs?key={key}").status_code == 401
    assert asked(app, "GET", "/docs", headers={"X-API-Key": key}).status_code == 200


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_the_file_holds_no_key_and_one_changed_character_is_refused(key_file):
    key = write_key(key_file)
    assert key not in key_file.read_text() and len(key) == len(keys.PREFIX) + 12 + 1 + 43
    ring = KeyRing(key_file)
    assert ring.find(key).name == "hydro"
    for wrong in (key[:-1], key + "A", key[:-1] + ("A" if key[-1] != "A" else "B"), key.upper(), ""):
        with pytest.raises(Unauthenticated):
            ring.find(wrong)


def test_two_keys_of_one_client_overlap_and_the_old_one_ends(key_file):
    begin = yesterday()
    old = write_key(key_file, start=begin, days=3)
    new = write_key(key_file, start=begin + timedelta(days=2), days=3)
    answers = []
    for day in (1, 2.5, 3.5, 6):
        ring = KeyRing(key_file, now=lambda day=day: begin + timedelta(days=day))
        holds = []
        for key in (old, new):
            try:
                holds.append(ring.find(key).name == "hydro")
            except Unauthenticated:
                holds.append(False)
        answers.append(tuple(holds))
    assert answers == [(True, False), (True, True), (False, True), (False, False)]


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_believed(key_file, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN", 0.0)
    first = write_key(key_file)
    ring = KeyRing(key_file)
    second = write_key(key_file, "meteo")
    assert ring.find(second).name == "meteo"
    good = key_file.read_text()
    key_file.write_text("{")
    assert ring.find(first).name == "hydro"
    key_file.unlink()
    assert ring.find(first).name == "hydro"
    key_file.write_text(good.splitlines()[1] + "\n")
    with pytest.raises(Unauthenticated):
        ring.find(first)


@pytest.mark.parametrize("line", ["{", '{"id": "x"}', "srg_secret", '{"id": "0123456789ab", "secret": 1}'])
def test_a_line_that_cannot_be_used_is_named_without_what_it_holds(key_file, line):
    write_key(key_file)
    with key_file.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2") as caught:
        KeyRing(key_file)
    assert "srg_secret" not in str(caught.value)


# ---- tokens ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer.new()


@pytest.fixture
def key_set(issuer, tmp_path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(issuer.key_set())
    return path


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_the_issuer_is_let_in_with_its_scopes(issuer, key_set, algorithm):
    app = guard(token_settings(key_set))
    shown = bearer(issuer.token(algorithm))
    assert asked(app, "GET", "/docs", headers=shown).status_code == 200
    refused = asked(app, "POST", "/v1/models/darcy/explain", headers=shown)
    assert (refused.status_code, refused.json()["got"]) == (403, "predict")


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://other.example"}, {"aud": "others"}, {"exp": 1}, {"exp": None}, {"sub": None}, {"iss": None},
     {"aud": None}, {"nbf": 2**33}],
)  # fmt: skip
def test_tokens_of_others_for_others_or_of_another_time_are_refused(issuer, key_set, changes):
    tokens = Tokens(keys_from(str(key_set)), ISSUER, AUDIENCE, ("RS256", "ES256"))
    assert asyncio.run(tokens.find(issuer.token())).name == "job-7"
    with pytest.raises(Unauthenticated):
        asyncio.run(tokens.find(issuer.token(**changes)))


def test_a_token_chooses_neither_algorithm_nor_key(issuer, key_set):
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    forged = [
        jwt.encode(claims, None, "none", headers={"kid": "RS256"}),
        jwt.encode(claims, "a shared secret of thirty-two bytes and more", "HS256", headers={"kid": "RS256"}),
        Issuer.new().token(),
        issuer.token("ES256"),
        jwt.encode(claims, issuer.private["RS256"], "RS256", headers={"kid": "another"}),
        jwt.encode(claims, issuer.private["RS256"], "RS256"),
        "not.a.token",
        "",
    ]
    tokens = Tokens(keys_from(str(key_set)), ISSUER, AUDIENCE, ("RS256",))
    for token in forged:
        with pytest.raises(Unauthenticated):
            asyncio.run(tokens.find(token))


def test_keys_are_fetched_from_an_address_once(issuer):
    served = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(issuer.key_set().encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tokens = Tokens(keys_from(f"http://127.0.0.1:{server.server_port}/jwks"), ISSUER, AUDIENCE, ("RS256",))
        for _ in range(3):
            assert asyncio.run(tokens.find(issuer.token())).scopes == {"predict"}
        with pytest.raises(Unauthenticated):
            asyncio.run(tokens.find(jwt.encode({}, issuer.private["RS256"], "RS256", headers={"kid": "new"})))
        server.shutdown()
    assert served == ["/jwks"], "an unknown key fetches again only after a while"


@pytest.mark.parametrize("source", ["http://keys.example.org/jwks", "ftp://127.0.0.1/jwks", "file:///etc/passwd"])
def test_keys_come_from_nowhere_else(source):
    with pytest.raises(ValueError, match="https address"):
        keys_from(source)


# ---- settings -------------------------------------------------------------------------------------------------------


def test_a_service_on_other_addresses_is_refused_unprotected_unless_told_so(key_file):
    for host in ("0.0.0.0", "::", "10.1.2.3", "surrogates.example.org"):  # noqa: S104
        with pytest.raises(ValidationError, match="SURROGATE_UNPROTECTED"):
            Settings(host=host)
        assert not Settings(host=host, unprotected=True).is_protected
        assert Settings(host=host, keys=key_file).is_protected
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert not Settings(host=host).is_protected


def test_settings_of_tokens_and_limits_belong_together():
    with pytest.raises(ValidationError, match="TOKEN_ISSUER"):
        Settings(token_keys="jwks.json")  # noqa: S106
    with pytest.raises(ValidationError, match="TOKEN_ALGORITHMS"):
        token_settings("jwks.json", token_algorithms="RS256 HS256")  # noqa: S106
    with pytest.raises(ValidationError, match="LIMITS"):
        Settings(limits="60/minute")


# ---- browsers -------------------------------------------------------------------------------------------------------


def test_other_origins_may_nothing_unless_they_are_named(key_file):
    write_key(key_file)
    ask = {"Origin": "https://maps.example.org", "Access-Control-Request-Method": "POST"}
    preflight = ask | {"Access-Control-Request-Headers": "authorization,content-type"}
    closed = asked(create_app(Settings(keys=key_file)), "OPTIONS", "/v1/models/darcy/predict", headers=preflight)
    assert closed.status_code == 401 and not [name for name in closed.headers if name.startswith("access-control")]
    app = create_app(Settings(keys=key_file, origins="https://maps.example.org https://other.example.org"))
    opened = asked(app, "OPTIONS", "/v1/models/darcy/predict", headers=preflight)
    assert opened.status_code == 200
    assert opened.headers["Access-Control-Allow-Origin"] == "https://maps.example.org"
    refused = asked(app, "POST", "/v1/models/darcy/predict", headers={"Origin": "https://maps.example.org"})
    assert refused.status_code == 401 and "Access-Control-Allow-Origin" in refused.headers
    stranger = asked(app, "OPTIONS", "/v1/models/darcy/predict", headers=preflight | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/models/darcy/card"])
def test_pages_take_scripts_from_here_only_and_their_own_by_hash(client, path):
    page = client.get(path, headers={"Accept": "text/html"})
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"] and "unsafe-eval" not in policy["script-src"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    for text in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy["script-src"]
    assert not re.search(r"\son\w+=", page.text), "handlers in markup would be blocked"
    for source in re.findall(r'(?:src|href)="(https?:[^"]*)"', re.sub(r"<a [^>]*>", "", page.text)):
        pytest.fail(f"{source} would be blocked")
