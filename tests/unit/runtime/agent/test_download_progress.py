"""What a pod says of its downloads: how far, how fast, and when there were more bytes than ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry_runtime.agent.report import Tracker
from skerry_runtime.contract import Progress, SwapPhase
from unit.runtime.agent.support import goal

V1 = goal("v1")


@dataclass
class Clock:
    now: float = 1000.0
    tracker: Tracker = field(init=False)

    def __post_init__(self) -> None:
        self.tracker = Tracker(lambda: self.now, lambda: self.now)

    def arrived(self, fetched: int, after_s: float = 1.0) -> Progress:
        self.now += after_s
        self.tracker.bytes_arrived(fetched, 1000)
        found = self.tracker.of(V1)
        assert found is not None
        return found


def test_bytes_that_come_are_told_with_their_time_and_rate() -> None:
    clock = Clock()
    clock.tracker.enter(V1, SwapPhase.FETCHING, 1)
    first = clock.arrived(0)
    assert (first.moved_at, first.bytes_per_s) == (None, None)
    second = clock.arrived(300, after_s=3)
    assert (second.fetched_bytes, second.total_bytes) == (300, 1000)
    assert (second.moved_at, second.bytes_per_s) == (clock.now, 100)


def test_a_download_that_stands_still_keeps_the_time_of_its_last_byte() -> None:
    clock = Clock()
    clock.tracker.enter(V1, SwapPhase.FETCHING, 1)
    clock.arrived(0)
    moved_at = clock.arrived(300).moved_at
    assert clock.arrived(300, after_s=60).moved_at == moved_at


def test_a_source_that_sends_the_same_bytes_again_moves_nothing() -> None:
    clock = Clock()
    clock.tracker.enter(V1, SwapPhase.FETCHING, 1)
    clock.arrived(0)
    moved_at = clock.arrived(300).moved_at
    clock.tracker.enter(V1, SwapPhase.FETCHING, 2)
    clock.arrived(0)
    assert clock.arrived(299).moved_at == moved_at
    assert clock.arrived(301).moved_at == clock.now


def test_what_an_earlier_try_left_on_the_disk_is_no_byte_that_came() -> None:
    clock = Clock()
    clock.tracker.enter(V1, SwapPhase.FETCHING, 1)
    assert clock.arrived(500).moved_at is None
    found = clock.arrived(600)
    assert (found.moved_at, found.bytes_per_s) == (clock.now, 100)


def test_the_phases_after_it_tell_when_it_moved_and_another_revision_does_not() -> None:
    clock = Clock()
    clock.tracker.enter(V1, SwapPhase.FETCHING, 1)
    clock.arrived(0)
    moved_at = clock.arrived(300).moved_at
    clock.tracker.enter(V1, SwapPhase.PROBING, 1)
    probing = clock.tracker.of(V1)
    assert probing is not None
    assert (probing.moved_at, probing.fetched_bytes) == (moved_at, 300)
    other = goal("v2")
    clock.tracker.enter(other, SwapPhase.FETCHING, 1)
    fresh = clock.tracker.of(other)
    assert fresh is not None
    assert (fresh.moved_at, fresh.fetched_bytes) == (None, 0)
