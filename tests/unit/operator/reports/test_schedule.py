"""Who is asked next: fair to deployments and namespaces, whoever is silent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_operator.decide.observed import Pod
from skerry_operator.reports.base import DeploymentKey, Question
from skerry_operator.reports.schedule import Schedule, Shares

SHARES = Shares.of(64)


def question(deployment: DeploymentKey, number: int, node: str = "") -> Question:
    name = f"{deployment[1]}-{number}"
    return Question(deployment, Pod(name, name, "c", "t", uid=name, node=node or name))


def crowd(schedule: Schedule, deployment: DeploymentKey, count: int, at: float = 0) -> None:
    for number in range(count):
        schedule.follow(question(deployment, number), at)


def taken(schedule: Schedule, now: float) -> list[Question]:
    found = []
    while (one := schedule.take(now)) is not None:
        found.append(one)
    return found


def test_a_pod_is_asked_when_it_is_due_and_not_twice_at_one_time() -> None:
    schedule = Schedule(SHARES)
    schedule.follow(question(("a", "d"), 1), 5)
    assert taken(schedule, 4.9) == []
    assert schedule.next_at() == 5
    (asked,) = taken(schedule, 5)
    assert taken(schedule, 100) == []
    schedule.ended(asked, 101, is_slow=False)
    assert schedule.next_at() == 101
    assert taken(schedule, 101) == [asked]


def test_a_deployment_gets_its_turn_among_the_pods_of_a_large_one() -> None:
    schedule = Schedule(SHARES)
    crowd(schedule, ("a", "large"), 640)
    schedule.follow(question(("a", "small"), 0), 0)
    first = [schedule.take(0), schedule.take(0)]
    assert {one.deployment[1] for one in first if one} == {"large", "small"}


@pytest.mark.parametrize("deployments", [1, 640])
def test_640_silent_pods_of_a_namespace_leave_slots_for_others_at_every_moment(
    deployments: int,
) -> None:
    """Each answers nothing for 2 s; a pod of another namespace is due every second."""
    schedule = Schedule(SHARES)
    for number in range(640):
        schedule.follow(question(("silent", f"d{number % deployments}"), number), 0)
    other = question(("other", "d"), 0)
    schedule.follow(other, 0)
    ends: list[tuple[float, Question]] = []
    waits = []
    for tick in range(400):
        now = tick / 10
        for at, one in [item for item in ends if item[0] <= now]:
            ends.remove((at, one))
            schedule.ended(one, now + 0.4, is_slow=True)
        due_at = tick // 10
        for one in taken(schedule, now):
            if one.deployment[0] == "other":
                waits.append(now - due_at)
                schedule.ended(one, due_at + 1, is_slow=False)
            else:
                ends.append((now + 2, one))
    assert len(waits) == 40
    assert max(waits) <= 0.1


def test_silent_pods_have_few_slots_once_they_are_known() -> None:
    schedule = Schedule(SHARES)
    crowd(schedule, ("a", "d"), 100)
    for one in taken(schedule, 0):
        schedule.ended(one, 1, is_slow=True)
    while rest := taken(schedule, 0):
        for one in rest:
            schedule.ended(one, 1, is_slow=True)
    assert len(taken(schedule, 1)) == SHARES.slow_in_namespace


def test_one_node_is_not_asked_for_all_its_pods_at_one_time() -> None:
    schedule = Schedule(SHARES)
    for number in range(50):
        schedule.follow(question(("a", f"d{number}"), number, node="n"), 0)
    schedule.follow(question(("a", "other"), 99), 0)
    assert len(taken(schedule, 0)) == SHARES.node + 1


def test_a_pod_that_is_another_is_asked_anew_though_it_is_being_asked() -> None:
    schedule = Schedule(SHARES)
    before = question(("a", "d"), 1)
    schedule.follow(before, 0)
    (asked,) = taken(schedule, 0)
    after = Question(before.deployment, Pod("d-1", "d-1", "c", "t", uid="d-1", nudge="x.1"))
    schedule.follow(after, 0.1)
    assert taken(schedule, 1) == []
    schedule.ended(asked, 60, is_slow=False)
    assert taken(schedule, 1) == [after]


def test_a_slot_of_a_pod_that_is_gone_is_given_back_when_its_question_ends() -> None:
    schedule = Schedule(Shares.of(1))
    schedule.follow(question(("a", "d"), 1), 0)
    (asked,) = taken(schedule, 0)
    schedule.drop(asked.key)
    schedule.follow(question(("a", "d"), 2), 0)
    assert taken(schedule, 1) == []
    schedule.ended(asked, 2, is_slow=False)
    assert len(taken(schedule, 2)) == 1
    assert len(schedule) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["follow", "take", "end", "drop", "hasten"]), st.integers(0, 5)),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_every_pod_is_asked_again_and_no_slot_is_lost(
    steps: list[tuple[str, int]],
) -> None:
    schedule = Schedule(Shares.of(4))
    pods = [question((f"ns{number % 2}", f"d{number % 3}"), number) for number in range(6)]
    asking: list[Question] = []
    followed: set[int] = set()
    for now, (what, number) in enumerate(steps):
        if what == "follow":
            schedule.follow(pods[number], now)
            followed.add(number)
        elif what == "take" and (one := schedule.take(now)):
            assert one not in asking
            asking.append(one)
        elif what == "end" and asking:
            schedule.ended(asking.pop(0), now + number, is_slow=number % 2 == 0)
        elif what == "drop":
            schedule.drop(pods[number].key)
            followed.discard(number)
        elif what == "hasten":
            schedule.hasten(pods[number].key, now)
        assert schedule.under_way == len(asking) <= 4
    for one in asking:
        schedule.ended(one, 1000, is_slow=False)
    heard: set[str] = set()
    for _ in range(20):
        for one in taken(schedule, 1000):
            heard.add(one.pod.name)
            schedule.ended(one, 2000, is_slow=False)
    assert heard == {pods[number].pod.name for number in followed}
