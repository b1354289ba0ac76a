"""The Job of a build: restricted, without credentials, and whole in one object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import make_model, make_variant
from skerry_operator.api.v1alpha1.edgedeployment_pods import PodExtras
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.builds.wanted import wanted_builds
from skerry_operator.manifests.buildjob import BuildSite, JobSettings, build_job
from skerry_operator.manifests.metadata import build_name
from skerry_runtime.contract import BUILD_ORDER_DIR, BuildOrder

SHA = "d" * 64
SITE = BuildSite("s3://models/default/digits", "push")
SETTINGS = JobSettings("registry.example/skerry/optimize:1", {"SKERRY_FETCH_ALLOW": "10.0.0.0/8"})
INT8 = {"name": "int8", "from": "fp32", "steps": [{"quantize": {"mode": "Static"}}]}


def secret_file(uri: str, secret: str | None = None) -> dict[str, Any]:
    return {"uri": uri, "sha256": SHA, **({"secretRef": {"name": secret}} if secret else {})}


def model(job: dict[str, Any] | None = None, **more: Any) -> EdgeModel:
    optimize = {
        "data": {"source": secret_file("pvc://inputs/data.npz")},
        "guards": {"maxSizeRatio": "0.5"},
        "jobs": [job or INT8],
        **more,
    }
    variant = make_variant(source=secret_file("s3://models/fp32.onnx", "read"))
    golden = {"source": secret_file("https://models.example/golden.npz"), "threshold": "0.9"}
    return make_model("1.0.0", variant, golden=golden, optimize=optimize)


def job_of(given: EdgeModel, settings: JobSettings = SETTINGS) -> dict[str, Any]:
    (wanted,) = wanted_builds(given.spec)
    found = build_job(given.metadata, given.spec, wanted, SITE, settings)
    return json.loads(json.dumps(found.body))


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def order_in(job: dict[str, Any]) -> BuildOrder:
    notes = job["spec"]["template"]["metadata"]["annotations"]
    return BuildOrder.model_validate_json(notes["skerry.dev/order"])


def test_the_pod_passes_pod_security_restricted_and_has_no_credentials() -> None:
    pod = pod_of(job_of(model()))
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"downwardAPI", "emptyDir", "secret", "persistentVolumeClaim"}
    assert container["resources"]["limits"]["memory"] == "2Gi"


def test_the_order_names_every_file_and_comes_as_a_file_itself() -> None:
    given = model()
    job = job_of(given)
    order = order_in(job)
    (wanted,) = wanted_builds(given.spec)
    assert order.key == wanted.inputs_key
    assert order.origin.secret == "read"  # noqa: S105 (a name)
    assert order.data is not None
    assert order.golden is not None
    assert order.steps == ({"quantize": {"mode": "Static"}},)
    assert order.guards == {"maxSizeRatio": "0.5"}
    assert (order.store.uri, order.store.secret) == (SITE.uri, "push")
    mounts = {one["mountPath"] for one in pod_of(job)["containers"][0]["volumeMounts"]}
    assert BUILD_ORDER_DIR in mounts
    assert {one.rpartition("/")[2] for one in mounts} >= {"read", "push", "inputs"}


def test_a_student_is_fetched_beside_the_rest() -> None:
    steps = [{"distil": {"student": secret_file("https://models.example/s.onnx"), "epochs": 3}}]
    order = order_in(job_of(model({**INT8, "steps": steps})))
    assert order.student is not None
    assert order.student.uri == "https://models.example/s.onnx"
    told = {"student": {"file": "student.onnx"}, "temperature": 4, "alpha": "1", "epochs": 3}
    assert order.steps == ({"distil": told},)


def test_where_it_runs_and_with_what_is_what_people_say() -> None:
    pods = PodExtras.model_validate(
        {"imagePullSecrets": [{"name": "pull"}], "priorityClassName": "low"}
    )
    settings = JobSettings("image:1", {}, pods, {"tier": "cloud"})
    resources = {"memoryLimit": "256Mi", "cpuRequest": "100m", "diskLimit": "1Gi"}
    given = model(nodeSelector={"disk": "ssd"}, resources=resources, activeDeadline="90m")
    job = job_of(given, settings)
    pod = pod_of(job)
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64", "tier": "cloud", "disk": "ssd"}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["priorityClassName"] == "low"
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"memory": "256Mi"},
    }
    assert job["spec"]["activeDeadlineSeconds"] == 5400


@pytest.mark.parametrize(("name", "job"), [("m" * 63, "j" * 63), ("a.b", "int8")])
def test_names_fit_into_labels_whatever_model_and_job_are_called(name: str, job: str) -> None:
    found = build_name(name, job, "0" * 64)
    assert len(found) <= 63
    assert "." not in found
    assert found != build_name(name, job, "1" * 64)
