"""Replicas: how many units, on which hardware, and what moves them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import (
    NOW,
    PROFILES,
    cordoned,
    having,
    labelled,
    make_deployment,
    make_model,
    make_node,
    make_variant,
    offline,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.placement.fitting import Incumbents, Wish
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import PlacementResult, place
from world import World

CPU, GPU = "digits-cpu-amd64", "digits-nvidia-gpu-amd64"
STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]


def gpu_node(name: str, count: float = 1) -> Node:
    return make_node(name, having("nvidia.com/gpu", count))


def wish(replicas: int | None, *variants: dict[str, Any], **placement: Any) -> Wish:
    asked = {"mode": "Replicas"} | ({} if replicas is None else {"replicas": replicas})
    spec = make_deployment(placement={**asked, **placement}).spec.placement
    return Wish("digits", spec, make_model("1", *variants).spec.variants, PROFILES)


def cells(result: PlacementResult) -> dict[str, tuple[str, ...]]:
    return {cell.name: cell.units for cell in result.cells}


# --- where units go ---


def test_the_best_hardware_is_filled_first() -> None:
    nodes = [gpu_node("g"), make_node("a"), make_node("b")]
    placed = place(nodes, wish(3), Incumbents(NOW))
    assert cells(placed) == {GPU: ("digits-0",), CPU: ("digits-1", "digits-2")}
    assert placed.rejected == ()


def test_every_device_of_a_node_counts() -> None:
    assert cells(place([gpu_node("g", 4)], wish(3), Incumbents(NOW))) == {
        GPU: ("digits-0", "digits-1", "digits-2")
    }


def test_devices_that_other_deployments_hold_are_not_free() -> None:
    taken = {"g": {"nvidia.com/gpu": 1}}
    placed = place([gpu_node("g", 2)], wish(2), Incumbents(NOW, taken=taken))
    assert cells(placed) == {GPU: ("digits-0",), CPU: ("digits-1",)}


def test_one_replica_is_the_default() -> None:
    assert cells(place([make_node("a")], wish(None), Incumbents(NOW))) == {CPU: ("digits-0",)}


def test_without_fallback_the_rest_is_not_placed() -> None:
    asked = wish(3, accelerators=["gpu", "cpu"], fallback="Forbid")
    placed = place([gpu_node("g"), make_node("a")], asked, Incumbents(NOW))
    assert cells(placed) == {GPU: ("digits-0",)}
    assert placed.unplaced == 2


def test_architectures_of_one_entry_are_filled_evenly() -> None:
    nodes = [make_node(f"a{i}", arch="arm64") for i in range(2)] + [make_node("x")]
    placed = place(nodes, wish(3), Incumbents(NOW))
    assert {name: len(units) for name, units in cells(placed).items()} == {
        "digits-cpu-arm64": 2,
        "digits-cpu-amd64": 1,
    }


def test_a_node_that_can_take_no_unit_says_why() -> None:
    placed = place([make_node("a", cordoned), make_node("b", offline)], wish(1), Incumbents(NOW))
    assert [(one.node, one.reason) for one in placed.rejected] == [
        ("a", "NodeUnschedulable"),
        ("b", "NodeOffline"),
    ]
    assert placed.unplaced == 1


def test_a_unit_stays_though_better_hardware_appears() -> None:
    before = Incumbents(NOW, cells={"digits-0": CPU})
    assert cells(place([gpu_node("g")], wish(1), before)) == {CPU: ("digits-0",)}


def test_a_rollout_takes_it_to_the_better_hardware() -> None:
    before = Incumbents(NOW, cells={"digits-0": CPU}, climbing=frozenset({"digits-0"}))
    assert cells(place([gpu_node("g")], wish(1), before)) == {GPU: ("digits-0",)}


def test_a_rollout_takes_no_more_units_up_than_there_are_devices() -> None:
    names = [f"digits-{i}" for i in range(3)]
    before = Incumbents(NOW, cells=dict.fromkeys(names, CPU), climbing=frozenset(names))
    placed = place([gpu_node("g"), make_node("a")], wish(3), before)
    assert cells(placed) == {GPU: ("digits-0",), CPU: ("digits-1", "digits-2")}


def test_a_unit_that_finds_no_place_takes_the_next_entry() -> None:
    before = Incumbents(NOW, cells={"digits-0": GPU}, spilled=frozenset({"digits-0"}))
    assert cells(place([gpu_node("g")], wish(1), before)) == {CPU: ("digits-0",)}


def test_a_unit_that_finds_no_place_anywhere_goes_on_waiting() -> None:
    before = Incumbents(NOW, cells={"digits-0": GPU}, spilled=frozenset({"digits-0"}))
    asked = wish(1, accelerators=["gpu"])
    assert cells(place([gpu_node("g")], asked, before)) == {GPU: ("digits-0",)}


def test_a_unit_waits_for_its_hardware_for_the_grace_period_only() -> None:
    before = Incumbents(NOW, cells={"digits-0": GPU})
    waits = place([make_node("g")], wish(1), before)
    assert (cells(waits), waits.lost) == ({GPU: ("digits-0",)}, {"digits-0": NOW})
    late = replace(before, lost={"digits-0": NOW - timedelta(seconds=301)})
    assert cells(place([make_node("g")], wish(1), late)) == {CPU: ("digits-0",)}


def test_a_unit_whose_whole_fleet_is_out_of_reach_stays_where_it_is() -> None:
    long_ago = {"digits-0": NOW - timedelta(hours=5)}
    before = Incumbents(NOW, cells={"digits-0": CPU}, lost=long_ago)
    assert cells(place([make_node("a", offline)], wish(1), before)) == {CPU: ("digits-0",)}


def test_the_variant_follows_the_memory_of_the_nodes() -> None:
    variants = (make_variant("big", memory="3Gi"), make_variant("small", memory="32Mi"))
    little = make_node("a", having("memory", 2.0**30))
    placed = place([little], wish(1, *variants), Incumbents(NOW))
    assert [(cell.name, cell.variant.name) for cell in placed.cells] == [(f"{CPU}-v2", "small")]


fleets = st.lists(st.integers(0, 3), max_size=5).map(
    lambda counts: [
        gpu_node(f"n{index}", count) if count else make_node(f"n{index}")
        for index, count in enumerate(counts)
    ]
)


@given(fleets, st.integers(1, 9), st.dictionaries(st.integers(0, 4), st.integers(1, 2)))
def test_no_device_has_two_units(fleet: list[Node], replicas: int, held: dict[int, int]) -> None:
    taken = {f"n{index}": {"nvidia.com/gpu": count} for index, count in held.items()}
    placed = place(fleet, wish(replicas), Incumbents(NOW, taken=taken))
    free = sum(
        max(0, node.allocatable.get("nvidia.com/gpu", 0) - held.get(index, 0))
        for index, node in enumerate(fleet)
    )
    assert len(cells(placed).get(GPU, ())) <= free


@given(fleets, st.integers(1, 9))
def test_what_is_placed_stays_placed(fleet: list[Node], replicas: int) -> None:
    first = place(fleet, wish(replicas), Incumbents(NOW)).cell_of
    assert place(fleet, wish(replicas), Incumbents(NOW, cells=first)).cell_of == first


@given(fleets, st.integers(1, 9))
def test_a_node_that_is_added_moves_no_unit(fleet: list[Node], replicas: int) -> None:
    first = place(fleet, wish(replicas), Incumbents(NOW)).cell_of
    more = [*fleet, gpu_node("new", 2)]
    again = place(more, wish(replicas), Incumbents(NOW, cells=first)).cell_of
    assert {unit: again[unit] for unit in first} == first


# --- whole stories ---


def make_world(*nodes: Node, replicas: int = 3, **spec: Any) -> World:
    placement = {"mode": "Replicas", "replicas": replicas}
    deployment = make_deployment(placement=placement, rollout={"steps": STEPS}, **spec)
    return World(deployment, make_model(), nodes)


def test_the_replicas_come_up_and_serve() -> None:
    world = make_world(gpu_node("g"), make_node("a"), make_node("b"))
    world.settle()
    assert world.served() == dict.fromkeys(("digits-0", "digits-1", "digits-2"), "1.0.0")
    assert {pod.unit: pod.node for pod in world.pods.values()} == {
        "digits-0": "g",
        "digits-1": "a",
        "digits-2": "b",
    }
    assert world.status.units_text == "3/3"


def test_a_new_model_is_swapped_in_the_same_pods_step_by_step() -> None:
    world = make_world(make_node("a"), make_node("b"))
    world.settle()
    pods, world.model = set(world.pods), make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert sorted(world.served().values()) == ["1.0.0", "1.0.0", "2.0.0"]
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert set(world.pods) == pods
    assert world.least_serving == 3


def test_a_model_that_one_replica_refuses_is_taken_back() -> None:
    world = make_world(make_node("a"))
    world.settle()
    world.refusals = {(f"digits-{index}", "2.0.0") for index in range(3)}
    world.model = make_model("2.0.0")
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert "RolledBack" in world.events


def test_new_pod_settings_replace_one_pod_at_a_time() -> None:
    world = make_world(make_node("a"))
    world.settle()
    pods = set(world.pods)
    world.change(runtime={"resources": {"cpuLimit": "1"}})
    world.settle()
    assert not pods & set(world.pods)
    assert set(world.served().values()) == {"1.0.0"}
    assert world.least_serving == 2


def test_an_image_that_cannot_start_is_taken_back() -> None:
    world = make_world(make_node("a"))
    world.settle()
    world.broken_images = {"broken:1"}
    world.change(runtime={"image": "broken:1"})
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert world.least_serving == 2


def test_more_and_fewer_replicas_need_no_rollout() -> None:
    world = make_world(make_node("a"))
    world.settle()
    stable = world.status.stable_revision
    world.change(placement={"mode": "Replicas", "replicas": 5})
    world.settle()
    assert len(world.served()) == 5
    world.change(placement={"mode": "Replicas", "replicas": 1})
    world.settle()
    assert {pod.unit for pod in world.pods.values()} == {"digits-0"}
    assert world.status.stable_revision == stable


def test_a_device_that_strangers_hold_is_given_up_for_the_next_entry() -> None:
    world = make_world(gpu_node("g"), make_node("a"), replicas=1)
    world.foreign["g", "nvidia.com/gpu"] = 1
    world.settle()
    assert [pod.cell for pod in world.pods.values()] == [CPU]
    assert set(world.served().values()) == {"1.0.0"}


def test_it_comes_back_to_the_device_with_the_next_rollout_and_not_before() -> None:
    world = make_world(gpu_node("g"), make_node("a"), replicas=1)
    world.foreign["g", "nvidia.com/gpu"] = 1
    world.settle()
    world.foreign.clear()
    world.settle()
    assert [pod.cell for pod in world.pods.values()] == [CPU]
    world.model = make_model("2.0.0")
    world.settle()
    assert [pod.cell for pod in world.pods.values()] == [GPU]
    assert set(world.served().values()) == {"2.0.0"}


def test_a_climb_that_finds_no_place_ends_where_it_began() -> None:
    world = make_world(gpu_node("g"), make_node("a"), replicas=1)
    world.foreign["g", "nvidia.com/gpu"] = 1
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert [pod.cell for pod in world.pods.values()] == [CPU]
    assert set(world.served().values()) == {"2.0.0"}


def test_replicas_that_find_no_hardware_are_counted_and_named() -> None:
    placement = {"mode": "Replicas", "replicas": 2, "accelerators": ["gpu"], "fallback": "Forbid"}
    world = World(make_deployment(placement=placement), make_model(), (gpu_node("g"),))
    world.settle()
    ready = {one.type: one for one in world.status.conditions}["Ready"]
    assert (ready.status, ready.reason) == ("False", "InsufficientCapacity")
    assert "1 of 2 replicas have hardware" in ready.message


def test_another_selector_moves_the_pods_one_by_one() -> None:
    world = make_world(make_node("a"), make_node("b", labelled(site="x")), replicas=2)
    world.settle()
    selector = {"mode": "Replicas", "replicas": 2, "nodeSelector": {"site": "x"}}
    world.change(placement=selector)
    world.settle()
    assert {pod.node for pod in world.pods.values()} == {"b"}
    assert world.least_serving == 1
