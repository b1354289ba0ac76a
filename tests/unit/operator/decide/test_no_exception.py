"""No spec that the CRD lets in, no status and no pod ends a look with an exception."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from builders import CPU, make_deployment, make_model, make_node, make_variant
from json_paths import leaves, put
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.builds.effective import effective_spec, hold_of
from skerry_operator.decide.builds.jobs import ObservedJob
from skerry_operator.decide.observed import Ending, Pod
from skerry_operator.manifests.buildjob import JobSettings
from skerry_operator.plan import plan_model
from skerry_operator.plan.model import BuildsObserved, OptimizeDefaults
from skerry_runtime.contract import StatusReport
from spec_values import specs
from world import World

RECORD = json.loads(
    (Path(__file__).parents[3] / "record" / "edgedeployment-status.json").read_text()
)
BUILDS = OptimizeDefaults(JobSettings("registry.example/skerry/optimize:1"), "oci://r.example/a")
LOOKS = 4
COMMON = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

times = st.sampled_from(
    ["2026-11-23T12:00:00Z", "2026-11-23T11:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)
words = st.sampled_from(["", "Word", "x" * 300, "v1-x", "v1-0a1b2c3d4e"])
numbers = st.sampled_from([0, 1, -1, 31, 10**9, 10**30])
junk = times | words | numbers | st.none() | st.just([]) | st.just({})


@st.composite
def statuses(draw: Any) -> dict[str, Any]:
    """Draw a status that an editor, a newer operator or a broken clock may have left."""
    status = json.loads(json.dumps(RECORD))
    rollout = status["rollout"]
    rollout["stage"] = draw(st.sampled_from([*Stage, "Twinning"]))
    for name in rollout:
        if name.endswith("At") and draw(st.booleans()):
            rollout[name] = draw(times | st.none())
    for name in draw(st.lists(st.sampled_from(sorted(status)), max_size=3, unique=True)):
        status[name] = draw(junk)
    return {name: value for name, value in status.items() if value is not None}


def settled() -> World:
    deployment = make_deployment(rollout={"steps": [{"units": "1", "soak": "4s"}]})
    world = World(deployment, make_model(), (make_node("n0"), make_node("n1")), profiles=(CPU,))
    world.settle()
    return world


def look(world: World) -> None:
    """Look a few times, and check that what is decided can be written."""
    for _ in range(LOOKS):
        made = world.turn(seconds=3)
        if made.status is not None:
            json.dumps(made.status.to_dict())
        assert made.requeue_after_s is None or made.requeue_after_s >= 0


@given(specs(EdgeDeployment))
@COMMON
def test_no_spec_of_a_deployment_ends_a_look(spec: dict[str, Any]) -> None:
    world = settled()
    placement = {**spec.get("placement", {}), "nodeSelector": {}}
    if placement.get("replicas"):
        placement["replicas"] = min(3, placement["replicas"])
    full = {**spec, "placement": placement, "modelRef": {"name": "digits"}}
    parsed = EdgeDeployment.model_validate({"metadata": {"name": "digits"}, "spec": full}).spec
    world.deployment = world.deployment.model_copy(update={"spec": parsed})
    look(world)
    world.model = make_model("2.0.0", make_variant(version="2"))
    look(world)


@given(specs(EdgeModel), st.text(max_size=200) | st.just("{}"))
@COMMON
def test_no_spec_of_a_model_ends_a_look(spec: dict[str, Any], words: str) -> None:
    world = settled()
    raw = {"metadata": {"name": "digits", "uid": "m", "generation": 2}, "spec": spec}
    model = EdgeModel.model_validate(raw)
    made = plan_model(model, world.now, BuildsObserved(free=9), BUILDS)
    json.dumps([one.body for one in made.objects])
    found = {
        name: ObservedJob(name, "u", is_complete=True, pods=(pod_that_said(words),))
        for name in (one.ref.name for one in made.objects)
    }
    over = plan_model(model, world.now, BuildsObserved(jobs=found), BUILDS)
    json.dumps([over.status.to_dict(), *(one.body for one in over.records)])
    world.model = model.model_copy(update={"spec": effective_spec(model.spec, {})})
    world.model_hold = hold_of(model.spec, {})
    look(world)


def pod_that_said(words: str) -> Pod:
    return Pod("p", "", "", "", is_over=True, ending=Ending(0, "Completed", words))


@given(statuses(), st.booleans())
@COMMON
def test_no_status_ends_a_look(status: dict[str, Any], is_new: bool) -> None:
    world = settled()
    if is_new:
        world.model = make_model("2.0.0", make_variant(version="2"))
    read = EdgeDeploymentStatus.model_validate(status)
    world.deployment = world.deployment.model_copy(update={"status": read})
    look(world)


def test_no_number_of_a_report_ends_a_look() -> None:
    world = settled()
    said = json.loads(world.reports["n0"].model_dump_json(by_alias=True))
    for path in leaves(said):
        for extreme in (10**30, -1, 1e308, -1e308, 0, "x" * 900, []):
            try:
                report = StatusReport.model_validate(put(said, path, extreme))
            except ValidationError:
                continue  # refused at the door
            world.reports["n0"] = report
            made = world.plan()
            if made.status is not None:
                json.dumps(made.status.to_dict())


@pytest.mark.parametrize("stage", [Stage.SOAKING, Stage.STEPPING, Stage.PAUSED, Stage.ROLLING_BACK])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_broken_clock_keeps_no_rollout_for_ever(stage: Stage, at: str) -> None:
    world = settled()
    world.model = make_model("2.0.0", make_variant(version="2"))
    world.turn_until(Stage.SOAKING)
    raw = world.status.to_dict()
    times_ = {name: at for name in raw["rollout"] if name.endswith("At")}
    raw["rollout"] = {**raw["rollout"], **times_, "stage": stage}
    world.deployment = world.deployment.model_copy(
        update={"status": EdgeDeploymentStatus.model_validate(raw)}
    )
    for _ in range(200):
        world.turn()
        if world.status.rollout.stage is Stage.IDLE:
            return
    assert stage is Stage.PAUSED


def test_a_soak_of_ten_thousand_years_is_one_of_thirty_days() -> None:
    deployment = make_deployment(
        rollout={
            "steps": [{"units": "1", "soak": "99999999h"}, {"units": "100%", "soak": "0s"}],
            "progressDeadline": "99999999h",
        }
    )
    world = World(deployment, make_model(), (make_node("n0"),), profiles=(CPU,))
    world.settle()
    world.model = make_model("2.0.0", make_variant(version="2"))
    world.turn_until(Stage.SOAKING)
    world.now += timedelta(days=31)
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
