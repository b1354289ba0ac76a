"""Nodes and devices that come and go in every stage of a rollout: it still comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from builders import (
    having,
    make_deployment,
    make_model,
    make_node,
    offline,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from world import World

STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]
ROLLOUT = {"steps": STEPS, "maxUnavailable": 2}


def make_world() -> World:
    nodes = (
        make_node("a"),
        make_node("b"),
        make_node("g", having("nvidia.com/gpu")),
        make_node("off", offline),
    )
    world = World(make_deployment(rollout=ROLLOUT), make_model(), nodes, is_suspicious=True)
    world.settle()
    return world


def a_node_joins(world: World) -> None:
    world.nodes = (*world.nodes, make_node("new"))


def a_node_leaves(world: World) -> None:
    drop(world, "a")


def the_canary_leaves(world: World) -> None:
    drop(world, canary(world))


def the_canary_is_lost(world: World) -> None:
    world.change_node(canary(world), offline)


def a_node_is_named_anew(world: World) -> None:
    drop(world, "b")
    world.nodes = (*world.nodes, make_node("b2"))


def an_offline_node_returns(world: World) -> None:
    world.change_node("off", lambda node: replace(node, reachable=True))


def a_node_is_lost(world: World) -> None:
    world.change_node("a", offline)


def a_device_is_lost_for_good(world: World) -> None:
    world.change_node("g", lambda node: replace(node, allocatable={"cpu": 4.0}))
    world.now = world.now.replace(hour=world.now.hour + 1)


def a_device_appears(world: World) -> None:
    world.change_node("b", having("nvidia.com/gpu"))


def all_nodes_go_and_come_back(world: World) -> None:
    nodes = world.nodes
    world.nodes = tuple(offline(node) for node in nodes)
    for _ in range(5):
        world.turn()
    world.nodes = nodes


def the_operator_sees_no_node_for_a_while(world: World) -> None:
    nodes, world.nodes = world.nodes, ()
    before = set(world.objects)
    world.carry_out(world.plan())
    assert set(world.objects) == before
    world.nodes = nodes


def canary(world: World) -> str:
    cells = world.observed().cells
    return next(unit for cell in cells for unit in cell.assignment.units)


def drop(world: World, name: str) -> None:
    world.nodes = tuple(node for node in world.nodes if node.name != name)
    world.pods = {key: pod for key, pod in world.pods.items() if pod.unit != name}
    world.reports.pop(name, None)


CHANGES = (
    a_node_joins,
    a_node_leaves,
    the_canary_leaves,
    the_canary_is_lost,
    a_node_is_named_anew,
    an_offline_node_returns,
    a_node_is_lost,
    a_device_is_lost_for_good,
    a_device_appears,
    all_nodes_go_and_come_back,
    the_operator_sees_no_node_for_a_while,
)


@pytest.mark.parametrize("stage", [Stage.STEPPING, Stage.SOAKING])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_good_rollout_reaches_every_unit(change: Callable[[World], None], stage: Stage) -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.turn_until(stage)
    change(world)
    world.settle()
    assert on_reachable(world) == {"2.0.0"}
    assert world.status.stable_revision == world.status.target_revision
    assert world.status.failed_revisions == ()


@pytest.mark.parametrize(
    "change",
    [change for change in CHANGES if "canary" not in change.__name__],
    ids=lambda change: change.__name__,
)
def test_a_bad_rollout_is_taken_back_everywhere(change: Callable[[World], None]) -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    world.refusals = {(name, "2.0.0") for name in ("a", "b", "b2", "g", "new", "off")}
    world.turn_until(Stage.ROLLING_BACK)
    change(world)
    world.settle()
    assert on_reachable(world) == {"1.0.0"}
    assert len(world.status.failed_revisions) == 1


def on_reachable(world: World) -> set[str | None]:
    served = world.served()
    return {served.get(node.name) for node in world.nodes if node.reachable}
