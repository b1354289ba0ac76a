"""A new retry text: what failed is tried again once its cause is healed, and nothing else is."""

from __future__ import annotations

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import ConditionType, Reason
from world import World

UNITS = ("n0", "n1", "n2")
ROLLOUT = {"steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]}
REFUSED = {(unit, "2.0.0") for unit in UNITS}


def stable_world(*, tells_retry: bool = True, **rollout: object) -> World:
    nodes = tuple(make_node(name) for name in UNITS)
    world = World(make_deployment(rollout=ROLLOUT | rollout), make_model(), nodes)
    world.tells_retry = tells_retry
    world.settle()
    return world


def retry(world: World, text: str) -> None:
    world.change(rollout=world.deployment.spec.rollout.to_dict() | {"retry": text})
    world.events.clear()


def reason_of(world: World, kind: ConditionType) -> str:
    return next(one.reason for one in world.status.conditions if one.type == kind)


@pytest.mark.parametrize("tells_retry", [True, False], ids=["this runtime", "an older runtime"])
@pytest.mark.parametrize("times", [1, 3])
def test_once_the_cause_is_healed_a_retry_is_promoted(tells_retry: bool, times: int) -> None:
    world = stable_world(tells_retry=tells_retry)
    world.refusals = set(REFUSED)
    world.model = make_model("2.0.0")
    world.settle()
    for number in range(1, times):  # and was tried in vain before
        retry(world, f"{number}")
        world.settle()
        assert Reason.ROLLED_BACK in world.events
    world.refusals.clear()
    retry(world, "healed")
    world.settle()
    assert world.served() == dict.fromkeys(UNITS, "2.0.0")
    assert Reason.UNIT_FAILED not in world.events
    assert reason_of(world, ConditionType.READY) == Reason.STABLE


def test_a_retry_whose_cause_is_not_healed_is_taken_back_again() -> None:
    world = stable_world()
    world.refusals = set(REFUSED)
    world.model = make_model("2.0.0")
    world.settle()
    retry(world, "too soon")
    world.settle()
    assert world.served() == dict.fromkeys(UNITS, "1.0.0")
    assert [entry.retry for entry in world.status.failed_revisions] == ["too soon"]


def test_a_unit_that_refuses_stable_tries_it_again_on_a_retry() -> None:
    world = stable_world(failureLimit=1)
    world.refusals = {("n0", "2.0.0")}
    world.model = make_model("2.0.0")
    world.settle()
    assert world.served() == {"n0": "1.0.0", "n1": "2.0.0", "n2": "2.0.0"}
    world.refusals.clear()
    retry(world, "healed")
    world.settle()
    assert world.served() == dict.fromkeys(UNITS, "2.0.0")
    assert world.events == []


def test_a_retry_patches_only_the_pods_that_have_something_to_try() -> None:
    world = stable_world(failureLimit=1)
    world.refusals = {("n0", "2.0.0")}
    world.model = make_model("2.0.0")
    world.settle()
    retry(world, "healed")
    assert {nudge.pod.rsplit("-", 1)[-1] for nudge in world.plan().nudges} == {"n0"}


def test_the_end_of_a_trial_under_a_retry_text_tells_no_pod_anything_new() -> None:
    world = stable_world()
    retry(world, "once")
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    world.turn_before(Stage.IDLE)
    last = world.plan()
    assert last.objects
    assert last.nudges == ()
