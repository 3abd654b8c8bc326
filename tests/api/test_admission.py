"""Gates count what is inside and say when to come back; a ticket outlives a change of its deadline; short work is known."""

import asyncio

import pytest

from api.admission import LONGEST_RETRY, Gate
from api.service import SHORT, Pace, Visit
from models.errors import Abandoned, DeadlinePassed, Overloaded


def test_a_gate_counts_requests_and_bytes():
    gate = Gate("m", most_requests=2, most_bytes=100)
    gate.enter(60)
    gate.enter(40)
    with pytest.raises(Overloaded, match="at most 2 requests"):
        gate.enter(0)
    gate.leave(40)
    with pytest.raises(Overloaded, match="at most 100 bytes"):
        gate.enter(41)
    assert (gate.requests, gate.bytes, gate.refused) == (1, 60, 2)
    gate.grow(40)
    with pytest.raises(Overloaded):
        gate.grow(1)
    gate.leave(100)
    assert (gate.requests, gate.bytes) == (0, 0)


def test_the_time_to_come_back_follows_the_pace_of_leaving():
    now, waits = [0.0], []
    for gap in (0.01, 2.0, 1000.0):
        gate = Gate("m", most_requests=20, most_bytes=10, clock=lambda: now[0])
        for _ in range(20):
            gate.enter(0)
        for _ in range(60):
            now[0] += gap
            gate.leave(0)
            gate.enter(0)
        with pytest.raises(Overloaded) as caught:
            gate.enter(0)
        waits.append(caught.value.retry_after)
    assert waits == [1.0, pytest.approx(20, abs=2), LONGEST_RETRY]


def test_a_client_that_has_gone_stays_gone_when_its_deadline_changes():
    async def visit() -> None:
        here = Visit(None, {"headers": []}, None)
        here.set_deadline(60.0)
        here.set_deadline(0.01)
        await asyncio.sleep(0.05)
        assert isinstance(here.ticket.reason, DeadlinePassed)
        there = Visit(None, {"headers": []}, None)
        there.ticket.end(Abandoned())
        there.set_deadline(60.0)
        assert isinstance(there.ticket.reason, Abandoned)
        for one in (here, there):
            one.leave()

    asyncio.run(visit())


def test_work_is_short_when_its_kind_has_been_short_at_that_size():
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(clock=lambda: now[0])
    assert not pace.is_short("fast", 1)  # not yet seen
    pace.timed("fast", 100, lambda: work(0.1 * SHORT))
    pace.timed("slow", 100, lambda: work(10 * SHORT))
    assert [pace.is_short("fast", size) for size in (1, 999, 1001)] == [True, True, False]
    assert not pace.is_short("slow", 100)
    for _ in range(60):
        pace.timed("slow", 100, lambda: work(0.1 * SHORT))
    assert pace.is_short("slow", 100)  # no longer
    pace.timed("nothing", 0, lambda: work(SHORT))
