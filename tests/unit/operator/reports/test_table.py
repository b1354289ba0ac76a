"""What counts as said: by which pod, for how long, and what of it is news."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, make_report, reduced, refusing, serving
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import UnitReport
from skerry_operator.reports.base import Question
from skerry_operator.reports.table import SILENCE_S, SILENT_AFTER, Attention, ReportTable

KEY = ("edge", "digits")
V1, V2 = "v1-1111111111", "v1-2222222222"
UNDER_WAY, AT_REST = Attention(), Attention(is_under_way=False)


def pod(unit: str, **changes: Any) -> Pod:
    plain = Pod(f"p-{unit}", unit, "c", "t", ip="10.0.0.1", uid=f"u-{unit}", revision_label=V1)
    return replace(plain, **changes)


def says(unit: str, serves: str = V1, assigned: str = V1) -> UnitReport:
    return reduced(make_report(unit, serving(serves), assigned=assigned))


class Listener:
    """A table that follows one deployment."""

    def __init__(self, *pods: Pod, attention: Attention = UNDER_WAY) -> None:
        self.table = ReportTable()
        self.pods = pods
        self.follow(0)
        self.table.attend(KEY, attention)

    def follow(self, now: float) -> None:
        self.table.follow(KEY, [Question(KEY, pod) for pod in self.pods], now)

    def heard(self, pod: Pod, report: UnitReport, now: float) -> bool:
        return self.table.heard(Question(KEY, pod), report, now, now)

    def missed(self, pod: Pod, now: float, refused: str = "") -> bool:
        return self.table.missed(Question(KEY, pod), now, now, refused)

    def reports(self, now: float) -> dict[str, UnitReport]:
        return dict(self.table.hearing(KEY, self.pods, now).reports)


A, B = pod("a"), pod("b")


def test_a_replaced_pod_does_not_stand_in_for_its_successor() -> None:
    """Under one unit name, and even one pod name."""
    listener = Listener(A)
    listener.heard(A, says("a"), 0)
    listener.pods = (replace(A, uid="another"),)
    listener.follow(1)
    assert listener.reports(1) == {}
    listener.heard(A, says("a"), 1)  # the old one's answer was on its way
    assert listener.reports(1) == {}
    assert len(listener.table) == 1


def test_the_pod_that_goes_says_nothing_for_the_one_that_comes() -> None:
    old, new = replace(A, name="old", uid="old"), replace(A, name="new", uid="new", ip="")
    listener = Listener(old)
    listener.heard(old, says("a"), 0)
    listener.pods = (replace(old, created_at=NOW), replace(new, created_at=NOW.replace(hour=13)))
    assert listener.reports(0) == {}


def test_an_answer_of_before_a_nudge_is_no_answer() -> None:
    listener = Listener(A)
    told = replace(A, nudge="abc.1")
    listener.pods = (told,)
    listener.follow(1)
    assert not listener.heard(A, says("a"), 1)
    assert listener.reports(1) == {}
    listener.heard(told, says("a"), 1)
    assert set(listener.reports(1)) == {"a"}


def test_a_word_of_before_the_last_write_is_shown_and_ends_no_step() -> None:
    listener = Listener(A, B)
    listener.heard(A, says("a"), 1)
    listener.heard(B, says("b"), 1)
    listener.table.wrote(KEY, 2)
    listener.heard(B, says("b"), 3)
    hearing = listener.table.hearing(KEY, listener.pods, 3)
    assert set(hearing.reports) == {"a", "b"}
    assert (hearing.unconfirmed, hearing.is_complete) == ({"a"}, False)
    listener.missed(A, 4)
    assert listener.table.hearing(KEY, listener.pods, 4).is_complete
    assert listener.table.hearing(KEY, listener.pods, 4).unconfirmed == {"a"}


def test_an_answer_to_a_question_of_before_the_write_confirms_nothing() -> None:
    listener = Listener(A)
    listener.table.wrote(KEY, 2)
    listener.table.heard(Question(KEY, A), says("a"), asked_at=1, now=3)
    assert listener.table.hearing(KEY, listener.pods, 3).unconfirmed == {"a"}


def test_an_older_report_that_comes_late_is_dropped() -> None:
    listener = Listener(A)
    listener.table.heard(Question(KEY, A), says("a"), asked_at=5, now=5)
    listener.table.heard(Question(KEY, A), says("a", V2), asked_at=4, now=6)
    assert listener.reports(6)["a"].serving == says("a").serving


@pytest.mark.parametrize(
    ("asks", "now", "stands"),
    [
        ((1,), 1, True),
        ((1,), 100, True),  # one lost answer, however old the word
        ((1, 2), SILENCE_S - 1, True),
        ((1, 2), SILENCE_S, False),
        ((60, 61), 61, False),
    ],
)
def test_a_silent_pod_counts_as_it_last_said_for_a_while(
    asks: tuple[float, ...], now: float, stands: bool
) -> None:
    listener = Listener(A)
    listener.heard(A, says("a"), 0)
    for at in asks:
        listener.missed(A, at)
    assert ("a" in listener.reports(now)) is stands


def test_a_silent_pod_that_had_not_read_what_it_was_given_is_not_taken_at_its_word() -> None:
    listener = Listener(A)
    listener.heard(A, says("a", "v1-0", "v1-0"), 0)
    listener.missed(A, 1)
    assert listener.reports(1) == {}


def test_at_rest_whatever_a_pod_says_newly_is_news_and_numbers_are_not() -> None:
    listener = Listener(A, attention=AT_REST)
    assert listener.heard(A, says("a"), 0)
    assert not listener.heard(A, replace(says("a"), clock_ahead_s=3, counters=()), 60)
    assert listener.heard(A, replace(says("a"), serving=None), 120)
    assert listener.heard(A, says("a"), 180)
    assert not listener.missed(A, 240)
    assert listener.missed(A, 241)
    assert listener.heard(A, says("a"), 300)


def test_under_way_only_refusals_and_the_last_that_is_awaited_hurry_a_look() -> None:
    listener = Listener(A, B)
    assert not listener.heard(A, says("a"), 0)
    assert not listener.heard(B, says("b", "v1-0"), 0)
    refusal = reduced(make_report("b", serving("v1-0"), refusing(V1)))
    assert listener.heard(B, refusal, 1)
    assert not listener.heard(B, refusal, 2)
    assert listener.heard(B, says("b"), 3)
    assert not listener.heard(B, says("b"), 4)
    listener.table.wrote(KEY, 5)
    assert not listener.heard(A, says("a"), 6)
    assert listener.heard(B, says("b"), 6)


def test_an_answer_that_is_refused_is_told_once() -> None:
    listener = Listener(A)
    assert listener.missed(A, 1, "its report is refused")
    assert not listener.missed(A, 2, "its report is refused")
    assert listener.table.hearing(KEY, [A], 2).refused == {"a": "its report is refused"}
    assert listener.heard(A, says("a"), 3)
    assert listener.table.hearing(KEY, [A], 3).refused == {}


def test_what_is_not_followed_is_not_listened_to() -> None:
    listener = Listener(A)
    assert not listener.heard(B, says("b"), 0)
    listener.table.forget(KEY)
    assert not listener.heard(A, says("a"), 0)
    assert (len(listener.table), list(listener.table)) == (0, [])


def test_ten_thousand_pods_at_rest_take_less_than_20_mebibytes() -> None:
    listener = Listener(attention=AT_REST)
    listener.pods = tuple(pod(f"n{number}") for number in range(500))
    body = make_report("a", serving(V1), assigned=V1)
    before, _ = started()
    listener.follow(0)
    for one in listener.pods:
        # as from the wire: nothing but interned texts is shared
        said = reduced(body.model_copy(update={"unit": one.unit}))
        listener.heard(one, said, 0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 500 < 20 * 2**20 / 10_000


def started() -> tuple[int, int]:
    tracemalloc.start()
    return tracemalloc.get_traced_memory()


def test_a_pod_that_runs_and_never_answers_is_known_as_silent_after_a_while() -> None:
    running = pod("a", is_started=True)
    listener = Listener(running)
    for miss in range(SILENT_AFTER):
        assert listener.table.hearing(KEY, listener.pods, miss).silent == frozenset()
        listener.missed(running, miss)
    assert listener.table.hearing(KEY, listener.pods, 9).silent == {"a"}
    listener.heard(running, says("a"), 10)
    assert listener.table.hearing(KEY, listener.pods, 10).silent == frozenset()


def test_what_a_pod_could_not_answer_before_it_ran_does_not_make_it_silent() -> None:
    starting, running = pod("a"), pod("a", is_started=True)
    listener = Listener(starting)
    for miss in range(10):
        listener.missed(starting, miss)
    listener.pods = (running,)
    listener.follow(11)
    listener.missed(running, 11)
    assert listener.table.hearing(KEY, listener.pods, 12).silent == frozenset()


def test_a_question_that_was_put_before_the_pod_ran_counts_by_what_is_known_of_it_now() -> None:
    starting, running = pod("a"), pod("a", is_started=True)
    listener = Listener(starting)
    listener.pods = (running,)
    listener.follow(1)
    for miss in range(SILENT_AFTER):
        listener.missed(starting, 1 + miss)
    assert listener.table.hearing(KEY, listener.pods, 9).silent == {"a"}
