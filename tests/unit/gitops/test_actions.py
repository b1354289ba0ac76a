"""Argo CD's buttons: shown where they do something, and doing what the command line does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from lua import run_lua
from phase_stories import (
    Object,
    aborted,
    as_object,
    at_rest,
    failure_that_pauses,
    first_deployment,
    first_deployment_failed,
    nothing_seen_yet,
    numbers_are_missing,
    pause_step,
    paused_at_rest,
    paused_under_way,
    rolled_back,
    rolling_back,
    soaking,
    stepping,
)
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeploymentSpec
from skerry_operator.constants import ANNOTATION_ABORT, ANNOTATION_PROMOTE, ANNOTATION_UPGRADE
from skerry_operator.ctl import steer
from skerry_operator.ctl.answer import Declined
from world import World

ACTIONS = Path(__file__).parents[3] / "docs" / "gitops" / "argo-cd" / "EdgeDeployment" / "actions"
STORIES = (
    nothing_seen_yet,
    first_deployment,
    first_deployment_failed,
    at_rest,
    stepping,
    soaking,
    pause_step,
    paused_at_rest,
    paused_under_way,
    failure_that_pauses,
    numbers_are_missing,
    rolling_back,
    rolled_back,
    aborted,
)


def offered(obj: Object) -> set[str]:
    found = run_lua((ACTIONS / "discovery.lua").read_text(), obj)
    return {name for name, action in found.items() if not action["disabled"]}


def pressed(action: str, obj: Object) -> Object:
    return run_lua((ACTIONS / f"{action}.lua").read_text(), copy.deepcopy(obj))


def is_refused(command: object, world: World) -> bool:
    try:
        command(world.deployment, None)  # type: ignore[operator]
    except Declined:
        return True
    return False


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_promote_and_abort_are_offered_where_the_command_line_takes_them(story: object) -> None:
    world: World = story()  # type: ignore[operator]
    buttons = offered(as_object(world))
    assert ("promote" in buttons) is not is_refused(steer.promote, world)
    assert ("abort" in buttons) is not is_refused(steer.abort, world)
    is_paused = world.deployment.spec.rollout.paused
    assert buttons & {"pause", "resume"} == {"resume" if is_paused else "pause"}
    assert ("retry" in buttons) is bool(world.status.failed_revisions)


@pytest.mark.parametrize(
    ("action", "annotation"), [("promote", ANNOTATION_PROMOTE), ("abort", ANNOTATION_ABORT)]
)
def test_promote_and_abort_name_the_target(action: str, annotation: str) -> None:
    world = pause_step()
    obj = as_object(world)
    after = pressed(action, obj)
    assert after["metadata"]["annotations"] == {annotation: world.status.target_revision}
    assert after["spec"] == obj["spec"]


@pytest.mark.parametrize(("action", "paused"), [("pause", True), ("resume", False)])
def test_pause_and_resume_set_the_field(action: str, paused: bool) -> None:
    obj = as_object(soaking())
    after = pressed(action, obj)
    assert after["spec"]["rollout"] == obj["spec"]["rollout"] | {"paused": paused}


def test_retry_sets_a_text_that_the_api_takes() -> None:
    obj = as_object(rolled_back())
    after = pressed("retry", obj)
    assert EdgeDeploymentSpec.model_validate(after["spec"]).rollout.retry != ""


@pytest.mark.parametrize("action", ["pause", "resume", "retry"])
def test_a_spec_without_rollout_gets_one(action: str) -> None:
    obj = {"metadata": {"name": "x"}, "spec": {"modelRef": {"name": "x"}}}
    assert "rollout" in pressed(action, obj)["spec"]


def test_an_upgrade_is_offered_where_the_command_line_takes_it_and_names_the_images() -> None:
    world = at_rest()
    assert "upgrade" not in offered(as_object(world))
    world.settings = replace(world.settings, default_image="registry.example/skerry-runtime:2")
    world.settle()
    obj = as_object(world)
    assert "upgrade" in offered(obj)
    after = pressed("upgrade", obj)
    asked = steer.upgrade(world.deployment).patch["metadata"]["annotations"]
    assert after["metadata"]["annotations"] == asked
    assert set(asked) == {ANNOTATION_UPGRADE}
    assert "upgrade" not in offered(after)
