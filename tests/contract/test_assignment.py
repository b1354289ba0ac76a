"""What the plan writes is what a pod reads: the same text, the same revision for every unit."""

from __future__ import annotations

from typing import Any

import pytest

from builders import having, make_deployment, make_model, make_node, make_variant, sha256_of
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_runtime.contract import (
    ADMIN_PORT,
    ASSIGNMENT_DIR,
    ASSIGNMENT_FILE,
    ENV_UNIT,
    SCHEMA,
    Assignment,
)
from skerry_runtime.settings import settings_from
from world import World

STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}
GOLDEN = {
    "source": {"uri": "https://models.example/exam.npz", "sha256": sha256_of("exam")},
    "threshold": "0.95",
}


@pytest.fixture
def world() -> World:
    nodes = (
        make_node("a1"),
        make_node("a2"),
        make_node("b1", having("hailo.ai/h8"), arch="arm64"),
        make_node("b2", having("hailo.ai/h8"), arch="arm64"),
    )
    variants = (make_variant("int8", runsOn=["npu"], memory="20Mi"), make_variant("fp32"))
    world = World(make_deployment(rollout=STEPS), make_model("1.0.0", *variants), nodes)
    world.settle()
    world.model = make_model("2.0.0", *variants, golden=GOLDEN)
    world.turn_until(Stage.SOAKING)
    return world


def files(world: World) -> list[Assignment]:
    return [
        Assignment.model_validate_json(item.body["data"][ASSIGNMENT_FILE])
        for item in world.objects.values()
        if item.ref.kind == "ConfigMap"
    ]


def containers(world: World) -> list[dict[str, Any]]:
    return [
        item.body["spec"]["template"]["spec"]["containers"][0]
        for item in world.objects.values()
        if item.ref.kind == "DaemonSet"
    ]


def test_every_unit_finds_its_revision_and_all_it_needs_to_serve_it(world: World) -> None:
    given = {}
    for file in files(world):
        for pod in world.pods.values():
            if pod.cell == file.cell:
                revision = file.revision_of(pod.unit)
                given[pod.unit] = file.revisions[str(revision)].version
    assert set(given.values()) == {"1.0.0", "2.0.0"}
    assert given == world.served()


def test_a_unit_that_has_the_default_has_no_entry(world: World) -> None:
    stable = world.status.stable_revision
    for file in files(world):
        assert file.default == stable
        assert stable not in file.units.values()


def test_each_cell_gets_its_own_variant_and_execution(world: World) -> None:
    found = {
        file.execution.profile: {content.model.variant for content in file.revisions.values()}
        for file in files(world)
    }
    assert found == {"cpu": {"fp32"}, "hailo-8": {"int8"}}


def test_the_schema_is_named(world: World) -> None:
    assert {file.schema_ for file in files(world)} == {SCHEMA}
    assert {file.deployment for file in files(world)} == {"edge/digits"}


def test_the_digest_that_pods_are_nudged_with_is_that_of_the_file(world: World) -> None:
    world.turn_before(Stage.IDLE)
    digests = {cell.digest for cell in world.observed().cells}
    nudged = {pod.nudge.partition(".")[0] for pod in world.pods.values() if pod.nudge}
    assert nudged & digests


def test_the_pods_environment_is_what_the_runtime_reads(world: World) -> None:
    for container in containers(world):
        environ = {entry["name"]: entry.get("value", "a1") for entry in container["env"]}
        settings = settings_from(environ, {})
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert environ[ENV_UNIT] == settings.unit == "a1"
        assert (settings.http_port, settings.grpc_port) == (ports["http"], ports["grpc"])
        assert settings.admin_port == ports["admin"] == ADMIN_PORT
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {ASSIGNMENT_DIR, str(settings.slots_dir)} <= mounts


def test_a_new_retry_text_reaches_stable_and_the_target_and_changes_nothing_else(
    world: World,
) -> None:
    world.refusals = {(unit, "2.0.0") for unit in ("a1", "a2", "b1", "b2")}
    before = {
        (file.cell, name): one for file in files(world) for name, one in file.revisions.items()
    }
    world.change(rollout={**STEPS, "retry": "again"})
    world.turn()
    stable, target = world.status.stable_revision, world.status.target_revision
    for file in files(world):
        assert file.revisions[str(stable)].retry == "again"
        if target in file.revisions:
            assert file.revisions[str(target)].retry == "again"
        for name, content in file.revisions.items():
            plain = content.model_copy(update={"retry": ""})
            assert plain == before.get((file.cell, name), plain)


def test_batching_reaches_the_pods_by_the_assignment_and_changes_no_pod(world: World) -> None:
    before = containers(world)
    asked = {"maxSize": 8, "maxDelay": "2ms", "mode": "Auto"}
    world.change(runtime={"batching": asked})
    world.settle()
    assert containers(world) == before
    for file in files(world):
        content = file.revisions[str(file.default)]
        batching = content.model.batching
        assert batching is not None
        assert (batching.max_size, batching.max_delay_s, batching.mode) == (8, 0.002, "Auto")
