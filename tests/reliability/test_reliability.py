"""What an operator may meet on a Tuesday night, against a real process on a real socket: `make fault-test`.

Throughout, honest clients get right answers or the documented refusal, and what a fault took is given back after it.
"""

import contextlib
import gzip
import json
import math
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.bundle import read
from models.repository import SHIPPED
from tests import broken_bundles as broken
from tests.conftest import add_version, free_port
from tests.manifests.pods import OF_A_BYTE, OF_A_NUMBER
from tests.raw_http import JSON, PREDICT, connect, eventually, head, metric, nothing_is_left, status_of
from tests.reliability.processes import MEBIBYTE, Service, health, running
from tests.reliability.traffic import Honest, Question, beside, honest, world
from tests.signing import sign, write_keys

pytestmark = pytest.mark.fault

# of a hundred bodies of 1 MB; up to 1.5 MiB were seen, while Python's own objects grow by 20 kB: garbage that waits, and arenas
LEFT_OF_CHUNKS = 4 * MEBIBYTE
MOST_GROWTH = 20 * MEBIBYTE  # of the second half of a soak; the allocator settles in the first
BODY_LIMIT = 4 * MEBIBYTE
HEALTH_SECONDS = 0.1  # median: probes give up after 2 s and 5 s, so it leaves them twenty times as long
MILLION = 10**6
DAY = 86_400
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system of its own")


def readiness(address: str) -> dict:
    return httpx.get(f"{address}/readyz", timeout=10).json()


def overloaded(service: Service, times: int) -> tuple[Honest, float, str]:
    """What 48 clients got, the median of health beside them (s), and both in a line."""
    question = Question.of(service.address)
    with honest(service.address, question, clients=48) as got:
        waits = health(service.address, times)
    median, worst = np.percentile(waits, [50, 99])
    return got, median, f"{got.text}; health median {median * 1e3:.0f} ms, 99 % {worst * 1e3:.0f} ms"


def test_overload_is_refused_at_once_and_health_stays_well(zoo, seen):
    with running(zoo, {"MAX_WAITING": 8}) as service:
        got, median, text = overloaded(service, times=60)
        seen(f"48 clients, 8 let in at a time: {text}")
        assert got.statuses[200] > 50 and got.statuses[503] > 50 and set(got.statuses) == {200, 503}
        assert not got.wrong and not got.no_hint
        assert median <= HEALTH_SECONDS
        nothing_is_left(service.address)


def test_a_loop_that_predictions_stop_is_caught_by_the_same_overload(zoo, seen):
    with running(zoo, {"MAX_WAITING": 8}, module="tests.reliability.blocking") as service:
        _, median, text = overloaded(service, times=10)
    seen(f"stopped for 10 ms by each prediction: {text}")
    assert median > HEALTH_SECONDS


def test_kill_9_under_load_and_restart_on_the_same_port(zoo, seen):
    port = free_port()
    with running(zoo, port=port) as service:
        question = Question.of(service.address)
        with honest(service.address, question) as got:
            time.sleep(1.0)
            service.process.kill()
            service.process.wait(10)
            began = time.monotonic()
            with running(zoo, port=port) as again:
                answered = got.statuses[200]
                eventually(lambda: got.statuses[200] > answered + 20, "nobody was served after the restart")
                back = time.monotonic() - began
                assert again.is_alive
    seen(f"served again after {back:.1f} s; {got.text}")
    assert set(got.statuses) <= {0, 200} and not got.wrong


def large_body(question: Question, samples: int) -> bytes:
    inputs = json.loads(question.body)["inputs"]
    many = {name: [value] * samples for name, value in inputs.items()}
    return json.dumps({"inputs": many, "include": ["outputs"], "encoding": "base64"}).encode()


