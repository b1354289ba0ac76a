"""Model or engine are no use, or the model is deleted: what was begun still ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from builders import make_deployment, make_model, make_node, make_variant
from skerry_operator.api.base import ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase, Stage
from skerry_operator.plan import plan
from skerry_runtime.contract import Engine
from world import SETTINGS, World

NAMES = ("n0", "n1", "n2")
STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}


def deleted(world: World) -> None:
    world.model = None


def spoilt(world: World) -> None:
    world.model = make_model("3.0.0", make_variant(), make_variant())


def without_a_server(world: World) -> None:
    spec = world.deployment.spec
    runtime = spec.runtime.model_copy(update={"engine": Engine.TRITON})
    changed = spec.model_copy(update={"runtime": runtime})
    world.deployment = world.deployment.model_copy(update={"spec": changed})


TROUBLES = pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (deleted, "ModelNotFound"),
        (spoilt, "ModelInvalid"),
        (without_a_server, "InvalidSpec"),
    ],
)
Trouble = Callable[[World], None]


def make_world(**rollout: object) -> World:
    nodes = tuple(make_node(name) for name in NAMES)
    return World(make_deployment(rollout={**STEPS, **rollout}), make_model(), nodes)


def in_mid_rollout(**rollout: object) -> World:
    world = make_world(**rollout)
    world.settle()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    return world


def condition(world: World, name: str) -> tuple[ConditionStatus, str]:
    found = next(one for one in world.status.conditions if one.type == name)
    return found.status, found.reason


@TROUBLES
def test_a_bad_canary_is_taken_back_all_the_same(trouble: Trouble, reason: str) -> None:
    world = in_mid_rollout()
    stable = world.status.stable_revision
    trouble(world)
    world.refusals = {(name, "2.0.0") for name in NAMES}
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert (world.status.stable_revision, world.status.target_revision) == (stable, stable)
    assert len(world.status.failed_revisions) == 1
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)


@TROUBLES
def test_a_rollback_that_was_under_way_comes_to_its_end(trouble: Trouble, reason: str) -> None:
    world = in_mid_rollout()
    world.model = make_model()  # back to stable: nothing is held against the target
    made = world.plan()
    world.carry_out(made, most=1)
    assert world.status.rollout.stage is Stage.ROLLING_BACK
    trouble(world)
    world.settle()
    assert world.status.rollout.stage is Stage.IDLE
    assert set(world.served().values()) == {"1.0.0"}
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)


@TROUBLES
def test_a_good_rollout_goes_on_to_its_end_and_the_trouble_is_told(
    trouble: Trouble, reason: str
) -> None:
    world = in_mid_rollout()
    trouble(world)
    world.turn()
    assert condition(world, "Progressing")[0] is ConditionStatus.TRUE
    assert condition(world, "Reconciling")[0] is ConditionStatus.TRUE
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)
    assert condition(world, "Available")[0] is ConditionStatus.TRUE
    assert world.status.phase is Phase.DEGRADED
    assert world.events.count(reason) == 1


@TROUBLES
def test_the_deadline_of_a_first_deployment_still_counts(trouble: Trouble, reason: str) -> None:
    world = make_world(progressDeadline="60s")
    world.refusals = {(name, "1.0.0") for name in NAMES}
    world.turn()
    trouble(world)
    world.settle()
    assert len(world.status.failed_revisions) == 1
    assert world.status.rollout.stage is Stage.IDLE
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)


@TROUBLES
def test_stable_is_kept_up(trouble: Trouble, reason: str) -> None:
    world = make_world()
    world.settle()
    trouble(world)
    world.nodes = (*world.nodes, make_node("new"))
    del world.objects["ConfigMap/digits-cpu-amd64"]
    world.carry_out(world.plan())
    world.settle()
    assert set(world.served()) == {*NAMES, "new"}
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)


@TROUBLES
def test_nothing_is_begun(trouble: Trouble, reason: str) -> None:
    world = make_world()
    trouble(world)
    world.settle()
    assert world.objects == {}
    assert condition(world, "Ready") == (ConditionStatus.FALSE, reason)


def test_when_the_model_is_back_a_failed_revision_is_not_tried_again() -> None:
    world = in_mid_rollout()
    world.model = None
    world.refusals = {(name, "2.0.0") for name in NAMES}
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert condition(world, "Ready") == (ConditionStatus.FALSE, "RolledBack")
    assert set(world.served().values()) == {"1.0.0"}


def test_a_model_that_cannot_be_read_is_one_that_is_no_use() -> None:
    world = make_world()
    world.settle()
    observed = replace(world.observed(), model=None, model_problem="spec.variants: too few")
    made = plan(observed, world.profiles, SETTINGS)
    assert made.status
    assert made.status.conditions[0].reason == "ModelInvalid"
    assert "spec.variants: too few" in made.status.conditions[0].message


def test_a_server_without_an_image_names_both_places_where_one_may_stand() -> None:
    world = make_world()
    without_a_server(world)
    world.settle()
    ready = next(one for one in world.status.conditions if one.type == "Ready")
    assert "spec.runtime.engine is Triton, and there is no image of the server" in ready.message
    assert "spec.runtime.tritonImage" in ready.message
    assert "the chart value tritonImage" in ready.message


def test_a_server_is_rolled_out_in_new_pods_once_the_operator_has_an_image() -> None:
    world = make_world()
    world.settle()
    before = set(world.pods)
    without_a_server(world)
    world.settle()
    assert set(world.pods) == before
    world.settings = replace(SETTINGS, triton_image="triton:1")
    world.settle()
    assert not before & set(world.pods)
    assert condition(world, "Ready")[0] is ConditionStatus.TRUE
    world.settings = SETTINGS  # the revision has its image
    world.settle()
    assert condition(world, "Ready")[0] is ConditionStatus.TRUE
