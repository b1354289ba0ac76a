"""The simulated runtime keeps to what a real one does, as far as the operator can see it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from documents import make_content
from fleet.simulated_pod import (
    DISK_SWAP_S,
    FAILS_AFTER_S,
    FETCHED_SWAP_S,
    Habit,
    SimulatedPod,
)
from skerry_runtime.contract import StatusReport

T0 = 1000.0
VERSIONS = {"a": "1.0.0", "b": "2.0.0", "bad": "3.0.0+fails-later"}


def file_with(default: str, **units: str) -> str:
    revisions = {
        name: json.loads(make_content("x", "a" * 64, version=text).model_dump_json(by_alias=True))
        for name, text in VERSIONS.items()
    }
    whole: dict[str, Any] = {"deployment": "ns/d", "cell": "c", "execution": {"profile": "cpu"}}
    return json.dumps({**whole, "default": default, "units": units, "revisions": revisions})


def pod_on(default: str, habit: Habit = Habit.GOOD) -> SimulatedPod:
    """A pod that serves `default`, on a node that takes to news as `habit` says."""
    pod = SimulatedPod("n", started_at=T0)
    pod.read_file(file_with(default), T0)
    pod.report(T0 + FETCHED_SWAP_S)
    pod.habit = habit
    return pod


def serves(pod: SimulatedPod, now: float) -> str | None:
    # through JSON: it must be what the operator can read
    report = StatusReport.model_validate_json(pod.report(now).model_dump_json(by_alias=True))
    return report.serving.revision if report.serving else None


def test_a_new_revision_is_fetched_and_the_way_back_is_from_the_disk() -> None:
    pod = pod_on("a")
    pod.read_file(file_with("a", n="b"), T0 + 10)
    assert serves(pod, T0 + 10 + FETCHED_SWAP_S / 2) == "a"
    assert serves(pod, T0 + 10 + FETCHED_SWAP_S) == "b"
    pod.read_file(file_with("a"), T0 + 20)
    assert serves(pod, T0 + 20 + DISK_SWAP_S) == "a"
    assert [swap.fetched for swap in pod.swaps] == [True, True, False]


def test_a_swap_ends_at_its_own_time_however_late_one_asks() -> None:
    pod = pod_on("a")
    pod.read_file(file_with("b"), T0 + 10)
    pod.report(T0 + 500)
    assert pod.swaps[-1].at == T0 + 10 + FETCHED_SWAP_S


@pytest.mark.parametrize(
    ("habit", "serving", "refused"),
    [(Habit.NEVER_READY, "a", 0), (Habit.REFUSES, "a", 1), (Habit.SLOW, "b", 0)],
)
def test_a_habit_counts_for_what_is_new_and_never_for_what_serves(
    habit: Habit, serving: str, refused: int
) -> None:
    pod = pod_on("a", habit)
    pod.read_file(file_with("b"), T0 + 10)
    assert serves(pod, T0 + 100) == serving
    assert len(pod.report(T0 + 100).failures) == refused
    pod.read_file(file_with("a"), T0 + 200)
    assert serves(pod, T0 + 200 + DISK_SWAP_S) == "a"


def test_a_version_that_fails_later_fails_later() -> None:
    pod = pod_on("a")
    pod.read_file(file_with("bad"), T0 + 10)
    since = T0 + 10 + FETCHED_SWAP_S
    (early,) = pod.report(since + FAILS_AFTER_S).counters
    (late,) = pod.report(since + FAILS_AFTER_S + 5).counters
    assert (early.total.requests > 0, early.total.failures) == (True, {})
    assert sum(late.total.failures.values()) > 0