def test_the_largest_flood_that_is_let_in_takes_bounded_memory(zoo, seen):
    """Bodies at their limit from 32 clients: what is inside at a time is limited, so its memory is."""
    inside = 16 * MEBIBYTE
    with running(zoo, {"MAX_BODY_BYTES": BODY_LIMIT, "MAX_WAITING_BYTES": inside, "MAX_BATCH": 4096}) as service:
        question = Question.of(service.address)
        large = large_body(question, 600)
        assert 0.9 * BODY_LIMIT < len(large) < BODY_LIMIT
        httpx.post(service.address + PREDICT, content=large, headers=JSON, timeout=60)
        service.settle()
        before, statuses, peak = service.resident, Counter(), 0

        def flood() -> None:
            statuses[httpx.post(service.address + PREDICT, content=large, headers=JSON, timeout=60).status_code] += 1

        with beside(flood, 32):
            for _ in range(80):
                peak = max(peak, service.resident)
                time.sleep(0.1)
        grown = peak - before
        seen(f"{dict(statuses)}; bodies of {len(large) / MEBIBYTE:.1f} MiB; memory +{grown / MEBIBYTE:.0f} MiB at most")
        assert set(statuses) == {200, 503}
        assert grown < OF_A_BYTE * inside
        nothing_is_left(service.address)


def test_the_longest_forecasts_at_once_take_bounded_memory(zoo, seen):
    """A thousand frames as JSON for each of eight clients: they are computed side by side, and wait to be sent."""
    clients, frames = 8, 1000
    manifest = read(zoo / "burgers" / "1").manifest
    numbers = frames * manifest.members * math.prod(manifest.outputs[0].shape)
    with running(zoo) as service:
        example = httpx.get(f"{service.address}/v1/models/burgers/example", params={"call": "forecast"}).json()
        asked, path = json.dumps(example | {"steps": frames}).encode(), f"{service.address}/v1/models/burgers/forecast"
        assert httpx.post(path, json=example | {"steps": 2}, timeout=60).status_code == 200
        service.settle()
        before, statuses, peak = service.resident, Counter(), 0

        def ask() -> None:
            statuses[httpx.post(path, content=asked, headers=JSON, timeout=60).status_code] += 1

        with beside(ask, clients):
            for _ in range(150):
                peak = max(peak, service.resident)
                time.sleep(0.1)
        grown = peak - before
        seen(f"{dict(statuses)}; {numbers / 1e6:.1f} million numbers; memory +{grown / MEBIBYTE:.0f} MiB at most")
        assert set(statuses) == {200}
        assert grown < OF_A_NUMBER * numbers * clients
        nothing_is_left(service.address)


def memory_group(limit: int) -> Iterator[Path]:
    """A control group with so much memory, version 1 or 2; its folder."""
    first = Path("/sys/fs/cgroup/memory")
    root, file = (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    group = root / f"surrogate-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(limit), encoding="ascii")
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error})")
    try:
        yield group
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(encoding="ascii"), "the group never emptied")
        group.rmdir()


@as_root
def test_out_of_memory_ends_the_process_and_the_next_one_serves(zoo, seen):
    """A container with too small a limit: the kernel kills it (137 to Kubernetes), a restart serves again."""
    port = free_port()
    with contextmanager(memory_group)(700 * MEBIBYTE) as group:
        prefix = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        settings = {
            "MAX_BODY_BYTES": 256 * MEBIBYTE,
            "MAX_BATCH": 4096,
            "MAX_VALUES": 2**30,
            "MAX_WAITING_BYTES": 2**30,
        }
        with running(zoo, settings, prefix=prefix, port=port) as service:
            question = Question.of(service.address)
            large = large_body(question, 4000)

            def flood() -> None:
                with contextlib.suppress(httpx.TransportError):
                    httpx.post(service.address + PREDICT, content=large, headers=JSON, timeout=60)

            with beside(flood, 8):
                code = service.process.wait(120)
        with running(zoo, prefix=prefix, port=port) as again:
            answer = httpx.post(again.address + PREDICT, content=question.body, headers=JSON, timeout=60)
            assert question.is_right(answer)
    seen(f"limit 700 MiB, 8 bodies of {len(large) / MEBIBYTE:.0f} MiB at a time: exit {code}, the next one served")
    assert code == -signal.SIGKILL


