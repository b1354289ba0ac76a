"""The operator as a process against a real API server: what it says, writes, and leaves alone."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from bare_api import kubectl_of
from operator_process import WITHIN_S
from skerry_runtime.contract import ASSIGNMENT_FILE

from .conftest import GENERATED, Cluster, Start, eventually

pytestmark = pytest.mark.integration


def becomes_ready_with(cluster: Cluster, reason: str, name: str = "digits") -> dict[str, Any]:
    eventually(lambda: cluster.ready_reason(name) == reason, f"Ready says {reason}")
    raw: dict[str, Any] = eventually(lambda: observed(cluster, name), "the spec was looked at")
    return raw


def observed(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """Return an EdgeDeployment whose status is about its spec as it is now."""
    raw = cluster.get("EdgeDeployment", name)
    if raw is None or "status" not in raw:
        return None
    is_current = raw["status"].get("observedGeneration") == raw["metadata"]["generation"]
    return raw if is_current else None


def test_a_missing_model_is_named_and_its_arrival_is_noticed(
    cluster: Cluster, start: Start
) -> None:
    cluster.put_deployment()
    start()
    becomes_ready_with(cluster, "ModelNotFound")
    assert "'digits' does not exist" in cluster.condition("digits")["message"]
    assert cluster.generated() == {}
    cluster.put_model()
    eventually(lambda: cluster.ready_reason("digits") != "ModelNotFound", "the model was noticed")
    eventually(lambda: "DaemonSet" in "".join(cluster.generated()), "there is a DaemonSet")


def test_an_unknown_accelerator_is_an_invalid_spec(cluster: Cluster, start: Start) -> None:
    cluster.put_model()
    cluster.put_deployment(placement={"accelerators": ["no-such-thing"]})
    start()
    becomes_ready_with(cluster, "InvalidSpec")
    assert "no-such-thing" in cluster.condition("digits")["message"]
    assert cluster.generated() == {}


def test_without_an_eligible_node_every_node_gets_its_reason(
    cluster: Cluster, start: Start
) -> None:
    cluster.put_model()
    cluster.put_deployment(
        placement={"nodeSelector": {"skerry.dev/site": "harbour"}, "accelerators": ["npu"]}
    )
    start()
    raw = becomes_ready_with(cluster, "NoEligibleNodes")
    rejected = {node["node"]: node["reason"] for node in raw["status"]["rejectedNodes"]}
    assert set(rejected) == {"node-a", "node-b"}


def test_a_deployment_becomes_objects_and_the_model_is_checked(
    cluster: Cluster, start: Start
) -> None:
    cluster.put_model()
    owner = cluster.put_deployment()
    start()
    eventually(lambda: generated_kinds(cluster) == set(GENERATED), "one of each kind is there")
    for raw in cluster.generated().values():
        assert [o["uid"] for o in raw["metadata"]["ownerReferences"]] == [owner["metadata"]["uid"]]
    of_model = lambda: cluster.condition("digits", of="EdgeModel")  # noqa: E731
    ready = eventually(of_model, "the model was looked at")
    assert ready["status"] == "True"
    reasons = eventually(lambda: [e["reason"] for e in cluster.events()], "there is an event")
    assert reasons == ["FirstDeployment"]


def generated_kinds(cluster: Cluster) -> set[str]:
    return {name.partition("/")[0] for name in cluster.generated()}


def test_a_restarted_operator_writes_nothing(cluster: Cluster, start: Start) -> None:
    cluster.put_model()
    cluster.put_deployment()
    cluster.put_deployment("lost", modelRef={"name": "missing"})
    first = start()
    eventually(lambda: "DaemonSet" in "".join(cluster.generated()), "there is a DaemonSet")
    eventually(first.is_quiet, "nothing more is written")
    before = cluster.versions()
    assert first.end() == 0
    second = start()
    eventually(lambda: second.reconciles() >= 3, "everything was looked at")
    eventually(second.is_quiet, "nothing more is written")
    assert cluster.versions() == before
    assert second.writes() == 0


def test_an_edit_by_hand_of_a_generated_object_is_undone(cluster: Cluster, start: Start) -> None:
    cluster.put_model()
    cluster.put_deployment()
    process = start()
    eventually(lambda: cluster.all("DaemonSet"), "there is a DaemonSet")
    eventually(process.is_quiet, "nothing more is written")
    name = next(n for n in cluster.generated() if n.startswith("ConfigMap/")).split("/")[1]
    good = cluster.get("ConfigMap", name)
    assert good
    edit = [
        "patch",
        "configmap",
        name,
        "--type=merge",
        "-p",
        json.dumps({"data": {ASSIGNMENT_FILE: "{}"}}),
    ]
    kubectl_of(cluster.kubeconfig)(*edit, f"--namespace={cluster.namespace}")
    eventually(lambda: (cluster.get("ConfigMap", name) or {}).get("data") == good["data"], "undone")


def test_a_deleted_generated_object_comes_back(cluster: Cluster, start: Start) -> None:
    cluster.put_model()
    cluster.put_deployment()
    start()
    (daemonset,) = eventually(lambda: cluster.all("DaemonSet"), "there is a DaemonSet")
    name, uid = daemonset["metadata"]["name"], daemonset["metadata"]["uid"]
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/daemonsets/{name}"
    cluster.client.delete(path, "DaemonSet")
    eventually(
        lambda: (cluster.get("DaemonSet", name) or {}).get("metadata", {}).get("uid", uid) != uid,
        "the DaemonSet is back",
    )


def test_what_a_user_owns_is_never_written(cluster: Cluster, start: Start) -> None:
    cluster.put_model()
    before = cluster.put_deployment()
    process = start()
    eventually(lambda: cluster.all("DaemonSet"), "there is a DaemonSet")
    eventually(process.is_quiet, "nothing more is written")
    after = cluster.get("EdgeDeployment", "digits")
    assert after
    for part in ("labels", "annotations", "finalizers", "generation"):
        assert after["metadata"].get(part) == before["metadata"].get(part), part
    assert after["spec"] == before["spec"]
    managers = {f["manager"]: f.get("subresource") for f in after["metadata"]["managedFields"]}
    assert managers["skerry-operator"] == "status"


def test_many_edits_are_few_reconciles_and_the_last_one_counts(
    cluster: Cluster, start: Start
) -> None:
    cluster.put_model()
    cluster.put_deployment()
    process = start()
    eventually(process.is_quiet, "nothing more is written")
    path = f"/apis/skerry.dev/v1alpha1/namespaces/{cluster.namespace}/edgedeployments/digits"
    before = process.reconciles()
    process.popen.send_signal(signal.SIGSTOP)  # however slow this machine is, they come at once
    for number in range(50):
        spec = {"runtime": {"threads": number + 1}}
        cluster.client.merge(path, {"spec": spec}, "EdgeDeployment")
    process.popen.send_signal(signal.SIGCONT)
    raw = eventually(lambda: observed(cluster, "digits"), "the last edit was looked at")
    assert process.reconciles() - before < 25
    eventually(process.is_quiet, "nothing more is written")
    target = raw["status"]["targetRevision"]
    (cell,) = [c for c in cluster.all("ConfigMap") if ASSIGNMENT_FILE in c.get("data", {})]
    (model,) = json.loads(cell["data"][ASSIGNMENT_FILE])["revisions"][target]["models"].values()
    assert model["threads"] == 50


LEASE = ("--lease", "--lease-namespace=default")


def test_a_second_operator_waits_and_takes_over_at_once_when_the_first_ends(
    cluster: Cluster, start: Start
) -> None:
    flags = (*LEASE, f"--lease-name={cluster.namespace}")
    first = start(*flags)
    eventually(first.is_leader, "the first leads")
    second = start(*flags)
    cluster.put_deployment()
    becomes_ready_with(cluster, "ModelNotFound")
    assert not second.is_leader()
    assert second.reconciles() == 0
    assert first.end() == 0
    eventually(second.is_leader, "the second leads")
    cluster.put_model()
    eventually(lambda: cluster.all("DaemonSet"), "the second works")


def test_an_operator_that_was_stopped_for_long_ends_instead_of_writing(
    cluster: Cluster, start: Start
) -> None:
    flags = (*LEASE, f"--lease-name={cluster.namespace}")
    first = start(*flags)
    eventually(first.is_leader, "the first leads")
    second = start(*flags)
    first.popen.send_signal(signal.SIGSTOP)
    eventually(second.is_leader, "the second leads")
    cluster.put_deployment()
    becomes_ready_with(cluster, "ModelNotFound")
    eventually(second.is_quiet, "nothing more is written")
    before = cluster.versions()
    first.popen.send_signal(signal.SIGCONT)
    assert first.popen.wait(timeout=WITHIN_S) == 1
    assert cluster.versions() == before


def test_names_with_dots_are_names(cluster: Cluster, start: Start) -> None:
    cluster.put_model("resnet-1.5")
    start()
    cluster.put_deployment("quay.camera-2", modelRef={"name": "resnet-1.5"})
    kinds = lambda: {name.partition("/")[0] for name in cluster.generated()}  # noqa: E731
    eventually(lambda: kinds() == set(GENERATED), "everything is made")
    assert cluster.ready_reason("quay.camera-2") == "WaitingForUnits"
    (data,) = [one["data"] for one in cluster.all("ConfigMap") if "assignment.json" in one["data"]]
    assert '"resnet-1.5"' in data["assignment.json"]
