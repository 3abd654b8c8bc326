"""Faults that must be survived: clients that vanish or dawdle, garbage, floods, shutdown and broken bundles under load.

Honest clients beside them get right answers throughout; what is left behind is counted back to nothing.
"""

import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from api import protocol
from api.app import create_app
from api.protocol import LimitedProtocol
from api.settings import Settings
from models.repository import SHIPPED
from tests import broken_bundles as broken
from tests.conftest import ROOT, add_version, free_port, serving, wait_until_served
from tests.raw_http import JSON, PREDICT, WAIT, connect, eventually, head, metric, nothing_is_left, status_of

LIMIT = 2**20


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """Two of the shipped models: enough to serve, quick to load."""
    root = tmp_path_factory.mktemp("faults") / "zoo"
    for name in ("burgers", "site_weather"):
        shutil.copytree(SHIPPED / name, root / name)
    return root


@pytest.fixture(scope="module")
def address(zoo) -> Iterator[str]:
    settings = {"MAX_BODY_BYTES": LIMIT, "BODY_SECONDS": 1, "MAX_WAITING": 32, "RELOAD_SECONDS": 0.2}
    with serving(zoo, **{f"SURROGATE_{name}": str(value) for name, value in settings.items()}) as address:
        yield address


@pytest.fixture(scope="module")
def body(address) -> bytes:
    found = httpx.get(f"{address}/v1/models/burgers/example", params={"seed": 3, "encoding": "base64"}).json()
    return json.dumps(found | {"encoding": "base64", "include": ["outputs"]}).encode()


@pytest.fixture(scope="module")
def right(address, body) -> np.ndarray:
    return answer_of(httpx.post(address + PREDICT, content=body, headers=JSON))