def representations(address: str, question: Question) -> dict[str, int]:
    """Every form an answer has, and a page, by status."""
    found = {}
    for accept in ("application/json", "application/x-netcdf", "image/png"):
        answer = httpx.post(address + PREDICT, content=question.body, headers=JSON | {"Accept": accept}, timeout=60)
        found[accept] = answer.status_code
    found["page"] = httpx.get(address, timeout=10).status_code
    return found


@as_root
def test_a_full_disk_under_its_output_and_its_temporary_files(zoo, tmp_path, seen):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=1m none {disk} && (cat /dev/zero > {disk}/full; true) 2> /dev/null; exec "$@" >> {disk}/log 2>&1'
    prefix = ("unshare", "-m", "sh", "-c", mounted, "sh")
    environment = {"TMPDIR": str(disk), "MPLCONFIGDIR": str(disk), "NUMBA_CACHE_DIR": str(disk)}
    with running(zoo, {"LOG_LEVEL": "debug"}, prefix=prefix, environment=environment) as service:
        question = Question.of(service.address)
        found = representations(service.address, question)
        seen(f"1 MiB, full, every request logged: {found}")
        assert set(found.values()) == {200}


@as_root
def test_a_read_only_root_without_any_capability(seen):
    """All shipped models, since some compile at first use and would like to keep the result."""
    mounted = (
        "mount -o bind / /mnt && mount -o remount,ro,bind /mnt && mount -t proc proc /mnt/proc && "
        "mount -t tmpfs -o size=16m none /mnt/tmp && exec chroot /mnt "
        'setpriv --no-new-privs --bounding-set=-all --inh-caps=-all sh -c \'cd "$0" && exec "$@"\' "$PWD" "$@"'
    )
    environment = {"HOME": "/nonexistent", "TMPDIR": "/tmp"}  # noqa: S108  the confined process's own
    with running(SHIPPED, prefix=("unshare", "-m", "sh", "-c", mounted, "sh"), environment=environment) as service:
        question = Question.of(service.address)
        found = representations(service.address, question)
        for name in readiness(service.address)["models"]:
            model = f"{service.address}/v1/models/{name.partition('/')[0]}"
            body = httpx.get(f"{model}/example", timeout=60).json()
            found[name] = httpx.post(f"{model}/predict", json=body, timeout=120).status_code
        seen(f"{found}")
        assert set(found.values()) == {200}


