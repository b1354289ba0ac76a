"""Manifests against a real API server: validated by it, and planned against what it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bare_api import Kubectl
from builders import NOW
from crd_objects import deployment, metric, model, steps
from ctl_objects import node
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.catalogue.profiles import builtin_profiles
from skerry_operator.kube.read import read_node
from skerry_operator.plan import PlanSettings
from world import World

pytestmark = pytest.mark.integration

Object = dict[str, Any]
Put = Callable[[Object], None]
Skerry = Callable[..., Any]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def do(*bodies: Object) -> str:
        path = tmp_path / "manifests.yaml"
        path.write_text("\n---\n".join(json.dumps(body) for body in bodies))
        return str(path)

    return do


@pytest.fixture
def rolled_out(put: Put, kubectl: Kubectl) -> World:
    """Bring version 1.0.0 of digits to two nodes, as the operator leaves it in the cluster."""
    nodes = [node("node-a"), node("node-b")]
    for body in (*nodes, model(), deployment()):
        put(body)
    raw = json.loads(kubectl("get", "ed", "digits", "-o=json"))
    world = World(
        EdgeDeployment.model_validate(raw),
        EdgeModel.model_validate(model()),
        tuple(read_node(body) for body in nodes),
        profiles=builtin_profiles(),
        settings=PlanSettings(default_image="runtime:1"),
        now=NOW,
    )
    world.settle()
    for manifest in world.objects.values():
        apply_as_operator(kubectl, dict(manifest.body))
    put(deployment() | {"status": world.status.to_dict()})
    return world


def apply_as_operator(kubectl: Kubectl, body: Object) -> None:
    arguments = ["apply", "--server-side", "--field-manager=skerry-operator", "-f", "-"]
    kubectl(*arguments, stdin=json.dumps(body))


def test_the_server_finds_what_one_field_alone_does_not_show(skerry: Skerry, write: Write) -> None:
    name = write(steps({"pause": True}), metric(name="ErrorRate", max="2"))
    assert skerry("validate", "-f", name).code == 0
    said = skerry("validate", "--server", "-f", name)
    assert said.code == 1
    assert "the last step must have units" in said.out
    assert "ErrorRate needs max as a share" in said.out


def test_the_server_keeps_nothing_of_what_it_checks(
    skerry: Skerry, write: Write, kubectl: Kubectl
) -> None:
    said = skerry("validate", "--server", "-f", write(model(), deployment()))
    assert (said.code, said.out.count(": valid")) == (0, 2)
    assert kubectl("get", "em,ed", "-o=name") == ""


def test_a_first_deployment_is_all_new(skerry: Skerry, write: Write, put: Put) -> None:
    put(node())
    said = skerry("plan", "-f", write(model(), deployment()))
    assert said.code == 0
    assert "first deployment of revision r1-" in said.out
    assert "digits-cpu-amd64  cpu      amd64  fp32     1      new pods" in said.out


def test_what_runs_already_stays_as_it_is(skerry: Skerry, write: Write, rolled_out: World) -> None:
    said = skerry("plan", "-f", write(model(), deployment()))
    assert f"revision {rolled_out.status.stable_revision} stays" in said.out
    assert "as it is" in said.out
    assert not {"created", "changed", "removed"} & set(said.out.split())


def test_another_version_is_swapped_in_place(
    skerry: Skerry, write: Write, rolled_out: World
) -> None:
    said = skerry("plan", "-f", write(model(version="2.0.0"), deployment()))
    assert f"revision {rolled_out.status.stable_revision} -> r1-" in said.out
    assert "swapped in place" in said.out
    assert "changed    ConfigMap/digits-cpu-amd64" in said.out


def test_another_image_replaces_the_pods(skerry: Skerry, write: Write, rolled_out: World) -> None:
    said = skerry("plan", "-f", write(deployment(runtime={"image": "runtime:2"})))
    assert "pods are replaced" in said.out
    assert "runtime:2" in said.out


def test_a_model_alone_is_planned_for_the_deployments_that_use_it(
    skerry: Skerry, write: Write, rolled_out: World, namespace: str
) -> None:
    said = skerry("plan", "-f", write(model(version="2.0.0")))
    assert said.code == 0
    assert f"EdgeDeployment {namespace}/digits: revision" in said.out


def test_a_cluster_without_a_fitting_node_has_its_own_exit_status(
    skerry: Skerry, write: Write, put: Put
) -> None:
    put(node())
    moon = deployment(placement={"nodeSelector": {"site": "moon"}})
    assert skerry("plan", "-f", write(model(), moon)).code == 2


def test_a_plan_is_made_with_what_the_operator_has(
    skerry: Skerry, write: Write, put: Put, kubectl: Kubectl
) -> None:
    put(node("node-a"))
    name = write(model(), deployment())
    said = skerry("plan", "-f", name)
    assert said.code == 0
    assert "the operator's settings were not read (NotFound)" in said.out
    data = ["--from-literal=SKERRY_RUNTIME_IMAGE=mirror.example/runtime:7",
            "--from-literal=version=9.0.0"]  # fmt: skip
    kubectl("create", "configmap", "tide", *data)
    namespace = kubectl("config", "view", "--minify", "-o=jsonpath={..namespace}")
    said = skerry("plan", "-f", name, "--operator", f"{namespace}/tide")
    assert said.code == 0
    assert "mirror.example/runtime:7" in said.out
    assert "the operator is 9.0.0" in said.out
    assert skerry("plan", "-f", name, "--operator", f"{namespace}/none").code == 1
