"""The reasons that events give: which is taken, how it reads, and how seldom it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from builders import NOW
from fake_kube import FakeKube, refusal
from skerry_operator.decide.fleet.stuck import Stuck
from skerry_operator.kube.causes import (
    AGAIN_S,
    EVENTS_LIMIT,
    FIRST_S,
    SELDOM_S,
    STALE,
    Causes,
    EventReader,
    cause_in,
)
from skerry_operator.kube.client import KubeClient, Threads

SET = Stuck("DaemonSet", "digits-cpu", "u1", ("a", "b"))
POD = Stuck("Pod", "digits-cpu-x", "u2", ("a",))


def event(reason: str, message: str, age_s: float = 0, **more: Any) -> dict[str, Any]:
    at = (NOW - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": at, **more}


@pytest.mark.parametrize(
    ("events", "of", "text"),
    [
        ([], SET, ""),
        (
            [event("FailedCreate", 'Error creating: pods "digits-cpu-x7k2p" is forbidden: '
                   "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0")],
            SET,
            "FailedCreate (see `kubectl describe daemonset digits-cpu`): the pod is forbidden: "
            "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0",
        ),
        (
            [event("FailedCreate", 'Error creating: admission webhook "policy.example" denied')],
            SET,
            "FailedCreate (see `kubectl describe daemonset digits-cpu`): "
            'admission webhook "policy.example" denied',
        ),
        (
            [event("FailedMount", 'secret "edge-tls" not found', 60),
             event("FailedMount", "Unable to attach or mount volumes: timed out", 1)],
            POD,
            "FailedMount (see `kubectl describe pod digits-cpu-x`): "
            'secret "edge-tls" not found',
        ),
        (
            [event("FailedCreate", "quota", 30), event("FailedDaemonPod", "found failed pod", 1)],
            SET,
            "FailedCreate (see `kubectl describe daemonset digits-cpu`): quota",
        ),
        ([event("FailedScheduling", "0/3 nodes are available")], POD, ""),
        ([event("FailedCreate", "quota", STALE.total_seconds() + 1)], SET, ""),
        ([event("FailedCreate", "quota", type="Normal")], SET, ""),
        (
            [event("FailedCreate", "old", 500), event("FailedCreate", "new", 5)],
            SET,
            "FailedCreate (see `kubectl describe daemonset digits-cpu`): new",
        ),
        (
            [event("FailedCreatePodSandBox", "a\nb\x1b[31m" + 64 * "f")],
            POD,
            "FailedCreatePodSandBox (see `kubectl describe pod digits-cpu-x`): a b [31m"
            + 64 * "f",
        ),
        ([{"type": "Warning", "reason": "X", "message": "m", "lastTimestamp": "soon"}], POD, ""),
    ],
    ids=[
        "none", "quota", "webhook", "the precise of two", "what the controller did besides",
        "over since the pod has its node", "of long ago", "no warning", "the newest",
        "control characters", "no time",
    ],
)  # fmt: skip
def test_the_cause_in_events(events: list[dict[str, Any]], of: Stuck, text: str) -> None:
    assert cause_in(events, of, NOW) == text


def test_names_that_are_new_with_every_try_change_nothing() -> None:
    tries = [
        event("FailedCreatePodSandBox", f'failed to set up sandbox "{digit * 64}": no network')
        for digit in "ab"
    ]
    first, second = (cause_in([one], POD, NOW) for one in tries)
    assert first == second != ""


@pytest.mark.parametrize("hostile", ["x" * 10**5, "\x1b]0;owned\x07" * 100, "\u202e" * 600])
def test_no_event_makes_a_text_that_is_long_or_moves_a_terminal(hostile: str) -> None:
    text = cause_in([event(hostile, hostile)], SET, NOW)
    assert len(text) < 800
    assert text.isprintable()


def test_an_event_of_a_newer_form_counts_by_its_last_repetition() -> None:
    series = {"lastObservedTime": NOW.strftime("%Y-%m-%dT%H:%M:%S.000000Z"), "count": 9}
    old = event("FailedCreate", "quota", 10**6, series=series)
    assert cause_in([old], SET, NOW) != ""


class Asked:
    """Notes what is asked, and answers what the test says."""

    def __init__(self) -> None:
        self.count = 0
        self.woken = 0
        self.answer = "quota"

    async def __call__(self, _namespace: str, _of: Stuck) -> str:
        self.count += 1
        return self.answer

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
async def asked() -> AsyncIterator[tuple[Asked, Causes]]:
    asked = Asked()
    causes = Causes(asked, asked.wake)
    yield asked, causes
    causes.close()


async def told(causes: Causes, at: float, *objects: Stuck) -> dict[str, str]:
    """Look at some moment, let what was asked be answered, and return what is known then."""
    causes.refresh("edge", objects, at)
    for _ in range(3):
        await asyncio.sleep(0)
    return dict(causes.refresh("edge", objects, at))


async def test_an_object_that_is_stuck_for_a_moment_is_not_asked_about(
    asked: tuple[Asked, Causes],
) -> None:
    notes, causes = asked
    assert await told(causes, 0, SET) == {}
    assert await told(causes, FIRST_S - 0.1) == {}
    assert await told(causes, FIRST_S + 1, SET) == {}  # stuck anew
    assert notes.count == 0


async def test_one_question_answers_for_all_units_and_wakes_a_look(
    asked: tuple[Asked, Causes],
) -> None:
    notes, causes = asked
    await told(causes, 0, SET)
    assert await told(causes, FIRST_S, SET) == {"a": "quota", "b": "quota"}
    assert (notes.count, notes.woken) == (1, 1)


async def test_the_same_answer_is_asked_for_less_and_less_and_wakes_nobody(
    asked: tuple[Asked, Causes],
) -> None:
    notes, causes = asked
    for second in range(600):
        await told(causes, second, SET)
    assert notes.woken == 1
    assert 600 / SELDOM_S <= notes.count <= 600 / SELDOM_S + 5


async def test_what_is_mended_is_forgotten(asked: tuple[Asked, Causes]) -> None:
    notes, causes = asked
    await told(causes, 0, SET)
    await told(causes, FIRST_S, SET)
    notes.answer = ""
    assert await told(causes, FIRST_S + AGAIN_S, SET) == {}
    assert notes.woken == 2


async def test_a_defect_of_the_question_stops_no_look() -> None:
    async def broken(_namespace: str, _of: Stuck) -> str:
        raise KeyError("message")

    causes = Causes(broken, lambda: None)
    await told(causes, 0, SET)
    assert await told(causes, FIRST_S, SET) == {}
    causes.close()


@pytest.fixture
def read(client: KubeClient) -> Iterator[EventReader]:
    threads = Threads(2)
    yield EventReader(client, threads, lambda: NOW)
    threads.close()


async def test_only_the_warnings_of_that_very_object_are_read(
    kube: FakeKube, read: EventReader
) -> None:
    path = "/api/v1/namespaces/edge/events/e1"
    kube.put(path, {"metadata": {"name": "e1"}, **event("FailedCreate", "quota")})
    assert (await read("edge", SET)).endswith(": quota")
    (request,) = kube.requests
    assert request.query == {
        "fieldSelector": "involvedObject.uid=u1,type=Warning",
        "limit": str(EVENTS_LIMIT),
    }


async def test_an_operator_without_the_right_to_read_events_says_what_it_said_before(
    kube: FakeKube, read: EventReader
) -> None:
    kube.script("GET events", refusal(403, "Forbidden"))
    assert await read("edge", SET) == ""
