"""When a pod is asked again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from builders import make_report, reduced, serving
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import UnitReport
from skerry_operator.reports.base import Question
from skerry_operator.reports.cadence import (
    BYSTANDER_S,
    FIRST_S,
    JITTER,
    LEAD_S,
    SILENT_S,
    UNSETTLED_S,
    Cadence,
)
from skerry_operator.reports.table import Attention, Voice

IDLE_S = 60.0
WHO = Question(("edge", "digits"), Pod("p", "n", "c", "t"))
UNDER_WAY = Attention(pace_s=1.0)
AT_REST = Attention(is_under_way=False)


def report(assigned: str = "v1-a") -> UnitReport:
    return reduced(make_report("n", serving("v1-a"), assigned=assigned))


def voice(said: UnitReport | None, *, misses: int = 0, changed_at: float = 0) -> Voice:
    return Voice(WHO, changed_at=changed_at, report=said, misses=misses)


def wait_s(one: Voice, attention: Attention, now: float, crowd: int = 0) -> float:
    return Cadence(Random(1), IDLE_S).again_at(one, attention, now, crowd) - now


def about(seconds: float) -> object:
    return pytest.approx(seconds * (1 - JITTER / 2), rel=JITTER)


def test_a_pod_that_was_just_told_is_asked_several_times_in_the_first_second() -> None:
    on_its_way, now, times = voice(report("v1-b")), FIRST_S, []
    while now < 10:
        times.append(now)
        now += wait_s(on_its_way, UNDER_WAY, now)
    assert 5 <= sum(at < 1 for at in times) <= 8
    assert times[1] <= 0.21
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 1


def test_a_pod_that_goes_back_is_asked_as_often_as_its_deployment_is_looked_at() -> None:
    back = Attention(pace_s=0.2)
    assert wait_s(voice(report("v1-b")), back, 8) == about(0.2)


def test_a_pod_that_is_there_is_asked_just_before_the_next_look() -> None:
    attention = Attention(look_at=110, pace_s=10)
    assert wait_s(voice(report()), attention, 100) == about(10 - LEAD_S)
    assert wait_s(voice(report()), attention, 109.9) == about(1)


def test_a_pod_of_the_version_that_is_not_on_trial_is_asked_less_often() -> None:
    attention = Attention(look_at=101, pace_s=1, on_trial="v2-b")
    assert wait_s(voice(report()), attention, 100) == about(BYSTANDER_S)
    assert wait_s(voice(report()), replace(attention, on_trial="v1-a"), 100) == about(1)
    assert wait_s(voice(report()), replace(attention, on_trial=None), 100) == about(1)
    assert wait_s(voice(report("v2-b")), attention, 100) == about(1)  # it was told to change


def test_at_rest_a_pod_is_asked_at_the_idle_period_and_another_more_often() -> None:
    assert wait_s(voice(report()), AT_REST, 1000) == about(IDLE_S)
    assert wait_s(voice(report("v1-b")), AT_REST, 1000) == about(UNSETTLED_S)


def test_a_silent_pod_is_asked_ever_less_often() -> None:
    waits = [wait_s(voice(None, misses=misses), AT_REST, 1000) for misses in range(1, 20)]
    assert waits[0] == about(0.4)
    assert waits[1] == about(0.8)
    assert waits[-1] == about(SILENT_S)
    assert wait_s(voice(None, misses=5000), AT_REST, 1000) == about(SILENT_S)


def test_a_crowd_is_not_asked_faster_than_it_can_be_heard() -> None:
    assert wait_s(voice(report("v1-b")), UNDER_WAY, 0.2, crowd=1000) == about(2)


def test_no_time_is_longer_than_it_was_meant() -> None:
    for seed in range(50):
        assert Cadence(Random(seed), IDLE_S).again_at(voice(report()), AT_REST, 0) <= IDLE_S
