"""A version without a build for units that serve: it is held, or they keep what they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import having, labelled, make_deployment, make_model, make_node, make_variant, offline
from skerry_operator.api.base import Condition
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase, Stage
from skerry_operator.constants import ANNOTATION_ABORT, ConditionType, Reason
from world import World

STEPS: dict[str, Any] = {
    "steps": [{"units": "1", "soak": "4s"}, {"units": "100%", "soak": "4s"}],
    "progressDeadline": "60s",
}
FOR_GPU = make_variant("gpu", version="2", runsOn=["gpu"])


def mixed_world(plain: int = 2, **rollout: Any) -> World:
    """One node with a GPU and some without, and version 1, which runs on all, as stable."""
    nodes = (
        make_node("gpu", having("nvidia.com/gpu")),
        *(make_node(f"plain-{index}") for index in range(plain)),
    )
    world = World(make_deployment(rollout=STEPS | rollout), make_model(), nodes)
    world.is_suspicious = True
    world.settle()
    return world


def gpu_only(version: str = "2.0.0") -> Any:
    return make_model(version, make_variant("gpu", version=version, runsOn=["gpu"]))


def condition(world: World, kind: ConditionType) -> Condition:
    return next(one for one in world.status.conditions if one.type == kind)


def asks(world: World, **rollout: Any) -> None:
    world.change(rollout=STEPS | rollout)


def test_a_version_without_a_build_for_units_that_serve_is_not_begun() -> None:
    world = mixed_world()
    stable = world.status.stable_revision
    world.model = gpu_only()
    world.turn()
    ready = condition(world, ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", Reason.UNITS_UNCOVERED)
    for word in ("2 units", "plain-0", "plain-1", "NoVariantFor", "onUncovered", "0 tolerated"):
        assert word in ready.message
    assert condition(world, ConditionType.STALLED).status == "True"
    assert condition(world, ConditionType.AVAILABLE).status == "True"
    assert (world.status.phase, world.status.units_text) == (Phase.PAUSED, "3/3")
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert world.status.rollout.stage is Stage.IDLE
    assert world.status.target_revision == world.status.stable_revision == stable


def test_the_nodes_that_a_held_version_has_nothing_for_are_rejected_with_the_reason() -> None:
    world = mixed_world()
    assert world.status.rejected_nodes == ()
    world.model = gpu_only()
    made = world.turn()
    found = {one.node: one.reason for one in world.status.rejected_nodes}
    assert found == {"plain-0": "NoVariantFor", "plain-1": "NoVariantFor"}
    assert world.status.rejected_count == 2
    assert condition(world, ConditionType.PLACED).status == "True"
    assert "NodeRejected" in [event.reason for event in made.events]
    world.model = make_model()
    world.settle()
    assert (world.status.rejected_nodes, world.status.rejected_count) == ((), 0)


def test_no_clock_runs_while_it_is_held() -> None:
    world = mixed_world()
    world.model = gpu_only()
    world.settle()
    world.turn_seconds(86400)
    made = world.plan()
    assert not made.watch_units
    assert made.events == ()


def test_a_build_for_all_lets_it_begin() -> None:
    world = mixed_world()
    world.model = gpu_only()
    world.settle()
    world.model = make_model("2.0.0", FOR_GPU, make_variant("cpu", version="2"))
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert condition(world, ConditionType.READY).status == "True"


def test_excluded_units_keep_their_revision_its_snapshot_and_its_file() -> None:
    world = mixed_world(onUncovered="Exclude")
    former = world.status.stable_revision
    world.model = gpu_only()
    world.settle()
    assert world.served() == {"gpu": "2.0.0", "plain-0": "1.0.0", "plain-1": "1.0.0"}
    assert world.status.stable_revision != former
    assert f"ControllerRevision/digits-{former}" in world.objects
    cell = next(one for one in world.observed().cells if "cpu" in one.name)
    assert cell.assignment.default == former
    assert former in cell.assignment.revisions
    ready = condition(world, ConditionType.READY)
    assert ready.status == "True"
    for word in ("2 units keep", "plain-0", "plain-1", str(former), "NoVariantFor"):
        assert word in ready.message
    assert (world.status.phase, world.status.units_text) == (Phase.STABLE, "3/3")
    kept = [(one.keeps, one.units) for one in world.status.cells if one.keeps]
    assert kept == [(former, 2)]


def test_they_keep_it_when_it_has_left_the_history() -> None:
    world = mixed_world(onUncovered="Exclude", historyLimit=1)
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        world.model = gpu_only(version)
        world.settle()
    assert world.served() == {"gpu": "4.0.0", "plain-0": "1.0.0", "plain-1": "1.0.0"}
    assert len(world.status.history) == 2


def test_an_excluded_pod_that_is_made_anew_gets_what_its_unit_keeps() -> None:
    world = mixed_world(onUncovered="Exclude")
    world.model = gpu_only()
    world.settle()
    world.pods = {name: pod for name, pod in world.pods.items() if pod.unit == "gpu"}
    world.reports = {unit: one for unit, one in world.reports.items() if unit == "gpu"}
    world.turn()
    world.settle()
    assert world.served()["plain-0"] == "1.0.0"


def test_an_excluded_unit_that_does_not_serve_is_seen() -> None:
    world = mixed_world(onUncovered="Exclude")
    world.model = gpu_only()
    world.settle()
    world.broken_units = {"plain-1"}
    world.turn()
    world.turn()
    assert condition(world, ConditionType.AVAILABLE).status == "False"
    assert "plain-1" in condition(world, ConditionType.READY).message


def test_the_next_version_with_a_build_for_all_takes_them_in_its_steps() -> None:
    world = mixed_world(onUncovered="Exclude")
    world.model = gpu_only()
    world.settle()
    world.model = make_model("3.0.0")
    world.turn_until(Stage.SOAKING)
    assert sorted(world.served().values()) == ["1.0.0", "1.0.0", "3.0.0"] or sorted(
        world.served().values()
    ) == ["1.0.0", "2.0.0", "3.0.0"]
    world.settle()
    assert set(world.served().values()) == {"3.0.0"}
    assert not any(one.keeps for one in world.status.cells)


@pytest.mark.parametrize("why", ["it is refused", "it is aborted", "the spec goes back"])
def test_a_later_version_that_is_taken_back_leaves_them_what_they_had(why: str) -> None:
    world = mixed_world(onUncovered="Exclude", historyLimit=1)
    for version in ("2.0.0", "2.1.0", "2.2.0"):
        world.model = gpu_only(version)
        world.settle()
    before = world.served()
    world.model = make_model("3.0.0")
    for _ in range(200):
        world.turn()
        if world.served().get("plain-0") == world.served().get("plain-1") == "3.0.0":
            break
    else:
        raise AssertionError("the units without a build of stable were never given the target")
    if why == "it is refused":
        world.refusals = {("gpu", "3.0.0")}
        world.reports.pop("gpu")
    elif why == "it is aborted":
        metadata = world.deployment.metadata.model_copy(
            update={"annotations": {ANNOTATION_ABORT: world.status.target_revision}}
        )
        world.deployment = world.deployment.model_copy(update={"metadata": metadata})
    else:
        world.model = gpu_only("2.2.0")
    world.turn()
    world.settle()
    assert world.served() == before


def test_allowed_they_lose_their_model_when_it_is_stable() -> None:
    world = mixed_world(onUncovered="Allow")
    world.model = gpu_only()
    begun = world.turn()
    assert "lose their model" in begun.events[0].message
    world.settle()
    assert world.served()["gpu"] == "2.0.0"
    assert {pod.unit for pod in world.pods.values()} == {"gpu"}


def test_one_box_within_the_failure_limit_holds_nothing_and_loses_nothing() -> None:
    world = mixed_world(plain=1, failureLimit=1)
    world.model = gpu_only()
    world.settle()
    assert world.served() == {"gpu": "2.0.0", "plain-0": "1.0.0"}
    ready = condition(world, ConditionType.READY)
    assert ready.status == "True"
    assert "plain-0" in ready.message


def test_an_offline_unit_holds_nothing_and_keeps_its_model() -> None:
    world = mixed_world(plain=1)
    world.change_node("plain-0", offline)
    world.model = gpu_only()
    world.settle()
    assert world.status.rollout.reason == Reason.PROMOTED
    world.change_node("plain-0", lambda node: replace(node, reachable=True))
    world.settle()
    assert world.served() == {"gpu": "2.0.0", "plain-0": "1.0.0"}
    ready = condition(world, ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", Reason.UNITS_UNCOVERED)
    assert world.status.phase == Phase.DEGRADED


def test_a_unit_whose_accelerator_is_missing_for_the_moment_holds_nothing() -> None:
    world = mixed_world()
    world.model = make_model("2.0.0", make_variant("cpu", version="2", runsOn=["cpu"]))
    world.change_node("gpu", having("nvidia.com/gpu", 0))
    world.settle()
    assert world.status.rollout.reason == Reason.PROMOTED


def test_nodes_that_a_selector_takes_away_hold_nothing() -> None:
    world = mixed_world(allowShrink=True)
    world.change_node("gpu", labelled(room="a"))
    world.change(placement={"nodeSelector": {"room": "a"}})
    world.model = gpu_only()
    world.settle()
    assert world.served() == {"gpu": "2.0.0"}


def test_nodes_that_never_had_the_model_hold_nothing() -> None:
    world = mixed_world(plain=0)
    world.nodes = (*world.nodes, make_node("late"))
    world.model = gpu_only()
    world.turn()
    world.settle()
    assert world.served()["gpu"] == "2.0.0"


def test_the_way_back_to_stable_and_to_the_history_is_never_held() -> None:
    world = mixed_world(onUncovered="Exclude")
    for model in (gpu_only(), make_model("3.0.0")):
        world.model = model
        world.settle()
    asks(world, onUncovered="Hold")
    world.model = gpu_only()  # it was stable before
    world.settle()
    assert world.served() == {"gpu": "2.0.0", "plain-0": "3.0.0", "plain-1": "3.0.0"}


def test_a_held_version_in_the_middle_of_another_takes_that_back() -> None:
    world = mixed_world()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    world.model = gpu_only("3.0.0")
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert condition(world, ConditionType.READY).reason == Reason.UNITS_UNCOVERED


def test_exclude_lets_a_held_version_go_on() -> None:
    world = mixed_world()
    world.model = gpu_only()
    world.settle()
    asks(world, onUncovered="Exclude")
    world.settle()
    assert world.served() == {"gpu": "2.0.0", "plain-0": "1.0.0", "plain-1": "1.0.0"}


def test_replicas_that_would_find_no_hardware_hold_it_too() -> None:
    nodes = (make_node("gpu", having("nvidia.com/gpu")), make_node("plain"))
    placement = {"mode": "Replicas", "replicas": 2}
    world = World(make_deployment(rollout=STEPS, placement=placement), make_model(), nodes)
    world.settle()
    world.model = gpu_only()
    world.settle()
    assert sorted(world.served().values()) == ["1.0.0", "1.0.0"]
    assert condition(world, ConditionType.READY).reason == Reason.UNITS_UNCOVERED


def test_more_memory_than_a_node_has_is_no_build_for_it_either() -> None:
    world = mixed_world(plain=1)
    world.model = make_model(
        "2.0.0",
        make_variant("gpu", version="2", runsOn=["gpu"]),
        make_variant("large", version="2", memory="64Gi"),
    )
    world.settle()
    ready = condition(world, ConditionType.READY)
    assert (ready.reason, "InsufficientMemory" in ready.message) == (Reason.UNITS_UNCOVERED, True)
