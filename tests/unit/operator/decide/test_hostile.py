"""What a pod or a user may write must not keep the operator from its work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import make_deployment, make_model, make_node, make_variant
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.decide.reported import ReportedAcceleration
from skerry_operator.plan import plan
from world import World

STEPS = {"steps": [{"units": "100%", "soak": "10s"}]}


@pytest.mark.parametrize("percent", [-5.0, 1e9, float("nan"), float("inf")])
def test_a_pod_that_reports_nonsense_stops_no_decision(percent: float) -> None:
    world = World(make_deployment(rollout=STEPS), make_model(), (make_node("n"),))
    world.settle()
    observed = world.observed()
    report = observed.reports["n"]
    assert report.serving
    served = replace(report.serving, acceleration=ReportedAcceleration("x" * 5000, percent))
    observed = replace(observed, reports={"n": replace(report, serving=served)})
    made = plan(observed, world.profiles, world.settings)
    status = made.status or world.status
    EdgeDeploymentStatus.model_validate(status.to_dict())


def test_names_fit_however_long_the_deployment_s_is() -> None:
    world = World(make_deployment(rollout=STEPS), make_model(), (make_node("n"),))
    name = "a" + ".b-c" * 62 + "defg"
    assert len(name) == 253
    metadata = world.deployment.metadata.model_copy(update={"name": name})
    world.deployment = world.deployment.model_copy(update={"metadata": metadata})
    world.settle()
    kinds = {one.ref.kind for one in world.objects.values()}
    assert kinds == {"ConfigMap", "ControllerRevision", "DaemonSet", "Service"}
    for one in world.objects.values():
        limit = 253 if one.ref.kind == "ControllerRevision" else 63
        assert len(one.ref.name) <= limit
        assert all(len(value) <= 63 for value in one.body["metadata"]["labels"].values())
    world.model = make_model("2.0.0 \N{SNOWMAN}" + "é" * 50, make_variant(version="2"))
    world.settle()
    assert set(world.served().values()) == {world.model.spec.version}
