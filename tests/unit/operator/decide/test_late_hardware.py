"""A device plugin that registers after the kubelet: the unit stays, as it was promised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import having, make_deployment, make_model, make_node
from skerry_operator.constants import Reason
from skerry_operator.decide.placement.place import DEFAULT_GRACE_S
from world import World

GPU = "nvidia.com/gpu"
STEPS = {"steps": [{"units": "100%", "soak": "5s"}]}


def with_devices(count: int) -> object:
    return lambda node: replace(node, allocatable={**node.allocatable, GPU: count})


def rebooted(**placement: object) -> World:
    """The one GPU's node is back, its plugin is not: the kubelet refused the pod, a new one waits.

    Another node has only its CPU.
    """
    nodes = (make_node("n0", having(GPU)), make_node("n1"))
    world = World(make_deployment(rollout=STEPS, placement=placement), make_model(), nodes)
    world.settle()
    world.change_node("n0", with_devices(0))
    for name, pod in world.pods.items():
        if pod.node == "n0" and "nvidia" in pod.cell:
            world.reports.pop(pod.unit)
            world.pods[name] = replace(
                pod,
                name=name,
                uid="fresh",
                ready=False,
                node="",
                is_scheduled=False,
                waiting_reason="Unschedulable",
                created_at=world.now,
            )
    world.events.clear()
    return world


def look(world: World, seconds: float) -> None:
    """One look after some time; no pod follows: what waits goes on waiting."""
    world.turn_seconds(seconds)
    world.carry_out(world.plan())


def cells(world: World) -> dict[str, str]:
    """Unit -> cell of what makes its pod."""
    found = {}
    for template in world.observed().templates:
        for unit in (template.unit,) if template.unit else template.nodes:
            found[unit] = template.cell
    return found


@pytest.mark.parametrize(
    "placement",
    [pytest.param({}, id="PerNode"), pytest.param({"mode": "Replicas"}, id="Replicas")],
)
def test_a_unit_whose_pod_waits_for_a_late_plugin_stays_for_the_grace_period(
    placement: dict[str, object],
) -> None:
    world = rebooted(**placement)
    before = cells(world)
    for _ in range(9):
        look(world, (DEFAULT_GRACE_S - 5) / 9)
        assert cells(world) == before
    assert world.events == [Reason.HARDWARE_LOST]
    assert len(world.status.lost_hardware) == 1


@pytest.mark.parametrize(
    "placement",
    [pytest.param({}, id="PerNode"), pytest.param({"mode": "Replicas"}, id="Replicas")],
)
def test_a_plugin_that_comes_late_finds_the_unit_where_it_was(
    placement: dict[str, object],
) -> None:
    world = rebooted(**placement)
    objects = dict(world.objects)
    look(world, 60)
    look(world, 60)
    world.change_node("n0", with_devices(1))
    look(world, 1)  # the scheduler is not as quick
    look(world, 1)
    for name, pod in world.pods.items():
        node = pod.node or "n0"
        world.pods[name] = replace(pod, is_scheduled=True, node=node, waiting_reason="")
    look(world, 1)
    assert world.objects == objects
    assert world.events == [Reason.HARDWARE_LOST, Reason.HARDWARE_RETURNED]
    assert world.status.lost_hardware == ()


def test_a_plugin_that_never_comes_gives_the_unit_to_other_hardware_after_the_grace() -> None:
    world = rebooted()
    look(world, 1)
    look(world, DEFAULT_GRACE_S)
    assert "cpu" in cells(world)["n0"]


def test_a_replica_that_the_scheduler_does_not_take_back_goes_on_after_the_grace() -> None:
    world = rebooted(mode="Replicas")
    look(world, 60)
    world.change_node("n0", with_devices(1))
    look(world, 60)
    look(world, DEFAULT_GRACE_S)
    assert set(cells(world).values()) == {"digits-cpu-amd64"}


def test_a_pod_that_waits_for_a_device_that_another_holds_does_not_wait_for_the_grace() -> None:
    world = rebooted()
    world.change_node("n0", with_devices(1))
    world.taken = {"n0": {GPU: 1}}
    look(world, 1)
    assert "cpu" in cells(world)["n0"]
