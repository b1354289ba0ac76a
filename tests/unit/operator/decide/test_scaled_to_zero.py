"""`replicas: 0` is a clear word: nothing runs, and that is what the spec says."""

from __future__ import annotations

from builders import CPU, make_deployment, make_model, make_node, make_variant
from skerry_operator.api.base import ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase, Stage
from skerry_operator.decide.revision import revision_of
from world import World

NODES = (make_node("n0"), make_node("n1"))
STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}


def scaled(count: int) -> dict[str, object]:
    return {"mode": "Replicas", "replicas": count}


def running(count: int) -> World:
    deployment = make_deployment(placement=scaled(count), rollout=STEPS)
    world = World(deployment, make_model(), NODES, profiles=(CPU,))
    world.settle()
    return world


def said(world: World) -> dict[str, tuple[ConditionStatus, str]]:
    return {one.type: (one.status, one.reason) for one in world.status.conditions}


def test_scaled_to_nothing_takes_all_pods_away_and_is_ready() -> None:
    world = running(2)
    world.change(placement=scaled(0))
    world.settle()
    assert not world.pods
    assert not [key for key in world.objects if key.startswith("ReplicaSet/")]
    assert said(world) == {
        "Ready": (ConditionStatus.TRUE, "ScaledToZero"),
        "Available": (ConditionStatus.TRUE, "ScaledToZero"),
        "Progressing": (ConditionStatus.FALSE, "ScaledToZero"),
        "Placed": (ConditionStatus.TRUE, "ScaledToZero"),
    }
    assert (world.status.phase, world.status.units_text) == (Phase.STABLE, "0/0")


def test_going_back_up_starts_with_stable_at_once_and_without_a_canary() -> None:
    world = running(2)
    stable = world.status.stable_revision
    world.change(placement=scaled(0))
    world.settle()
    assert world.status.stable_revision == stable
    world.events.clear()
    world.change(placement=scaled(3))
    world.settle()
    assert world.served() == {f"digits-{index}": "1.0.0" for index in range(3)}
    assert world.events == []


def test_a_model_that_changed_meanwhile_goes_out_by_canary_after_stable_is_back() -> None:
    world = running(2)
    world.change(placement=scaled(0))
    world.settle()
    world.model = make_model("2.0.0", make_variant(version="2"))
    world.settle()
    assert said(world)["Ready"] == (ConditionStatus.TRUE, "ScaledToZero")
    world.change(placement=scaled(2))
    world.turn_until(Stage.SOAKING)
    assert sorted(world.served().values()) == ["1.0.0", "2.0.0"]
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_a_first_deployment_of_nothing_waits_for_its_first_replica() -> None:
    world = running(0)
    assert not world.pods
    assert said(world)["Ready"] == (ConditionStatus.TRUE, "ScaledToZero")
    world.change(placement=scaled(1))
    world.settle()
    assert world.status.stable_revision == revision_of(make_model().spec, world.deployment.spec)
    assert said(world)["Ready"][1] == "Stable"


def test_scaled_to_nothing_in_the_middle_of_a_rollout_holds_it_and_goes_on_after() -> None:
    world = running(2)
    world.model = make_model("2.0.0", make_variant(version="2"))
    world.turn_until(Stage.SOAKING)
    world.change(placement=scaled(0))
    for _ in range(5):
        world.turn()
    assert not world.pods
    assert said(world)["Ready"] == (ConditionStatus.TRUE, "ScaledToZero")
    world.turn_seconds(10_000)
    world.change(placement=scaled(2))
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
