"""Who may write: the Lease, its fence, and its end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fake_kube import Answer, FakeKube, refusal
from skerry_operator.kube.client import LEASE_TIMEOUT_S, TIMEOUT_S, KubeClient
from skerry_operator.kube.errors import Fenced
from skerry_operator.kube.lease import (
    DURATION_S,
    MARGIN_S,
    RENEW_S,
    RETRY_S,
    Elector,
    LeaseLost,
    LeaseName,
    Sighting,
    sight,
)

PATH = "/apis/coordination.k8s.io/v1/namespaces/skerry/leases/op"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def elector(client: KubeClient, time: Time) -> Elector:
    return elector_of(client, time, "me")


def elector_of(client: KubeClient, time: Time, identity: str) -> Elector:
    def now() -> datetime:
        return datetime.fromtimestamp(time.now, UTC)

    return Elector(client, LeaseName("skerry", "op", identity), now=now, monotonic=time)


def is_open(elector: Elector) -> bool:
    try:
        elector.check()
    except Fenced:
        return False
    return True


def holder(kube: FakeKube) -> str:
    return str(kube.objects[PATH]["spec"]["holderIdentity"])


async def test_a_lease_that_nobody_holds_is_taken(kube: FakeKube, elector: Elector) -> None:
    assert not is_open(elector)
    await elector.acquire()
    assert is_open(elector)
    assert holder(kube) == "me"
    await elector.release()


async def test_the_fence_closes_before_another_may_take_the_lease(
    elector: Elector, time: Time
) -> None:
    await elector.acquire()
    time.now += DURATION_S - MARGIN_S - 0.1
    assert is_open(elector)
    time.now += 0.2
    assert not is_open(elector)
    await elector.release()


async def test_a_held_lease_is_taken_only_after_it_was_not_renewed_for_its_duration(
    client: KubeClient, kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    other = elector_of(client, time, "other")
    assert not other._try_once()
    time.now += DURATION_S - 0.1
    assert not other._try_once()
    time.now += 0.2
    assert other._try_once()
    assert holder(kube) == "other"
    assert kube.objects[PATH]["spec"]["leaseTransitions"] == 2


async def test_a_renewal_starts_the_other_s_wait_anew(
    client: KubeClient, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    other = elector_of(client, time, "other")
    for _ in range(4):
        assert not other._try_once()
        time.now += 5
        assert elector._try_once()
    assert is_open(elector)


async def test_a_process_that_was_paused_finds_the_fence_closed_and_the_lease_gone(
    client: KubeClient, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    other = elector_of(client, time, "other")
    other._try_once()
    time.now += 60
    assert other._try_once()
    assert not is_open(elector)
    assert not elector._try_once()
    with pytest.raises(LeaseLost, match="held by other"):
        elector._give_up_if_lost()


async def test_a_server_that_does_not_answer_costs_the_lease_only_in_the_end(
    kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    kube.script("GET leases/op", *[refusal(503, "Unavailable")] * 3)
    time.now += 5
    assert not elector._try_once()
    elector._give_up_if_lost()
    time.now += 5
    assert not elector._try_once()
    elector._give_up_if_lost()
    time.now += DURATION_S - MARGIN_S - 10
    assert not elector._try_once()
    with pytest.raises(LeaseLost, match="could not be renewed"):
        elector._give_up_if_lost()


async def test_of_two_that_ask_at_one_time_one_gets_it(
    client: KubeClient, kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    time.now += 60
    kube.script("PUT leases/op", refusal(409, "Conflict"))
    assert not elector_of(client, time, "other")._try_once()
    assert holder(kube) == "me"


async def test_a_lease_given_back_is_taken_at_once(
    client: KubeClient, kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    await elector.release()
    assert holder(kube) == ""
    assert not is_open(elector)
    other = elector_of(client, time, "other")
    assert other._try_once()


async def test_a_lease_of_another_is_not_given_back(
    client: KubeClient, kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    kube.objects[PATH]["spec"]["holderIdentity"] = "other"
    await elector.release()
    assert holder(kube) == "other"


def test_a_sighting_counts_from_the_first_look_not_from_the_holder_s_clock() -> None:
    first = sight({"holderIdentity": "a", "renewTime": "2001", "leaseDurationSeconds": 9}, None, 5)
    assert first == Sighting("a", "2001", 9.0, 5)
    again = sight({"holderIdentity": "a", "renewTime": "2001"}, first, 8)
    assert again is first
    assert not again.is_abandoned(13.9)
    assert again.is_abandoned(14.0)


def test_a_request_under_way_has_ended_before_the_lease_can_be_taken() -> None:
    assert sum(TIMEOUT_S) <= MARGIN_S
    # and two renewals in a row may hang, each to the end of its own time
    hang = 2 * sum(LEASE_TIMEOUT_S)  # a read, then a write
    assert RENEW_S + 2 * hang + RETRY_S <= DURATION_S - MARGIN_S + hang


DEPLOYMENT = "/apis/apps/v1/namespaces/skerry/deployments/op"


def owned(client: KubeClient, time: Time) -> Elector:
    name = LeaseName("skerry", "op", "me", owner="op")
    return Elector(client, name, now=lambda: datetime.fromtimestamp(time.now, UTC), monotonic=time)


def owners(kube: FakeKube) -> list[str]:
    found = kube.objects[PATH]["metadata"].get("ownerReferences", [])
    return [f"{one['apiVersion']} {one['kind']} {one['name']} {one['uid']}" for one in found]


async def test_the_lease_belongs_to_the_operator_s_deployment_and_stays_so(
    client: KubeClient, kube: FakeKube, time: Time
) -> None:
    kube.objects[DEPLOYMENT] = {"metadata": {"name": "op", "uid": "u-1"}}
    elector = owned(client, time)
    await elector.acquire()
    assert owners(kube) == ["apps/v1 Deployment op u-1"]
    assert elector._try_once()
    assert owners(kube) == ["apps/v1 Deployment op u-1"]
    await elector.release()
    assert owners(kube) == ["apps/v1 Deployment op u-1"]


async def test_a_lease_of_an_operator_that_set_no_owner_gets_one(
    client: KubeClient, kube: FakeKube, elector: Elector, time: Time
) -> None:
    await elector.acquire()
    await elector.release()
    assert owners(kube) == []
    kube.objects[DEPLOYMENT] = {"metadata": {"name": "op", "uid": "u-1"}}
    heir = owned(client, time)
    await heir.acquire()
    assert owners(kube) == ["apps/v1 Deployment op u-1"]
    await heir.release()


@pytest.mark.parametrize("answer", [refusal(403, "Forbidden"), refusal(404, "NotFound")])
async def test_an_owner_that_cannot_be_read_keeps_nobody_from_the_lease(
    client: KubeClient, kube: FakeKube, time: Time, answer: Answer
) -> None:
    kube.script("GET deployments/op", answer)
    elector = owned(client, time)
    await elector.acquire()
    assert is_open(elector)
    assert owners(kube) == []
    await elector.release()


async def test_an_api_server_that_is_away_is_asked_for_the_owner_again(
    client: KubeClient, kube: FakeKube, time: Time
) -> None:
    kube.objects[DEPLOYMENT] = {"metadata": {"name": "op", "uid": "u-1"}}
    kube.script("GET deployments/op", refusal(503, "Unavailable"))
    elector = owned(client, time)
    assert not elector._try_once()
    assert elector._try_once()
    assert owners(kube) == ["apps/v1 Deployment op u-1"]
    await elector.release()
