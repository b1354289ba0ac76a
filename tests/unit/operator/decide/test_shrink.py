"""Serving is serving: what most units have is not taken away by a slip of the spec."""

from __future__ import annotations

from typing import Any

import pytest

from builders import having, labelled, make_deployment, make_model, make_node, make_variant
from skerry_operator.api.v1alpha1.edgedeployment_status import PlacementInForce
from skerry_operator.constants import ConditionType, Reason
from world import World

UNITS = ("n0", "n1", "n2", "n3")
STEPS = {"steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]}
ALL = dict.fromkeys(UNITS, "1.0.0")
GPU = "nvidia.com/gpu"


def stable_world(**placement: Any) -> World:
    """Four units on CPUs; n0 and n1 have the label row=a, n2 has row=b."""
    rows = {"n0": "a", "n1": "a", "n2": "b", "n3": "c"}
    nodes = tuple(make_node(name, labelled(row=row)) for name, row in rows.items())
    world = World(make_deployment(rollout=STEPS, placement=placement), make_model(), nodes)
    world.settle()
    assert world.served() == ALL
    return world


def placed_by(world: World, allow: bool = False, **placement: Any) -> World:
    """Edit the placement, and let everything follow."""
    world.change(placement=placement, rollout=STEPS | {"allowShrink": allow})
    world.events.clear()
    world.settle()
    return world


def condition(world: World, kind: ConditionType) -> tuple[str, str]:
    found = (one for one in world.status.conditions if one.type == kind)
    return next(((one.status, one.reason) for one in found), ("", ""))


def message(world: World) -> str:
    return next(c.message for c in world.status.conditions if c.type == ConditionType.READY)


def is_held(world: World) -> bool:
    return condition(world, ConditionType.STALLED) == ("True", Reason.PLACEMENT_HELD)


@pytest.mark.parametrize(
    ("placement", "left", "field"),
    [
        pytest.param({"nodeSelector": {"row": "nowhere"}}, 0, "nodeSelector", id="nothing"),
        pytest.param({"nodeSelector": {"row": "b"}}, 1, "nodeSelector", id="less than half"),
        pytest.param({"accelerators": ["npu"]}, 0, "accelerators", id="hardware of no node"),
    ],
)
def test_a_change_that_would_leave_less_than_half_of_what_serves_is_held(
    placement: dict[str, Any], left: int, field: str
) -> None:
    world = stable_world()
    pods = dict(world.pods)
    placed_by(world, **placement)
    assert is_held(world)
    assert condition(world, ConditionType.READY) == ("False", Reason.PLACEMENT_HELD)
    assert condition(world, ConditionType.AVAILABLE) == ("True", Reason.SERVING)
    assert world.status.units_text == "4/4"
    assert (world.served(), world.pods) == (ALL, pods)
    assert f"spec.placement.{field} is held: it would leave {left} of 4 units" in message(world)
    assert "without n0" in message(world)
    assert "allowShrink" in message(world)
    assert world.events == [Reason.PLACEMENT_HELD]


def test_a_change_that_leaves_half_of_what_serves_is_carried_out() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "a"})
    assert not is_held(world)
    assert world.served().keys() == {"n0", "n1"}


def test_a_person_can_say_that_it_is_meant() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "b"})
    assert is_held(world)
    placed_by(world, allow=True, nodeSelector={"row": "b"})
    assert not is_held(world)
    assert world.served().keys() == {"n2"}


def test_to_forbid_the_fallback_is_held_where_it_would_leave_too_few() -> None:
    world = stable_world(accelerators=["gpu", "cpu"])
    placed_by(world, accelerators=["gpu", "cpu"], fallback="Forbid")
    assert is_held(world)
    assert "spec.placement.fallback" in message(world)
    assert world.served() == ALL


def test_another_order_of_accelerators_moves_units_and_is_not_held() -> None:
    world = stable_world()
    world.change_node("n0", having(GPU))
    placed_by(world, accelerators=["cpu", "gpu"])
    assert not is_held(world)
    assert world.served() == ALL


def test_what_is_held_is_carried_out_as_soon_as_enough_nodes_match() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "b"})
    world.change_node("n3", labelled(row="b"))
    world.settle()
    assert not is_held(world)
    assert world.served().keys() == {"n2", "n3"}


