"""A changed toleration reaches the pods that run, where they can feel it."""

from __future__ import annotations

from typing import Any

import pytest

from builders import CPU, make_deployment, make_model, make_node
from world import World

EVICTS = {"key": "repair", "operator": "Exists", "effect": "NoExecute"}
ALL_EFFECTS = {"key": "repair", "operator": "Exists"}
OPENS = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}


def world_of(*tolerations: dict[str, str]) -> World:
    deployment = make_deployment(placement={"tolerations": list(tolerations)})
    nodes = tuple(make_node(f"n{index}") for index in range(4))
    world = World(deployment, make_model(), nodes, profiles=(CPU,))
    world.settle()
    return world


def templates(world: World) -> list[Any]:
    sets = (one for key, one in sorted(world.objects.items()) if key.startswith("DaemonSet/"))
    return [one.body["spec"]["template"]["spec"]["tolerations"] for one in sets]


@pytest.mark.parametrize("changed", [EVICTS, ALL_EFFECTS])
def test_one_against_eviction_replaces_the_pods_one_by_one(changed: dict[str, str]) -> None:
    world = world_of()
    before = set(world.pods)
    world.change(placement={"tolerations": [changed]})
    world.settle()
    assert before.isdisjoint(world.pods)
    assert world.least_serving == 3
    (tolerations,) = templates(world)
    assert changed.items() <= tolerations[-1].items()


def test_one_that_is_taken_away_replaces_them_too() -> None:
    world = world_of(EVICTS)
    before = set(world.pods)
    world.change(placement={"tolerations": []})
    world.settle()
    assert before.isdisjoint(world.pods)


def test_one_that_only_opens_nodes_replaces_no_pod_and_is_there_for_the_next() -> None:
    world = world_of()
    before = set(world.pods)
    world.change(placement={"tolerations": [OPENS]})
    world.settle()
    assert set(world.pods) == before
    (tolerations,) = templates(world)
    assert any(OPENS.items() <= one.items() for one in tolerations)


def test_the_order_of_tolerations_means_nothing() -> None:
    world = world_of(EVICTS, ALL_EFFECTS)
    before = set(world.pods)
    world.change(placement={"tolerations": [ALL_EFFECTS, EVICTS]})
    world.settle()
    assert set(world.pods) == before