@pytest.mark.parametrize("fault", broken.FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_new_version_beside_a_good_one(zoo, fault, seen):
    with running(zoo, {"RELOAD_SECONDS": 0.3}) as service:
        question = Question.of(service.address)
        with honest(service.address, question, clients=2) as got:
            fault(add_version(zoo / "burgers" / "1", "2"))
            eventually(lambda: "burgers/2" in readiness(service.address)["broken"], "it was never reported")
            time.sleep(0.5)
        seen(f"{readiness(service.address)['broken']['burgers/2'][:90]}; {got.text}")
        assert set(got.statuses) == {200} and not got.wrong


def test_an_unsigned_new_version_beside_a_signed_one(zoo, tmp_path, seen):
    private, public = write_keys(tmp_path / "keys")
    for folder in (zoo / "burgers" / "1", zoo / "site_weather" / "1"):
        sign(folder, private)
    with running(zoo, {"RELOAD_SECONDS": 0.3, "SIGNERS": public}) as service:
        question = Question.of(service.address)
        with honest(service.address, question, clients=2) as got:
            add_version(zoo / "burgers" / "1", "2")
            eventually(lambda: "burgers/2" in readiness(service.address)["broken"], "it was never reported")
            time.sleep(0.5)
        seen(f"{readiness(service.address)['broken']['burgers/2'][:90]}; {got.text}")
        assert set(got.statuses) == {200} and not got.wrong


def test_clocks_that_jump(zoo, tmp_path, seen):
    """The wall clock goes a day back and two days ahead: deadlines, retries and answers do not notice."""
    clock, later = tmp_path / "clock", tmp_path / "later"
    clock.write_text("0")
    module, environment = "tests.reliability.jumping", {"CLOCK": str(clock)}
    with running(zoo, {"RELOAD_SECONDS": 0.3}, module=module, environment=environment) as service:
        question = Question.of(service.address)
        with honest(service.address, question) as got:
            for jump in (-DAY, DAY, -3600, 2 * DAY, 0):
                later.write_text(str(jump))
                later.replace(clock)  # at once: the service reads it all the time
                time.sleep(0.7)
        headers = JSON | {"X-Request-Timeout": "0.001"}
        late = httpx.post(service.address + PREDICT, content=question.body, headers=headers, timeout=10)
        seen(f"five jumps of up to three days; {got.text}")
        assert set(got.statuses) == {200} and not got.wrong and late.status_code in (200, 504)
        assert max(got.seconds) < 5.0


def test_slow_clients_beside_honest_ones(zoo, seen):
    """Heads and bodies that come byte by byte, and readers that do not read, on a hundred connections."""
    with running(zoo, {"BODY_SECONDS": 2}) as service:
        question = Question.of(service.address)
        stop = threading.Event()

        def dawdle(kind: int) -> None:
            sent = head(len(question.body)) + question.body
            with connect(service.address) as link:
                try:
                    if kind == 2:
                        link.sendall(sent)
                        stop.wait(6)
                        return
                    for byte in sent[: 40 if kind == 0 else None]:
                        link.sendall(bytes([byte]))
                        if stop.wait(0.1):
                            return
                except OSError:
                    return

        slow = [threading.Thread(target=dawdle, args=(number % 3,)) for number in range(100)]
        for one in slow:
            one.start()
        with honest(service.address, question) as got:
            time.sleep(5.0)
        stop.set()
        for one in slow:
            one.join(30)
        seen(f"100 slow connections; {got.text}")
        assert set(got.statuses) == {200} and not got.wrong
        nothing_is_left(service.address)


def bombs() -> dict[str, bytes]:
    deep = b'{"inputs":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    wide = b'{"inputs":{' + b",".join(b'"k%d":0' % n for n in range(300_000)) + b"}}"
    numbers = b'{"inputs":{"initial_velocity":[' + b"0," * 1_900_000 + b"0]}}"
    packed = gzip.compress(b"[" + b" " * (256 * MEBIBYTE) + b"]")
    return {"deep": deep, "wide": wide, "numbers": numbers, "gzip": packed}


def test_bombs_of_json_and_compression_take_bounded_memory(zoo, seen):
    with running(zoo, {"MAX_BODY_BYTES": BODY_LIMIT}) as service:
        question = Question.of(service.address)
        for content in bombs().values():  # the first of each kind also warms allocators up
            _throw(service, content)
        before, statuses = service.resident, Counter()
        with honest(service.address, question, clients=2) as got:
            for _ in range(4):
                for name, content in bombs().items():
                    statuses[f"{name} {_throw(service, content)}"] += 1
        grown = (service.resident - before) / MEBIBYTE
        seen(f"{dict(statuses)}; memory {grown:+.0f} MiB; {got.text}")
        assert all(400 <= int(key.split()[1]) < 500 for key in statuses)
        assert grown < 64 and not got.wrong and set(got.statuses) == {200}


def _throw(service: Service, content: bytes) -> int:
    packed = content[:2] == b"\x1f\x8b"
    path = "/v2/models/burgers/infer" if packed else PREDICT
    headers = JSON | ({"Content-Encoding": "gzip"} if packed else {})
    return httpx.post(service.address + path, content=content, headers=headers, timeout=60).status_code


def in_chunks(address: str, count: int) -> int:
    """Status of the answer to a body of so many chunks of one byte."""
    some = b"1\r\n \r\n" * 1000
    with connect(address) as link:
        link.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(count // 1000):
            link.sendall(some)
        link.sendall(b"0\r\n\r\n")
        return int(link.recv(100).split()[1])


def test_a_hundred_bodies_of_a_million_chunks_leave_no_memory_behind(zoo, seen):
    with running(zoo) as service:
        statuses = Counter(in_chunks(service.address, MILLION) for _ in range(50))
        service.settle()
        before = service.resident
        statuses += Counter(in_chunks(service.address, MILLION) for _ in range(100))
        grown = service.resident - before
        seen(f"{dict(statuses)}; memory {grown / MEBIBYTE:+.2f} MiB")
        assert set(statuses) == {400}
        assert grown < LEFT_OF_CHUNKS
        nothing_is_left(service.address)


def test_floods_of_headers(zoo, seen):
    with running(zoo) as service:
        question = Question.of(service.address)
        one_large = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Flood: " + b"a" * MEBIBYTE + b"\r\n\r\n"
        many = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n"
        status_of(service.address, many)
        before = service.resident
        with honest(service.address, question, clients=2) as got:
            statuses = Counter(status_of(service.address, flood) for _ in range(20) for flood in (one_large, many))
        grown = (service.resident - before) / MEBIBYTE
        seen(f"{dict(statuses)}; memory {grown:+.0f} MiB; {got.text}")
        assert not [status for status in statuses if status >= 500]
        assert grown < 64 and not got.wrong and set(got.statuses) == {200}


def soak(service: Service, seconds: float) -> tuple[int, list[str]]:
    """Growth of resident memory over the second half of mixed traffic, and what went wrong."""
    question, chance, faults = Question.of(service.address), random.Random(7), []  # noqa: S311

    def happen() -> None:
        try:
            status = world(service.address, question, chance)
        except httpx.TransportError as error:
            status, _ = 599, faults.append(repr(error))
        if status >= 500 and status not in (503, 504):
            faults.append(f"status {status}")

    with honest(service.address, question, clients=2) as got, beside(happen, 2):
        time.sleep(seconds / 2)
        middle, files = service.resident, service.open_files
        time.sleep(seconds / 2)
        growth, more_files = service.resident - middle, service.open_files - files
    if got.wrong or set(got.statuses) - {200, 503}:
        faults.append(got.text)
    if more_files > 32:
        faults.append(f"{more_files} more open files")
    return growth, faults


def test_a_soak_of_mixed_traffic_leaves_nothing_behind(zoo, seen, request):
    seconds = request.config.getoption("--soak-seconds")
    with running(zoo, {"MAX_BODY_BYTES": BODY_LIMIT}) as service:
        growth, faults = soak(service, seconds)
        answered = metric(service.address, "surrogate_requests_total")
        seen(f"{seconds:.0f} s, {answered:.0f} requests; second half {growth / MEBIBYTE:+.1f} MiB")
        assert not faults, faults[:5]
        nothing_is_left(service.address)
    assert growth < MOST_GROWTH


def test_a_surrogate_that_leaks_is_caught_by_the_same_soak(zoo, seen):
    with running(zoo, {"MAX_BODY_BYTES": BODY_LIMIT}, module="tests.reliability.leaky") as service:
        growth, _ = soak(service, 40.0)
    seen(f"128 KiB kept per run: second half of 40 s {growth / MEBIBYTE:+.0f} MiB")
    assert growth > MOST_GROWTH


def test_sigterm_with_nothing_to_do_ends_promptly(zoo, seen):
    with running(zoo) as service:
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        code = service.process.wait(30)
    seen(f"exit {code} after {time.monotonic() - began:.1f} s")
    assert code in (0, -signal.SIGTERM)


def test_a_directory_that_disappears_and_comes_back(zoo, seen):
    with running(zoo, {"RELOAD_SECONDS": 0.3}) as service:
        question = Question.of(service.address)
        with honest(service.address, question, clients=2) as got:
            shutil.move(zoo, zoo.with_name("elsewhere"))
            time.sleep(1.0)
            shutil.move(zoo.with_name("elsewhere"), zoo)
            time.sleep(1.5)
        seen(got.text)
        assert service.is_alive and not got.wrong
        assert question.is_right(httpx.post(service.address + PREDICT, content=question.body, headers=JSON, timeout=30))
        assert not [status for status in got.statuses if status >= 500 and status != 503]
