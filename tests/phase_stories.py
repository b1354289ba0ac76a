"""Every phase of an EdgeDeployment as a whole story brings it about: the object that users see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from builders import NOW, make_deployment, make_model, make_node, offline
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import ANNOTATION_ABORT, API_VERSION
from world import World

Object = dict[str, Any]
STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]
WITH_PAUSE = [{"units": "1", "soak": "5s"}, {"pause": True}, {"units": "100%", "soak": "5s"}]
LACKING = {"metrics": [{"name": "ErrorRate", "max": "0.01", "minSamples": 50}]}
UNITS = ("n0", "n1", "n2")


def new_world(**rollout: Any) -> World:
    nodes = tuple(make_node(name) for name in UNITS)
    return World(make_deployment(rollout={"steps": STEPS} | rollout), make_model(), nodes)


def stable(**rollout: Any) -> World:
    world = new_world(**rollout)
    world.settle()
    return world


def rolling(stage: Stage, **rollout: Any) -> World:
    world = stable(**rollout)
    world.model = make_model("2.0.0")
    world.turn_until(stage)
    return world


def refused(**rollout: Any) -> World:
    world = stable(**rollout)
    world.refusals = {(unit, "2.0.0") for unit in UNITS}
    world.model = make_model("2.0.0")
    return world


def nothing_seen_yet() -> World:
    return new_world()


def no_node_fits() -> World:
    world = new_world()
    world.change(placement={"nodeSelector": {"nowhere": "yes"}})
    world.turn()
    return world


def first_deployment() -> World:
    world = new_world()
    world.turn()
    return world


def first_deployment_failed() -> World:
    world = new_world()
    world.refusals = {(unit, "1.0.0") for unit in UNITS}
    world.settle()
    return world


def at_rest() -> World:
    return stable()


def stepping() -> World:
    return rolling(Stage.STEPPING)


def soaking() -> World:
    return rolling(Stage.SOAKING)


def outside_of_its_windows() -> World:
    start = (NOW + timedelta(hours=5)).strftime("%H:%M")
    world = stable(windows=[{"start": start, "duration": "1h"}])
    world.model = make_model("2.0.0")
    world.turn_until(Stage.STEPPING)
    return world


def pause_step() -> World:
    return rolling(Stage.PAUSED, steps=WITH_PAUSE)


def paused_under_way() -> World:
    world = rolling(Stage.SOAKING)
    world.change(rollout={"steps": STEPS, "paused": True})
    world.turn()
    return world


def paused_at_rest() -> World:
    world = stable(paused=False)
    world.change(rollout={"steps": STEPS, "paused": True})
    world.turn()
    return world


def paused_with_a_change_to_come() -> World:
    world = stable()
    world.change(rollout={"steps": STEPS, "paused": True})
    world.model = make_model("2.0.0")
    world.turn()
    return world


def failure_that_pauses() -> World:
    world = refused(onFailure="Pause")
    world.turn_until(Stage.PAUSED)
    return world


def numbers_are_missing() -> World:
    world = stable()
    world.change(rollout={"steps": STEPS, "analysis": LACKING, "progressDeadline": "10s"})
    world.model = make_model("2.0.0")
    world.turn_until(Stage.PAUSED)
    return world


def rolling_back() -> World:
    world = refused()
    world.turn_until(Stage.ROLLING_BACK)
    return world


def rolled_back() -> World:
    world = refused()
    world.settle()
    return world


def rolled_back_but_for_one() -> World:
    world = refused(progressDeadline="10s")
    world.turn_until(Stage.ROLLING_BACK)
    world.broken_units = {"n1"}
    world.settle()
    return world


def aborted() -> World:
    world = rolling(Stage.SOAKING)
    target = world.status.target_revision or ""
    metadata = world.deployment.metadata
    metadata = metadata.model_copy(update={"annotations": {ANNOTATION_ABORT: target}})
    world.deployment = world.deployment.model_copy(update={"metadata": metadata})
    world.settle()
    return world


def fixed_after_a_rollback() -> World:
    world = rolled_back()
    world.model = make_model("2.0.1")
    world.settle()
    return world


def model_is_missing() -> World:
    world = stable()
    world.model = None
    world.settle()
    return world


def model_is_invalid() -> World:
    world = stable()
    variant = world.model.spec.variants[0].to_dict()  # type: ignore[union-attr]
    world.model = make_model("2.0.0", variant, variant)
    world.settle()
    return world


def a_unit_is_down() -> World:
    world = stable()
    world.broken_units = {"n1"}
    world.settle()
    return world


def a_unit_is_offline() -> World:
    world = stable()
    world.change_node("n1", offline)
    world.settle()
    return world


def a_unit_that_returned_refuses_stable() -> World:
    world = stable()
    world.change_node("n1", offline)
    world.refusals = {("n1", "2.0.0")}
    world.model = make_model("2.0.0")
    world.settle()
    world.change_node("n1", lambda node: replace(node, reachable=True))
    world.settle()
    return world


def spec_is_newer_than_the_status() -> World:
    world = stable()
    world.change(rollout={"steps": WITH_PAUSE})
    return world


PHASES: dict[Callable[[], World], tuple[str | None, str, str]] = {
    # story: (phase, kstatus, Argo CD)
    nothing_seen_yet: (None, "Current", "Progressing"),  # kstatus cannot know what is to come
    no_node_fits: ("Pending", "InProgress", "Progressing"),
    first_deployment: ("Deploying", "InProgress", "Progressing"),
    first_deployment_failed: ("Failed", "Failed", "Degraded"),
    at_rest: ("Stable", "Current", "Healthy"),
    stepping: ("Progressing", "InProgress", "Progressing"),
    soaking: ("Progressing", "InProgress", "Progressing"),
    outside_of_its_windows: ("Progressing", "InProgress", "Progressing"),
    pause_step: ("Paused", "InProgress", "Suspended"),
    paused_under_way: ("Paused", "InProgress", "Suspended"),
    paused_at_rest: ("Stable", "Current", "Healthy"),
    paused_with_a_change_to_come: ("Paused", "InProgress", "Suspended"),
    failure_that_pauses: ("Paused", "Failed", "Degraded"),
    numbers_are_missing: ("Paused", "InProgress", "Progressing"),
    rolling_back: ("RollingBack", "InProgress", "Progressing"),
    rolled_back: ("RolledBack", "Failed", "Degraded"),
    rolled_back_but_for_one: ("RolledBack", "Failed", "Degraded"),
    aborted: ("RolledBack", "Failed", "Degraded"),
    fixed_after_a_rollback: ("Stable", "Current", "Healthy"),
    model_is_missing: ("Degraded", "InProgress", "Progressing"),
    model_is_invalid: ("Degraded", "Failed", "Degraded"),
    a_unit_is_down: ("Degraded", "InProgress", "Degraded"),
    a_unit_is_offline: ("Stable", "Current", "Healthy"),
    a_unit_that_returned_refuses_stable: ("Degraded", "Failed", "Degraded"),
    spec_is_newer_than_the_status: ("Stable", "InProgress", "Progressing"),
}


def as_object(world: World) -> Object:
    """Return the EdgeDeployment as the API server would."""
    metadata = world.deployment.metadata.to_dict()
    status = world.status.to_dict()
    body = {"apiVersion": API_VERSION, "kind": "EdgeDeployment", "metadata": metadata}
    body["spec"] = world.deployment.spec.to_dict()
    return body | ({"status": status} if status else {})
