"""A status that was wiped, or an object that was made anew: what runs is kept."""

from __future__ import annotations

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from world import World

STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]


def make_world() -> World:
    nodes = tuple(make_node(f"n{index}") for index in range(3))
    world = World(make_deployment(rollout={"steps": STEPS}), make_model(), nodes)
    world.settle()
    return world


def wipe(world: World) -> None:
    world.deployment = world.deployment.model_copy(update={"status": EdgeDeploymentStatus()})


def test_at_rest_the_running_revision_is_stable_again_and_nothing_else_is_written() -> None:
    world = make_world()
    stable, pods, objects = world.status.stable_revision, set(world.pods), dict(world.objects)
    wipe(world)
    made = world.plan()
    assert (made.objects, made.nudges, made.prune) == ((), (), ())
    world.settle()
    assert (world.status.stable_revision, set(world.pods)) == (stable, pods)
    assert world.objects == objects
    assert "FirstDeployment" not in world.events[-3:]


@pytest.mark.parametrize("stage", [Stage.STEPPING, Stage.SOAKING])
def test_in_mid_rollout_the_revision_of_most_units_is_stable_and_the_rest_goes_in_steps(
    stage: Stage,
) -> None:
    world = make_world()
    stable = world.status.stable_revision
    world.model = make_model("2.0.0")
    world.turn_until(stage)
    wipe(world)
    world.turn()
    assert world.status.stable_revision == stable
    assert list(world.served().values()).count("2.0.0") <= 1
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_a_bad_revision_is_taken_back_after_the_status_was_wiped() -> None:
    world = make_world()
    stable = world.status.stable_revision
    world.model = make_model("2.0.0")
    world.turn_until(Stage.STEPPING)
    wipe(world)
    world.refusals = {(f"n{index}", "2.0.0") for index in range(3)}
    world.settle()
    assert (world.status.stable_revision, world.status.phase) == (stable, "RolledBack")
    assert set(world.served().values()) == {"1.0.0"}
