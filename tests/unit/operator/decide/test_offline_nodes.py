"""Nodes that are out of reach for long: what they hold when they return, a day and more later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node, offline
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from world import World

DAY_S = 24 * 3600.0
AWAY = "b"
STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]


def make_world(**rollout: Any) -> World:
    nodes = tuple(make_node(name) for name in ("a", AWAY, "c"))
    world = World(make_deployment(rollout={"steps": STEPS, **rollout}), make_model(), nodes)
    world.settle()
    return world


def lose(world: World) -> None:
    world.change_node(AWAY, offline)


def returns(world: World) -> None:
    world.change_node(AWAY, lambda node: replace(node, reachable=True))


def roll_out(world: World, version: str) -> None:
    world.model = make_model(version)
    world.settle()


def test_a_node_that_returns_a_day_later_takes_what_is_current_without_a_rollout() -> None:
    world = make_world()
    lose(world)
    for version in ("2.0.0", "3.0.0"):
        roll_out(world, version)
    assert world.served() == {"a": "3.0.0", AWAY: "1.0.0", "c": "3.0.0"}
    before = world.status
    world.turn_seconds(DAY_S)
    returns(world)
    world.events.clear()
    world.settle()
    assert set(world.served().values()) == {"3.0.0"}
    assert world.events == []
    assert world.status.rollout == before.rollout
    assert world.status.history == before.history
    assert world.status.units.offline == 0


def test_a_node_that_was_away_writes_one_patch_when_it_returns_and_no_file() -> None:
    world = make_world()
    lose(world)
    roll_out(world, "2.0.0")
    world.turn_seconds(DAY_S)
    returns(world)
    made = world.turn()
    assert [nudge.pod for nudge in made.nudges] == [
        pod.name for pod in world.pods.values() if pod.unit == AWAY
    ]
    assert [item for item in made.objects if item.ref.kind == "ConfigMap"] == []


def test_a_node_lost_in_the_middle_of_a_version_that_was_taken_back_returns_to_stable() -> None:
    world = make_world()
    world.refusals = {("a", "2.0.0"), ("c", "2.0.0")}
    world.model = make_model("2.0.0")
    world.turn_until(Stage.STEPPING)
    lose(world)
    world.settle()
    assert world.status.failed_revisions
    world.turn_seconds(DAY_S)
    returns(world)
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}


@pytest.mark.parametrize("days", [1, 400])
def test_the_time_away_fails_nobody_however_short_the_deadline(days: int) -> None:
    world = make_world(progressDeadline="10s")
    lose(world)
    roll_out(world, "2.0.0")
    world.turn_seconds(days * DAY_S)
    returns(world)
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert world.status.failed_revisions == ()


def test_a_fleet_that_is_away_for_a_day_goes_on_with_its_rollout_where_it_was() -> None:
    world = make_world(progressDeadline="60s")
    world.model = make_model("2.0.0")
    world.turn_until(Stage.STEPPING)
    nodes = world.nodes
    world.nodes = tuple(offline(node) for node in nodes)
    for _ in range(3):
        world.turn()
    world.turn_seconds(DAY_S)
    world.turn()
    world.nodes = nodes
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert world.status.failed_revisions == ()
