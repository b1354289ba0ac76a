"""The operator patches one label and one annotation of its own pods; more is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bare_api import Kubectl
from integration.policies.asking import NAMESPACE, SYSTEM, As, Install, eventually
from skerry_operator.constants import (
    ANNOTATION_NUDGE,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_REVISION,
    MANAGED_BY,
)
from skerry_operator.decide.planned import Nudge
from skerry_operator.kube.apply import nudge
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.errors import Forbidden
from skerry_operator.kube.paths import object_path

pytestmark = pytest.mark.integration

Raw = dict[str, Any]
OPERATOR = f"system:serviceaccount:{SYSTEM}:skerry"
OURS = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_DEPLOYMENT: "digits"}
EXTRA = {"name": "extra", "image": "evil"}
IMAGE = {"spec": {"containers": [{"name": "runtime", "image": "evil"}]}}


def pod(name: str, labels: dict[str, str], owner: str = "DaemonSet") -> Raw:
    metadata: Raw = {"name": name, "namespace": NAMESPACE, "labels": labels}
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": owner, "name": "d", "uid": "1"}
        metadata["ownerReferences"] = [{**reference, "controller": True}]
    containers = [{"name": "runtime", "image": "good"}]
    spec = {"containers": containers, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


PODS = {
    "own": pod("own", OURS),
    "replica": pod("replica", OURS, "ReplicaSet"),
    "bare": pod("bare", {}, ""),
    "unlabelled": pod("unlabelled", {LABEL_DEPLOYMENT: "digits"}),
    "unowned": pod("unowned", OURS, ""),
    "of-a-job": pod("of-a-job", OURS, "Job"),
}
WIDER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: wider}
rules:
- apiGroups: [""]
  resources: [pods, pods/ephemeralcontainers, pods/status, pods/resize]
  verbs: [get, update, patch]
"""
"""Rights that nobody gives to the operator: the policy holds it even so."""


@pytest.fixture(scope="module")
def operator(kubectl: Kubectl, install: Install, acting_as: As) -> KubeClient:
    """The operator's account, with rights beyond its own, once the policy is in force."""
    install("--set=userPolicy.enabled=false")
    kubectl("apply", "-f", "-", stdin=WIDER)
    who = f"--serviceaccount={SYSTEM}:skerry"
    kubectl("create", "clusterrolebinding", "wider", "--clusterrole=wider", who)
    client = acting_as(OPERATOR)
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(pod("trial", {})))

    def is_held() -> bool:
        try:
            merge(client, "trial", {"metadata": {"annotations": {"a": "b"}}})
        except Forbidden:
            return True
        kubectl("annotate", f"--namespace={NAMESPACE}", "pod", "trial", "a-")
        return False

    eventually(is_held, "the policy is in force")
    return client


@pytest.fixture(autouse=True)
def pods(kubectl: Kubectl) -> Iterator[None]:
    inside = f"--namespace={NAMESPACE}"
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(PODS.values()))
    yield
    gone = ("--force", "--grace-period=0", "--ignore-not-found")
    kubectl("delete", inside, "pod", *PODS, *gone)


def merge(client: KubeClient, name: str, body: Raw, part: str = "") -> Raw:
    path = object_path("Pod", NAMESPACE, name)
    return client.merge(f"{path}/{part}" if part else path, body, "Pod")


@pytest.mark.parametrize("name", ["own", "replica"])
def test_a_nudge_passes(operator: KubeClient, name: str) -> None:
    for revision in ("v1-first", "v1-second", ""):
        after = nudge(operator, NAMESPACE, Nudge(name, revision, f"d.{len(revision)}"))
        assert after is not None
        assert after["metadata"]["labels"][LABEL_REVISION] == revision
        assert after["metadata"]["annotations"][ANNOTATION_NUDGE] == f"d.{len(revision)}"


@pytest.mark.parametrize("name", ["bare", "unlabelled", "unowned", "of-a-job"])
def test_a_pod_of_somebody_else_is_not_even_nudged(operator: KubeClient, name: str) -> None:
    with pytest.raises(Forbidden, match="only pods that belong to an EdgeDeployment"):
        nudge(operator, NAMESPACE, Nudge(name, "v1-first", "d.1"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"spec": {"activeDeadlineSeconds": 1}}, "nothing in the spec"),
        ({"metadata": {"labels": {"app": "till"}}}, "no label of a pod but"),
        ({"metadata": {"labels": {LABEL_DEPLOYMENT: "other"}}}, "no label of a pod but"),
        ({"metadata": {"labels": {LABEL_MANAGED_BY: None}}}, "no label of a pod but"),
        ({"metadata": {"annotations": {"a": "b"}}}, "no annotation of a pod but"),
        ({"metadata": {"ownerReferences": None}}, "no owner and no finalizer"),
        ({"metadata": {"finalizers": ["a.b/c"]}}, "no owner and no finalizer"),
        (
            {"metadata": {"labels": {LABEL_REVISION: "a", "app": "till"}}},
            "no label of a pod but",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_anything_but_a_nudge_is_refused(operator: KubeClient, body: Raw, told: str) -> None:
    with pytest.raises(Forbidden, match=told):
        merge(operator, "own", body)


def test_an_image_is_not_changed(operator: KubeClient, acting_as: As) -> None:
    with pytest.raises(Forbidden, match="nothing in the spec"):
        merge(operator, "own", IMAGE)
    after = merge(acting_as("admin", "system:masters"), "own", IMAGE)
    assert after["spec"]["containers"][0]["image"] == "evil"


def test_an_annotation_of_somebody_else_is_not_taken_away(
    operator: KubeClient, kubectl: Kubectl
) -> None:
    kubectl("annotate", f"--namespace={NAMESPACE}", "pod", "own", "a=b")
    with pytest.raises(Forbidden, match="no annotation of a pod but"):
        merge(operator, "own", {"metadata": {"annotations": {"a": None}}})
    assert nudge(operator, NAMESPACE, Nudge("own", "v1-first", "d.1"))


@pytest.mark.parametrize(
    ("part", "body"),
    [
        (
            "ephemeralcontainers",
            {"spec": {"ephemeralContainers": [{"name": "e", "image": "evil"}]}},
        ),
        ("status", {"status": {"phase": "Failed"}}),
        ("status", {"metadata": {"labels": {LABEL_REVISION: "v1-first"}}}),
    ],
    ids=["a container added to the running ones", "a status", "a label by way of the status"],
)
def test_no_subresource_is_changed(operator: KubeClient, part: str, body: Raw) -> None:
    with pytest.raises(Forbidden, match="no subresource of a pod"):
        merge(operator, "own", body, part)


@pytest.mark.parametrize("name", list(PODS))
def test_others_patch_pods_as_before(acting_as: As, name: str) -> None:
    admin = acting_as("admin", "system:masters")
    after = merge(admin, name, {"metadata": {"labels": {"app": "till"}}})
    assert after["metadata"]["labels"]["app"] == "till"
