"""What a client may ask is counted, told in headers, refused in each face's words; in memory or in a real Redis."""

import asyncio
import shutil
import socket
import subprocess
import time

import pytest

from api.security.access import Client
from api.security.quotas import MEMORY, Quotas, parse_limits
from api.settings import Settings
from models.errors import QuotaSpent
from tests.api.access_files import write_key
from tests.api.test_security import FACES, asked, bearer, guard
from tests.conftest import free_port

START_SECONDS = 20
HYDRO, METEO = Client("hydro", frozenset()), Client("meteo", frozenset())


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A Redis server of the test's own."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian's package of that name); .ci/run installs it")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(20)


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("Redis did not start")


async def take_twice_and_be_refused(quotas: Quotas) -> None:
    assert (b"ratelimit-policy", b'"hour";q=2;w=3600') in await quotas.take(HYDRO)
    (left,) = [value for name, value in await quotas.take(HYDRO) if name == b"ratelimit"]
    assert left.startswith(b'"hour";r=0;t=')
    with pytest.raises(QuotaSpent) as caught:
        await quotas.take(HYDRO)
    assert 1 <= caught.value.retry_after <= 2 * 3600
    assert await quotas.take(METEO), "another client has its own"


def test_limits_are_counted_in_memory():
    asyncio.run(take_twice_and_be_refused(Quotas("2/hour", MEMORY)))


def test_limits_are_counted_in_redis_for_all_replicas_together(redis):

    async def check() -> None:
        address = redis
        one, other = Quotas("2/hour", address), Quotas("2/hour", address)
        await take_twice_and_be_refused(one)
        with pytest.raises(QuotaSpent):
            await other.take(HYDRO)
        await one.close()
        await other.close()

    asyncio.run(check())


def test_without_its_store_the_service_goes_on_without_quotas(caplog):
    quotas = Quotas("1/hour", f"redis://127.0.0.1:{free_port()}")

    async def check() -> list:
        found = [await quotas.take(HYDRO) for _ in range(3)]
        await quotas.close()
        return found

    assert asyncio.run(check()) == [[], [], []]
    assert "no quotas" in caplog.text


def test_a_client_may_have_limits_of_its_own_and_none_means_none():
    quotas = Quotas("1/hour", MEMORY)

    async def check() -> None:
        for _ in range(3):
            assert await quotas.take(Client("own", frozenset(), "100/minute; 1000/day"))
            assert await quotas.take(Client("free", frozenset(), "")) == []

    asyncio.run(check())


def test_limits_that_cannot_be_read_stop_the_start():
    with pytest.raises(ValueError, match="couldn't parse"):
        Quotas("often", MEMORY)
    assert [item.amount for item in parse_limits("100000/day; 60/second")] == [60, 100000]


@pytest.mark.parametrize("path", FACES)
def test_a_spent_quota_is_told_in_the_words_of_each_face(tmp_path, path):
    key_file = tmp_path / "keys.jsonl"
    shown = bearer(write_key(key_file))
    app = guard(Settings(keys=key_file, limits="1/hour"))
    first = asked(app, "GET", "/docs", headers=shown)
    assert first.headers["RateLimit-Policy"] == '"hour";q=1;w=3600'
    second = asked(app, "GET" if path == "/v1/models" else "POST", path, headers=shown)
    assert second.status_code == 429 and int(second.headers["Retry-After"]) >= 1
    assert second.headers["RateLimit"].startswith('"hour";r=0;t=')
    text = FACES[path](second.json())
    assert "1 requests per 3600 s" in text or text in ("quota-spent", "Unavailable")
    assert asked(app, "GET", "/nowhere", headers={}).status_code == 401, "strangers cost no quota"
