"""What people are told about placement: one condition, and an event when something changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import cordoned, having, labelled, make_deployment, make_model, make_node, offline
from skerry_operator.api.base import Condition
from skerry_operator.decide.placement.nodes import Node
from world import World

GPU = having("nvidia.com/gpu")


def make_world(*nodes: Node, **placement: Any) -> World:
    world = World(make_deployment(placement=placement), make_model(), nodes)
    world.settle()
    return world


def placed(world: World) -> Condition:
    return {one.type: one for one in world.status.conditions}["Placed"]


def without_gpu(node: Node) -> Node:
    return replace(node, allocatable={"cpu": 4.0, "memory": 4 * 2.0**30})


def test_placed_is_true_when_every_matching_node_has_a_unit() -> None:
    world = make_world(make_node("a"), make_node("b", GPU))
    assert (placed(world).status, placed(world).reason) == ("True", "Placed")


def test_better_hardware_that_is_there_and_not_used_is_named_with_the_reason() -> None:
    hailo = labelled(hailo_ai__device="present")
    world = make_world(make_node("a"), make_node("b", hailo, arch="arm64"))
    condition = placed(world)
    assert condition.status == "True"
    assert "not used: b: AcceleratorMissing: label present, no allocatable hailo.ai/h8" in (
        condition.message
    )
    assert "a:" not in condition.message


@pytest.mark.parametrize(
    ("nodes", "reason", "words"),
    [
        pytest.param(
            (make_node("a"), make_node("b", cordoned)),
            "NodesRejected",
            "1 of 2 matching nodes have no unit (NodeUnschedulable 1): b: NodeUnschedulable: "
            "the node is cordoned: `kubectl uncordon b`",
            id="some nodes have a unit",
        ),
        pytest.param(
            (make_node("a", offline), make_node("b", cordoned)),
            "NoEligibleNodes",
            "2 of 2 matching nodes have no unit (NodeOffline 1, NodeUnschedulable 1)",
            id="none has",
        ),
    ],
)
def test_placed_is_false_with_the_count_the_reasons_and_a_remedy(
    nodes: tuple[Node, ...], reason: str, words: str
) -> None:
    condition = placed(make_world(*nodes))
    assert (condition.status, condition.reason) == ("False", reason)
    assert words in condition.message


def test_a_selector_that_matches_nothing_is_named() -> None:
    condition = placed(make_world(make_node("a"), nodeSelector={"site": "moon"}))
    assert (condition.status, condition.reason) == ("False", "NoEligibleNodes")
    assert "spec.placement.nodeSelector" in condition.message


def test_a_spec_that_cannot_be_placed_keeps_what_was_known_and_says_why() -> None:
    world = make_world(make_node("a"))
    world.change(placement={"accelerators": ["npuu"]})
    world.settle()
    ready = {one.type: one for one in world.status.conditions}["Ready"]
    assert ready.reason == "InvalidSpec"
    assert "spec.placement.accelerators names 'npuu'" in ready.message
    assert placed(world).status == "True"
    assert world.served() == {"a": "1.0.0"}


def test_an_entry_that_is_named_twice_is_a_condition() -> None:
    world = World(make_deployment(), make_model(), (make_node("a"),))
    world.change(placement={"accelerators": ["cpu", "cpu"]})
    world.settle()
    ready = {one.type: one for one in world.status.conditions}["Ready"]
    assert "names 'cpu' twice: remove one" in ready.message


def test_replicas_of_a_deployment_per_node_are_a_condition() -> None:
    world = World(make_deployment(), make_model(), (make_node("a"),))
    world.change(placement={"replicas": 2})
    world.settle()
    ready = {one.type: one for one in world.status.conditions}["Ready"]
    assert "spec.placement.replicas is 2 with mode PerNode" in ready.message


def test_hardware_that_goes_and_returns_is_told_once_each() -> None:
    world = make_world(make_node("g", GPU))
    world.events.clear()
    world.change_node("g", without_gpu)
    world.settle()
    assert world.events == ["HardwareLost"]
    world.change_node("g", GPU)
    world.settle()
    assert world.events == ["HardwareLost", "HardwareReturned"]


def test_a_unit_that_moves_for_good_is_told() -> None:
    world = make_world(make_node("g", GPU))
    world.change_node("g", without_gpu)
    world.turn()
    world.turn_seconds(301)
    world.events.clear()
    world.settle()
    assert world.events == ["UnitMoved"]
    assert [pod.cell for pod in world.pods.values()] == ["digits-cpu-amd64"]


def test_a_node_that_is_newly_rejected_is_told_once_and_one_that_is_offline_is_not() -> None:
    world = make_world(make_node("a"), accelerators=["gpu"], nodeSelector={"site": "x"})
    world.events.clear()
    world.nodes = (
        make_node("b", labelled(site="x")),
        make_node("c", GPU, labelled(site="x"), offline),
    )
    world.settle()
    assert world.events == ["NodeRejected"]


def test_a_device_that_another_deployment_holds_is_named_as_such() -> None:
    world = World(
        make_deployment(placement={"accelerators": ["gpu"]}),
        make_model(),
        (make_node("g", GPU),),
        taken={"g": {"nvidia.com/gpu": 1}},
    )
    world.settle()
    rejected = world.status.rejected_nodes[0]
    assert rejected.reason == "AcceleratorInUse"
    assert "nvidia.com/gpu is held by pods of other EdgeDeployments" in rejected.message
    world.taken = {}
    world.settle()
    assert world.served() == {"g": "1.0.0"}
