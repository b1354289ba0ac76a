"""The backlog, told the time; and the workers that turn it."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from skerry_operator.kube.errors import Conflict, Fenced, Invalid, Unavailable
from skerry_operator.process.queue import (
    BACKOFF_FIRST_S,
    BACKOFF_LONGEST_S,
    Backlog,
    Key,
    Workers,
)
from skerry_operator.telemetry import Telemetry

A: Key = ("EdgeDeployment", "edge", "a")
B: Key = ("EdgeDeployment", "edge", "b")


@pytest.fixture
def backlog() -> Backlog:
    return Backlog(Random(1), spacing_s=0.5)


def keys_taken(backlog: Backlog, now: float) -> list[Key]:
    taken = []
    while (one := backlog.take(now)) is not None:
        taken.append(one[0])
    return taken


def test_asking_a_hundred_times_is_asking_once(backlog: Backlog) -> None:
    for _ in range(100):
        backlog.add(A, now=10.0)
    assert keys_taken(backlog, 10.0) == [A]


def test_keys_come_in_the_order_in_which_they_were_due(backlog: Backlog) -> None:
    backlog.add(B, 1.0)
    backlog.add(A, 2.0)
    assert keys_taken(backlog, 3.0) == [B, A]


def test_a_key_tells_how_long_it_was_due(backlog: Backlog) -> None:
    backlog.add(A, 1.0)
    assert backlog.take(4.0) == (A, 3.0)


def test_what_is_to_be_looked_at_later_is_not_due(backlog: Backlog) -> None:
    """Else the metric of the queue never reaches 0 where anything runs."""
    backlog.add(A, 1.0)
    assert backlog.take(1.0)
    backlog.done(A, 1.0, again_after_s=60.0)
    backlog.add(B, 2.0)
    assert (len(backlog), backlog.overdue(3.0), backlog.overdue(61.0)) == (2, 1, 2)


def test_a_key_that_is_worked_on_is_not_started_again_before_it_is_done(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    assert backlog.take(0.0)
    backlog.add(A, 1.0)
    assert backlog.take(9.0) is None
    backlog.done(A, 9.0, None)
    assert keys_taken(backlog, 9.0) == [A]


def test_a_key_that_is_worked_on_does_not_hold_up_another(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    assert backlog.take(0.0)
    backlog.add(A, 1.0)
    backlog.add(B, 2.0)
    assert keys_taken(backlog, 9.0) == [B]


def test_a_hundred_edits_in_a_second_are_three_reconciles_and_the_last_edit_is_seen(
    backlog: Backlog,
) -> None:
    started = []
    for step in range(300):
        now = step / 100
        if now < 1.0:
            backlog.add(A, now)
        if backlog.take(now):
            started.append(now)
            backlog.done(A, now, None)
    assert started == [0.0, 0.5, 1.0]


def test_what_a_reconcile_itself_asks_for_is_not_held_back(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    backlog.take(0.0)
    backlog.done(A, 0.0, 0.1)
    assert backlog.next_at() == 0.1
    assert keys_taken(backlog, 0.1) == [A]


def test_the_sooner_of_an_event_and_a_requeue_counts(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    backlog.take(0.0)
    backlog.done(A, 0.0, 60.0)
    backlog.add(A, 5.0)
    assert keys_taken(backlog, 5.0) == [A]
    assert backlog.next_at() is None


def test_failures_double_the_wait_up_to_the_longest_and_success_ends_that(
    backlog: Backlog,
) -> None:
    now, delays = 0.0, []
    backlog.add(A, now)
    for _ in range(20):
        assert backlog.take(now)
        delays.append(backlog.failed(A, now))
        now += delays[-1]
    for number, delay in enumerate(delays):
        full = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2**number)
        assert full / 2 <= delay <= full
    assert backlog.take(now)
    backlog.done(A, now, None)
    backlog.add(A, now + 1)
    assert backlog.take(now + 1)
    assert backlog.failed(A, now + 1) <= BACKOFF_FIRST_S


def test_the_server_s_own_wait_is_the_least(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    backlog.take(0.0)
    assert backlog.failed(A, 0.0, at_least_s=7.0) == 7.0


def test_a_change_ends_the_back_off_for_it_may_be_the_cure(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    backlog.take(0.0)
    for now in range(0, 200, 2):
        backlog.failed(A, float(now))
        backlog.add(A, now + 2.0)
        assert keys_taken(backlog, now + 2.0) == [A]


def test_no_change_cuts_through_the_wait_that_the_server_asked_for(backlog: Backlog) -> None:
    backlog.add(A, 0.0)
    backlog.take(0.0)
    backlog.add(A, 0.1)
    backlog.failed(A, 0.2, at_least_s=30.0)
    backlog.add(A, 2.0)
    assert keys_taken(backlog, 30.1) == []
    assert keys_taken(backlog, 30.2) == [A]
    backlog.done(A, 31.0, None)
    backlog.add(A, 32.0)
    assert keys_taken(backlog, 32.0) == [A]


def test_the_age_of_the_oldest_reconcile_is_known(backlog: Backlog) -> None:
    assert backlog.oldest_running_s(5.0) == 0.0
    backlog.add(A, 0.0)
    backlog.add(B, 0.0)
    backlog.take(1.0)
    backlog.take(3.0)
    assert backlog.oldest_running_s(5.0) == 4.0


class Ledger:
    """Work that notes what ran, and what ran at one time."""

    def __init__(self) -> None:
        self.ran: list[Key] = []
        self.now = 0
        self.most = 0
        self.release = asyncio.Event()
        self.errors: list[Exception] = []

    async def work(self, key: Key) -> float | None:
        self.ran.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.release.wait()
            if self.errors:
                raise self.errors.pop(0)
        finally:
            self.now -= 1
        return None


async def turn() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_than_the_set_number_works_at_one_time() -> None:
    ledger = Ledger()
    workers = Workers(Backlog(Random(1)), ledger.work, 2, Telemetry())
    running = asyncio.create_task(workers.run())
    for number in range(5):
        workers.add(("EdgeDeployment", "edge", str(number)))
    await turn()
    assert len(ledger.ran) == 2
    ledger.release.set()
    await turn()
    assert len(ledger.ran) == 5
    assert ledger.most == 2
    await workers.stop(1.0)
    await running


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Conflict("changed"), "conflict"),
        (Invalid("bad"), "error"),
        (Unavailable("later", retry_after_s=1.0), "error"),
        (Fenced("no Lease"), "fenced"),
        (KeyError("a mistake"), "error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_error_of_one_key_stops_no_other(error: Exception, result: str) -> None:
    ledger = Ledger()
    ledger.release.set()
    ledger.errors = [error]
    telemetry = Telemetry()
    workers = Workers(Backlog(Random(1)), ledger.work, 1, telemetry)
    running = asyncio.create_task(workers.run())
    workers.add(A)
    await turn()
    workers.add(B)
    await turn()
    assert ledger.ran == [A, B]
    assert telemetry.reconciles.labels("EdgeDeployment", result)._value.get() == 1
    await workers.stop(1.0)
    await running


async def test_stopping_starts_nothing_more_and_waits_for_what_is_under_way() -> None:
    ledger = Ledger()
    workers = Workers(Backlog(Random(1)), ledger.work, 1, Telemetry())
    running = asyncio.create_task(workers.run())
    workers.add(A)
    workers.add(B)
    await turn()
    stopping = asyncio.create_task(workers.stop(60.0))
    await turn()
    assert not stopping.done()
    ledger.release.set()
    await stopping
    await running
    assert ledger.ran == [A]