def test_a_spec_that_is_taken_back_is_held_no_longer_and_nobody_went_away() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "nowhere"})
    placed_by(world)
    assert not is_held(world)
    assert condition(world, ConditionType.READY) == ("True", Reason.STABLE)
    assert world.least_serving == 4


def test_nodes_that_lose_their_label_are_the_worlds_word_and_not_held() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "a"})
    for name in ("n0", "n1"):
        world.change_node(name, labelled(row="z"))
    world.settle()
    assert not is_held(world)
    assert world.served() == {}


def test_a_rollout_goes_on_with_its_gates_while_a_placement_is_held() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "nowhere"})
    world.refusals = {(unit, "2.0.0") for unit in UNITS}
    world.model = make_model("2.0.0")
    world.settle()
    assert Reason.ROLLED_BACK in world.events
    world.model = make_model("3.0.0")
    world.settle()
    assert world.served() == dict.fromkeys(UNITS, "3.0.0")
    assert is_held(world)


def test_a_node_that_joins_while_a_placement_is_held_is_placed_by_what_is_in_force() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "nowhere"})
    world.nodes = (*world.nodes, make_node("n4"))
    world.settle()
    assert world.served().keys() == {*UNITS, "n4"}


def test_an_operator_that_has_heard_of_no_pod_yet_holds_it_too() -> None:
    world = placed_by(stable_world(), nodeSelector={"row": "nowhere"})
    world.reports.clear()
    made = world.plan()
    assert (made.objects, made.prune) == ((), ())


def test_units_that_do_not_serve_have_nothing_that_could_be_taken_away() -> None:
    world = stable_world()
    world.broken_units = {"n0", "n1", "n3"}
    for unit in world.broken_units:
        world.reports.pop(unit)
    world.pods_follow()
    placed_by(world, nodeSelector={"row": "b"})
    assert not is_held(world)


def test_a_status_of_an_older_operator_knows_no_placement_and_holds_nothing() -> None:
    world = stable_world()
    status = world.status.model_copy(update={"placement_in_force": None})
    world.deployment = world.deployment.model_copy(update={"status": status})
    placed_by(world, nodeSelector={"row": "b"})
    assert not is_held(world)


def test_a_word_of_a_newer_operator_in_the_status_breaks_nothing() -> None:
    world = stable_world()
    kept = PlacementInForce(fallback="Sometimes")
    status = world.status.model_copy(update={"placement_in_force": kept})
    world.deployment = world.deployment.model_copy(update={"status": status})
    placed_by(world, nodeSelector={"row": "nowhere"})
    assert is_held(world)
    assert world.served() == ALL


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_replicas_are_a_clear_word_and_never_held(count: int) -> None:
    nodes = tuple(make_node(name) for name in UNITS)
    spec = {"mode": "Replicas", "replicas": 4}
    world = World(make_deployment(rollout=STEPS, placement=spec), make_model(), nodes)
    world.settle()
    placed_by(world, mode="Replicas", replicas=count)
    assert not is_held(world)
    assert len(world.served()) == count


def test_a_selector_for_replicas_that_no_node_has_is_held() -> None:
    nodes = tuple(make_node(name) for name in UNITS)
    spec = {"mode": "Replicas", "replicas": 2}
    world = World(make_deployment(rollout=STEPS, placement=spec), make_model(), nodes)
    world.settle()
    placed_by(world, **spec, nodeSelector={"row": "nowhere"})
    assert is_held(world)
    assert len(world.served()) == 2


def test_available_is_about_what_serves_though_the_target_fits_no_node() -> None:
    world = stable_world()
    world.model = make_model("2.0.0", make_variant("npu", runsOn=["npu"]))
    world.settle()
    assert condition(world, ConditionType.AVAILABLE) == ("True", Reason.SERVING)
    assert condition(world, ConditionType.READY)[0] == "False"
    assert world.status.units_text == "4/4"
    assert world.served() == ALL


def test_a_unit_that_only_stable_fits_and_that_does_not_serve_is_not_available() -> None:
    world = stable_world()
    world.model = make_model("2.0.0", make_variant("npu", runsOn=["npu"]))
    world.settle()
    world.broken_units = {"n3"}
    world.settle()
    assert condition(world, ConditionType.AVAILABLE) == ("False", Reason.NOT_SERVING)
    assert world.status.units_text == "3/4"