def answer_of(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text[:300]
    found = response.json()["outputs"]["velocity"]["data"]["data"]["buffer"]
    return np.frombuffer(base64.b64decode(found), np.float32)


def test_clients_that_vanish_mid_body_leave_nothing_behind(address, body, right):
    for size in (0, 1, len(body) // 2):
        with connect(address) as link:
            link.sendall(head(len(body)) + body[:size])
    nothing_is_left(address)
    np.testing.assert_allclose(answer_of(httpx.post(address + PREDICT, content=body, headers=JSON)), right, rtol=1e-5)


def test_work_of_clients_that_vanish_is_not_done(address):
    """A forecast of a thousand frames takes seconds; its clients leave at once, most of it is never computed."""
    found = httpx.get(f"{address}/v1/models/burgers/example", params={"seed": 1, "call": "forecast"}).json()
    long = json.dumps(found | {"steps": 1000, "include": ["outputs"]}).encode()
    before = metric(address, "surrogate_samples_total", model="burgers")
    for _ in range(12):
        with connect(address) as link:
            link.sendall(head(len(long), "/v1/models/burgers/forecast") + long)
            time.sleep(0.05)
    nothing_is_left(address)
    done = metric(address, "surrogate_samples_total", model="burgers") - before
    assert done < 12 * 1000 / 3, f"{done} samples of 12,000 were computed for nobody"


@pytest.fixture
def impatient(zoo, monkeypatch) -> Iterator[str]:
    """A service in this process, which waits a second for who does not read."""
    monkeypatch.setattr(protocol, "TAKING_SECONDS", 1.0)
    port = free_port()
    app = create_app(Settings(zoo=zoo, reload_seconds=0))
    service = uvicorn.Server(uvicorn.Config(app, port=port, http=LimitedProtocol, ws="none", log_config=None))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        wait_until_served(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.should_exit = True
        thread.join(WAIT)


def ask_for_much(address: str) -> socket.socket:
    """A connection whose client has asked for some 16 MB and can take few of them at a time."""
    found = httpx.get(f"{address}/v1/models/burgers/example", params={"seed": 1, "call": "forecast"}).json()
    asked = json.dumps(found | {"steps": 800, "include": ["outputs", "members"]}).encode()
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    link.settimeout(WAIT)
    link.connect(("127.0.0.1", int(address.rsplit(":", 1)[1])))
    link.sendall(head(len(asked), "/v1/models/burgers/forecast") + asked)
    return link


def test_an_answer_that_nobody_takes_keeps_its_place_and_is_then_given_up(impatient):
    with ask_for_much(impatient) as link:
        received = link.recv(1000)
        assert received.startswith(b"HTTP/1.1 200")
        assert metric(impatient, "surrogate_inference_inflight") == 1, "written, not taken"
        nothing_is_left(impatient)
        while part := link.recv(2**20):
            received += part
        assert len(received) < int(re.search(rb"content-length: (\d+)", received)[1]), "cut off"


def test_a_slow_reader_who_goes_on_gets_everything(impatient):
    with ask_for_much(impatient) as link:
        received, ended = bytearray(), time.monotonic() + 3.0
        while b"\r\n\r\n" not in received:
            received += link.recv(1000)
        start = received.index(b"\r\n\r\n") + 4
        size = int(re.search(rb"content-length: (\d+)", received)[1])
        while len(received) < start + size:
            received += link.recv(2**18)
            time.sleep(0.02 if time.monotonic() < ended else 0.0)
        assert time.monotonic() > ended, "it took longer than anybody may stand still"
        assert len(json.loads(received[start:])["lead_times"]["data"]) == 800
    nothing_is_left(impatient)


def test_a_deadline_ends_a_long_forecast(address):
    found = httpx.get(f"{address}/v1/models/burgers/example", params={"seed": 1, "call": "forecast"}).json()
    began = time.monotonic()
    late = httpx.post(
        f"{address}/v1/models/burgers/forecast", json=found | {"steps": 1000}, headers={"X-Request-Timeout": "0.1"}
    )
    assert (late.status_code, late.json()["code"]) == (504, "deadline-passed")
    assert time.monotonic() - began < 5.0
    for value in ("soon", "-1", "0", "inf", "nan"):
        refused = httpx.post(address + PREDICT, json=found, headers={"X-Request-Timeout": value})
        assert (refused.status_code, refused.json()["field"]) == (422, "x-request-timeout")


def test_headers_of_a_mebibyte(address):
    flood = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Flood: " + b"a" * 2**20 + b"\r\n\r\n"
    assert status_of(address, flood) in (0, 200, 400, 413, 431)
    assert httpx.get(f"{address}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("lines", "status"), [("1.1", 400), ("1.1\r\nHost: a\r\nHost: b", 400), ("1.0", 200), ("1.1\r\nHost:", 200)]
)
def test_a_request_names_one_host(address, lines, status):
    asked = f"GET /healthz HTTP/{lines}\r\nConnection: close\r\n\r\n"
    assert status_of(address, asked.encode()) == status


def replies(link: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    return b"".join(iter(lambda: link.recv(2**16), b""))


# what Java's client says before every request, and a browser before a WebSocket
UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB"
PLAIN = "Connection: close"


@pytest.mark.parametrize("size", [7, 1000, 2**20])
@pytest.mark.parametrize("kind", ["h2c", "websocket"])
def test_who_would_rather_speak_another_protocol_is_answered_in_this_one(address, body, kind, size):
    """Bodies arrive whole, in pieces of any size, and so do the requests behind them."""
    asked = head(f"{UPGRADE.replace('h2c', kind)}\r\nContent-Length: {len(body)}") + body
    last = head(f"{PLAIN}\r\nTransfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sent = asked + asked + last
    with connect(address) as link:
        for start in range(0, len(sent), size):
            link.sendall(sent[start : start + size])
        found = replies(link)
    assert found.count(b"HTTP/1.1 200 OK") == 3
    documents = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in found.split(b"HTTP/1.1 200 OK")[1:]]
    shown = [document["outputs"]["velocity"]["data"]["data"]["buffer"] for document in documents]
    assert shown == shown[:1] * 3


@pytest.mark.parametrize("wanted", ["X-Wanted: nothing", UPGRADE])
def test_requests_behind_one_another_are_answered_however_many_arrive_at_once(address, wanted):
    """Limits hold for the headers of each, not for what has arrived together."""
    asked = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Padding: {'a' * 1500}\r\n{{}}\r\n\r\n"
    with connect(address) as link:
        link.sendall((asked.format(wanted) * 150 + asked.format(PLAIN)).encode())
        assert replies(link).count(b"HTTP/1.1 200 OK") == 151


def test_requests_for_another_protocol_have_the_same_limits(address):
    begin = f"POST {PREDICT} HTTP/1.1\r\n{UPGRADE}\r\n"
    for rest, status in (
        ("\r\n", 400),  # no host
        ("Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("Host: x\r\n" + "X-Flood: a\r\n" * 200 + "\r\n", 431),
    ):
        assert status_of(address, (begin + rest).encode()) == status
    tunnel = b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    assert status_of(address, tunnel * 100) == 400
    assert httpx.get(f"{address}/healthz").status_code == 200


def test_a_body_in_a_million_chunks(address):
    """Refused at the limit, like any body; memory for it is never more than the limit."""
    chunk = b"1\r\n \r\n"
    with connect(address) as link:
        link.sendall(head("Transfer-Encoding: chunked"))
        try:
            for _ in range(1100):
                link.sendall(chunk * 1000)
            link.sendall(b"0\r\n\r\n")
            received = link.recv(100)
        except ConnectionError:
            received = b"HTTP/1.1 413"
    assert received.split()[1] in (b"413", b"408")
    nothing_is_left(address)


def test_a_slow_body_is_given_up(address):
    with connect(address) as link:
        link.sendall(head(1000) + b"{")
        began = time.monotonic()
        assert link.recv(100).split()[1] == b"408"
        assert 0.5 < time.monotonic() - began < WAIT
    nothing_is_left(address)


@pytest.mark.parametrize(("extra", "status"), [(-1, 400), (0, 400), (1, 413)])
def test_bodies_at_the_limit(address, extra, status):
    filler = b"[" + b" " * (LIMIT + extra - 2) + b"]"
    for headers in (JSON, JSON | {"Transfer-Encoding": "chunked"}):
        content = filler if "Transfer-Encoding" not in headers else iter([filler[:1000], filler[1000:]])
        found = httpx.post(address + PREDICT, content=content, headers=headers)
        assert found.status_code == status, found.text


@pytest.mark.parametrize("shape", [[2**62, 4], [2**31, 2**31, 2**31], [-1, 512], [0], [1] * 200, [10**30]])
def test_shapes_that_overflow(address, shape):
    array = {"shape": shape, "dtype": "float32", "data": {"buffer": "AAAA", "encoding": "base64"}}
    found = httpx.post(address + PREDICT, json={"inputs": {"initial_velocity": array, "viscosity": 0.01, "time": 1.0}})
    assert found.status_code in (413, 422), found.text
    assert found.json()["code"] not in ("internal-server-error",)


def test_full_means_an_immediate_503_and_health_stays_well(zoo, body):
    with serving(zoo, SURROGATE_MAX_WAITING="2", SURROGATE_RELOAD_SECONDS="0") as address:
        with connect(address) as one, connect(address) as two:
            for link in (one, two):
                link.sendall(head(len(body)) + body[:-1])
            eventually(lambda: metric(address, "surrogate_inference_inflight") == 2, "two requests were never inside")
            began = time.monotonic()
            full = httpx.post(address + PREDICT, content=body, headers=JSON)
            assert (full.status_code, full.json()["code"]) == (503, "overloaded")
            assert int(full.headers["Retry-After"]) >= 1
            assert time.monotonic() - began < 2.0
            assert httpx.get(f"{address}/healthz").status_code == 200
            other = httpx.get(f"{address}/v1/models/site_weather/example", params={"encoding": "base64"}).json()
            assert httpx.post(f"{address}/v1/models/site_weather/predict", json=other).status_code == 200
            for link in (one, two):
                link.sendall(body[-1:])
                assert link.recv(100).split()[1] == b"200", "what was let in is answered"
        assert httpx.post(address + PREDICT, content=body, headers=JSON).status_code == 200


def garbage(address: str, seed: int) -> int:
    """One bad client: random bytes, half requests, wrong documents, each on a connection of its own."""
    chance = random.Random(seed)  # noqa: S311  reproducible noise
    kind = chance.randrange(5)
    noise = chance.randbytes(chance.randrange(1, 4000))
    texts = {
        0: noise,
        1: head(len(noise)) + noise,
        2: head(5000) + noise,
        3: head(40) + b'{"inputs": {"initial_velocity": [[1]]}} ',
        4: b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nContent-Length: -5\r\n\r\n" + noise,
    }
    return status_of(address, texts[kind])


def test_sixty_four_bad_clients_beside_four_honest_ones(address, body, right):
    """The honest ones are right every time, and half of their answers come within two seconds."""
    going, statuses = threading.Event(), []
    going.set()

    def bad(number: int) -> None:
        seed = number
        while going.is_set():
            statuses.append(garbage(address, seed))
            seed += 64

    spent = []

    def honest() -> None:
        with httpx.Client(base_url=address, timeout=WAIT, headers=JSON) as client:
            for _ in range(10):
                began = time.monotonic()
                answer = client.post(PREDICT, content=body)
                while answer.status_code == 503:
                    assert int(answer.headers["Retry-After"]) >= 1
                    time.sleep(0.05)
                    answer = client.post(PREDICT, content=body)
                np.testing.assert_allclose(answer_of(answer), right, rtol=1e-4, atol=1e-6)
                spent.append(time.monotonic() - began)

    with ThreadPoolExecutor(68) as pool:
        bad_ones = [pool.submit(bad, number) for number in range(64)]
        honest_ones = [pool.submit(honest) for _ in range(4)]
        try:
            for one in honest_ones:
                one.result(120)
        finally:
            going.clear()
        for one in bad_ones:
            one.result(60)
    print(f"{len(statuses)} bad requests; honest median {np.median(spent):.3f} s, worst {max(spent):.3f} s")
    assert len(spent) == 40 and np.median(spent) < 2.0
    assert not [status for status in statuses if status >= 500 and status != 503]
    nothing_is_left(address)


def test_sigterm_under_load_answers_what_was_accepted(zoo, body):
    """Every request whose body was read is answered; new connections are refused; the process ends in time."""
    port = free_port()
    variables = {"SURROGATE_ZOO": str(zoo), "SURROGATE_PORT": str(port), "SURROGATE_LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env={**os.environ, **variables})
    address = f"http://127.0.0.1:{port}"
    wait_until_served(address)
    example = httpx.get(f"{address}/v1/models/burgers/example", params={"call": "forecast"}).json()
    long = json.dumps(example | {"steps": 60, "include": ["outputs"]}).encode()
    links = [connect(address) for _ in range(8)]
    for link in links:
        link.sendall(head(len(long), "/v1/models/burgers/forecast") + long)
    eventually(lambda: metric(address, "surrogate_inference_inflight") == 8, "eight requests were never inside")
    process.send_signal(signal.SIGTERM)
    for link in links:
        received = b""
        while part := link.recv(2**16):
            received += part
            if received.endswith(b"}"):
                break
        assert received.split()[1] == b"200" and b'"route"' in received
        link.close()
    assert process.wait(30) in (0, -signal.SIGTERM)
    with pytest.raises(OSError, match="refused"):
        connect(address)


BROKEN = (broken.truncated, broken.bit_flipped, broken.wrong_signature, broken.other_graph, broken.not_json)


def test_reloads_of_broken_bundles_under_load(zoo, address, body, right):
    """No wrong answer and no 5xx but the documented 503, while bundles break, are mended, and versions come and go."""
    going, seen, faults = threading.Event(), [], []
    going.set()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=WAIT, headers=JSON) as client:
            while going.is_set():
                answer = client.post(PREDICT, content=body)
                seen.append(answer.status_code)
                if answer.status_code == 200 and not np.allclose(answer_of(answer), right, rtol=1e-4, atol=1e-6):
                    faults.append("a wrong answer")
                elif answer.status_code not in (200, 503):
                    faults.append(answer.text[:200])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for spoil in BROKEN:
            spoil(add_version(zoo / "burgers" / "1", "2"))
            eventually(lambda: "burgers/2" in readiness(address)["broken"], f"{spoil.__name__} was never reported")
            shutil.rmtree(zoo / "burgers" / "2")
            add_version(zoo / "burgers" / "1", "2")
            eventually(lambda: "burgers/2" in readiness(address)["models"], "a mended bundle was never served")
            shutil.rmtree(zoo / "burgers" / "2")
            eventually(lambda: "burgers/1" in readiness(address)["models"], "the old version never came back")
    finally:
        going.clear()
        for asker in askers:
            asker.join(WAIT)
    print(f"{len(seen)} answers")
    assert not faults, faults[:3]
    assert seen.count(200) > 50


def readiness(address: str) -> dict:
    return httpx.get(f"{address}/readyz").json()
