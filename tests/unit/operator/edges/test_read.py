"""Raw objects -> the few fields that decisions read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from builders import NOW, make_report, reduced
from owned import controlled, reference, workload
from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    ANNOTATION_NUDGE,
    FIELD_MANAGER,
    LABEL_CELL,
    LABEL_DEPLOYMENT,
    LABEL_PROFILE,
    LABEL_REVISION,
    LABEL_TEMPLATE,
    LABEL_UNIT,
)
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node, Taint
from skerry_operator.kube.children import CONTENT_LIMIT, read_child
from skerry_operator.kube.observe import observe
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.pods import read_pod
from skerry_operator.kube.read import (
    BadResource,
    child_entry,
    deployment_entry,
    model_entry,
    node_entry,
    pod_entry,
    read_deployment,
    read_node,
    trimmed,
)
from skerry_operator.kube.tables import Cache
from skerry_runtime.contract import ASSIGNMENT_FILE

Raw = dict[str, Any]


def raw_node(**status: Any) -> Raw:
    return {
        "metadata": {
            "name": "node-7",
            "uid": "n7",
            "resourceVersion": "7",
            "labels": {"kubernetes.io/hostname": "node-7"},
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"taints": [{"key": "edge", "effect": "NoSchedule"}], "podCIDR": "10.0.0.0/24"},
        "status": {
            "nodeInfo": {"architecture": "arm64", "kernelVersion": "6"},
            "allocatable": {
                "cpu": "3920m",
                "memory": "2Gi",
                "hailo.ai/h8": "1",
                "ephemeral-storage": "9Ei",
                "odd.example/thing": "1e3u",
            },
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}],
            "images": [{"names": ["a"] * 50}],
        }
        | status,
    }


def raw_pod(status: Raw | None = None, **metadata: Any) -> Raw:
    return {
        "metadata": {
            "name": "digits-x",
            "namespace": "edge",
            "uid": "p1",
            "resourceVersion": "9",
            "labels": {
                LABEL_DEPLOYMENT: "digits",
                LABEL_CELL: "digits-cpu-arm64",
                LABEL_TEMPLATE: "t1",
                LABEL_REVISION: "v1-a",
            },
            "annotations": {ANNOTATION_NUDGE: "abc.1"},
            "creationTimestamp": "2026-11-23T11:00:00Z",
        }
        | metadata,
        "spec": {"nodeName": "node-7", "containers": [{"name": "runtime"}]},
        "status": status or {},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Raw:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def raw_deployment(**fields: Any) -> Raw:
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {
            "name": "digits",
            "namespace": "edge",
            "uid": "d1",
            "resourceVersion": "20",
            "generation": 3,
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "skerry.dev/promote": "v1-a",
            },
        },
        "spec": {"modelRef": {"name": "digits"}},
        **fields,
    }


def ours(time: str) -> Raw:
    return {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "time": time,
        "fieldsV1": {"f:data": {}, "f:metadata": {}},
    }


def theirs(time: str, *fields: str, **more: Any) -> Raw:
    return {"manager": "kubectl-edit", "time": time, "fieldsV1": {f: {} for f in fields}, **more}


def raw_config_map(text: str, *managed: Raw, owner_uid: str = "d1") -> Raw:
    return {
        "metadata": {
            "name": "digits-cpu-arm64",
            "namespace": "edge",
            "uid": "c1",
            "resourceVersion": "30",
            "labels": {LABEL_DEPLOYMENT: "digits", LABEL_CELL: "digits-cpu-arm64"},
            "annotations": {ANNOTATION_DIGEST: "d00d"},
            "managedFields": list(managed or [ours("2026-11-23T11:00:00Z")]),
            "ownerReferences": [reference("EdgeDeployment", "digits", owner_uid)]
            if owner_uid
            else [],
        },
        "data": {ASSIGNMENT_FILE: text},
    }


ASSIGNMENT = json.dumps(
    {
        "schema": 1,
        "deployment": "edge/digits",
        "cell": "digits-cpu-arm64",
        "execution": {"profile": "cpu"},
        "default": "v1-a",
    }
)


def test_a_node_is_reduced_to_what_placement_reads() -> None:
    assert read_node(raw_node()) == Node(
        name="node-7",
        arch="arm64",
        labels={"kubernetes.io/hostname": "node-7"},
        allocatable={"cpu": 3.92, "memory": 2.0**31, "hailo.ai/h8": 1.0},
        taints=(Taint("edge", "NoSchedule"),),
        unschedulable=False,
        reachable=True,
    )


def test_a_heartbeat_changes_nothing() -> None:
    cache = Cache()
    assert cache.nodes.seen(node_entry(raw_node()))
    beat = raw_node(conditions=[{"type": "Ready", "status": "True", "lastHeartbeatTime": "later"}])
    beat["metadata"]["resourceVersion"] = "8"
    assert not cache.nodes.seen(node_entry(beat))


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_node_whose_kubelet_is_not_ready_or_silent_is_not_reachable(status: str) -> None:
    assert not read_node(raw_node(conditions=[{"type": "Ready", "status": status}])).reachable


def test_a_node_that_has_not_reported_yet_is_not_reachable() -> None:
    assert not read_node({"metadata": {"name": "new"}}).reachable


def test_a_running_pod_is_reduced_to_what_decisions_read() -> None:
    status = {
        "podIP": "10.0.0.9",
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"restartCount": 2, "state": {"running": {}}}],
        "initContainerStatuses": [{"restartCount": 1, "state": {"terminated": {}}}],
    }
    assert read_pod(raw_pod(status)) == Pod(
        name="digits-x",
        uid="p1",
        unit="node-7",
        cell="digits-cpu-arm64",
        template="t1",
        ip="10.0.0.9",
        ready=True,
        restarts=3,
        revision_label="v1-a",
        nudge="abc.1",
        created_at=datetime(2026, 11, 23, 11, tzinfo=UTC),
        node="node-7",
    )


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        ({"containerStatuses": [waiting("ContainerCreating")]}, "", ""),
        (
            {"containerStatuses": [waiting("ImagePullBackOff", "Back-off pulling image")]},
            "ImagePullBackOff",
            "Back-off pulling image",
        ),
        (
            {
                "containerStatuses": [
                    waiting(
                        "CrashLoopBackOff",
                        "back-off 10s",
                        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    )
                ]
            },
            "CrashLoopBackOff",
            "back-off 10s (last exit: OOMKilled, code 137)",
        ),
        (
            {
                "initContainerStatuses": [waiting("ErrImagePull", "no such image")],
                "containerStatuses": [waiting("PodInitializing")],
            },
            "ErrImagePull",
            "no such image",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes: Insufficient memory",
                    }
                ]
            },
            "Unschedulable",
            "0/3 nodes: Insufficient memory",
        ),
        (
            {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no device"},
            "UnexpectedAdmissionError",
            "no device",
        ),
    ],
    ids=["starting", "no image", "crash loop", "init container", "unschedulable", "refused"],
)
def test_a_pod_says_why_it_waits(status: Raw, reason: str, message: str) -> None:
    pod = read_pod(raw_pod(status))
    assert (pod.waiting_reason, pod.waiting_message) == (reason, message)


def test_a_pod_that_is_going_away_says_so() -> None:
    assert read_pod(raw_pod(deletionTimestamp="2026-11-23T11:00:00Z")).deleting


def test_a_custom_resource_keeps_neither_managed_fields_nor_kubectl_s_copy() -> None:
    assert trimmed(raw_deployment())["metadata"] == {
        "name": "digits",
        "namespace": "edge",
        "uid": "d1",
        "generation": 3,
        "annotations": {"skerry.dev/promote": "v1-a"},
    }


def test_a_status_that_cannot_be_read_counts_as_absent() -> None:
    subject = read_deployment(deployment_entry(raw_deployment(status={"units": "many"})))
    assert subject.deployment.status.units.eligible == 0
    assert subject.deployment.metadata.generation == 3


def test_a_spec_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadResource, match=r"spec.modelRef"):
        read_deployment(deployment_entry(raw_deployment(spec={"modelRef": "digits"})))


def test_a_cell_s_digest_is_that_of_the_bytes_that_the_pods_see() -> None:
    child = read_child("ConfigMap", raw_config_map(ASSIGNMENT))
    assert child.cell
    assert child.cell.assignment.default == "v1-a"
    assert len(child.cell.digest) == 64


def test_a_cell_that_was_edited_into_nonsense_is_no_cell() -> None:
    assert read_child("ConfigMap", raw_config_map("{")).cell is None


def test_a_daemonset_s_nodes_are_those_of_its_affinity() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "values": ["a", "b"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    raw = {
        "metadata": {"name": "x", "labels": {LABEL_CELL: "c", LABEL_TEMPLATE: "t"}},
        "spec": {"template": {"spec": {"affinity": {"nodeAffinity": required}}}},
    }
    template = read_child("DaemonSet", raw).template
    assert template
    assert (template.cell, template.template, template.nodes) == ("c", "t", ("a", "b"))


def filled(*children: Raw) -> Cache:
    cache = Cache()
    cache.deployments.seen(deployment_entry(raw_deployment()))
    cache.nodes.seen(node_entry(raw_node()))
    cache.children["DaemonSet"].seen(child_entry("DaemonSet", workload("maker")))
    cache.pods.seen(pod_entry(controlled(raw_pod({"podIP": "10.0.0.9"}), "maker")))
    for child in children:
        cache.children["ConfigMap"].seen(child_entry("ConfigMap", child))
    return cache


def look(cache: Cache) -> Any:
    entry = cache.deployments.get(("edge", "digits"))
    assert entry
    return observe(
        cache,
        read_deployment(entry),
        now=NOW,
        reports={"node-7": reduced(make_report("node-7"))},
        polled=True,
        apply_error=None,
    )


def test_what_is_observed_comes_from_memory_alone() -> None:
    observed = look(filled(raw_config_map(ASSIGNMENT)))
    assert [node.name for node in observed.nodes] == ["node-7"]
    assert [pod.name for pod in observed.pods] == ["digits-x"]
    assert [cell.name for cell in observed.cells] == ["digits-cpu-arm64"]
    assert set(observed.generated) == {"ConfigMap/digits-cpu-arm64", "DaemonSet/maker"}
    assert observed.model is None


def test_an_object_shows_no_digest_until_it_was_seen_to_be_right_as_it_is() -> None:
    seen = raw_config_map(ASSIGNMENT)
    cache = filled(seen)
    assert look(cache).generated["ConfigMap/digits-cpu-arm64"] == ""
    cache.wrote_child("ConfigMap", seen)
    assert look(cache).generated["ConfigMap/digits-cpu-arm64"] == "d00d"
    edited = raw_config_map("{}")
    edited["metadata"]["resourceVersion"] = "31"
    cache.children["ConfigMap"].seen(child_entry("ConfigMap", edited))
    assert look(cache).generated["ConfigMap/digits-cpu-arm64"] == ""


def test_an_orphan_is_observed_and_applied_again_to_be_adopted() -> None:
    observed = look(filled(raw_config_map(ASSIGNMENT, owner_uid="")))
    assert [cell.name for cell in observed.cells] == ["digits-cpu-arm64"]
    assert observed.generated["ConfigMap/digits-cpu-arm64"] == ""


def test_objects_of_an_earlier_deployment_of_the_same_name_are_not_observed() -> None:
    observed = look(filled(raw_config_map(ASSIGNMENT, owner_uid="d0")))
    assert observed.cells == ()
    assert set(observed.generated) == {"DaemonSet/maker"}


def test_the_model_is_the_one_of_the_same_namespace() -> None:
    cache = filled()
    model = {
        "metadata": {"name": "digits", "namespace": "other", "uid": "m", "resourceVersion": "1"},
        "spec": {},
    }
    cache.models.seen(model_entry(model))
    assert look(cache).model is None


def waiting_for_node(node: str) -> Raw:
    """A pod of a DaemonSet, as its controller makes it, before the scheduler took it."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return raw_pod() | {"spec": {"affinity": required, "containers": [{"name": "runtime"}]}}


def test_a_pod_that_is_not_scheduled_belongs_to_the_node_that_it_was_made_for() -> None:
    pod = read_pod(waiting_for_node("node-7"))
    assert (pod.unit, pod.is_scheduled) == ("node-7", False)
    assert (read_pod(raw_pod()).unit, read_pod(raw_pod()).is_scheduled) == ("node-7", True)
    nowhere = read_pod(raw_pod() | {"spec": {"containers": []}})
    assert (nowhere.unit, nowhere.is_scheduled) == ("", False)


def test_nothing_is_remembered_of_objects_that_are_gone() -> None:
    cache = Cache()
    for number in range(50):
        uid = f"u{number}"
        raw = raw_pod(name=f"c{number}", uid=uid) | {"data": {}}
        cache.wrote_child("ConfigMap", raw)
        cache.children["ConfigMap"].discard(("edge", f"c{number}"), uid)
    assert len(cache._accepted) <= 2


def holding(deployment: str, name: str, node: str = "node-7", phase: str = "Running") -> Raw:
    raw = raw_pod({"phase": phase}, name=name, uid=name)
    limits = {"hailo.ai/h8": "1", "memory": "1Gi"}
    raw["spec"] = {"nodeName": node, "containers": [{"resources": {"limits": limits}}]}
    return controlled(raw, f"{deployment}-maker")


def maker(deployment: str, uid: str) -> Any:
    return child_entry("DaemonSet", workload(f"{deployment}-maker", deployment, uid))


def taken(cache: Cache, uid: str = "d1") -> Any:
    return cache.claims.taken(Owner("EdgeDeployment", "edge", "digits", uid))


def test_devices_that_other_deployments_hold_are_counted_by_node() -> None:
    cache = Cache()
    for name, uid in (("digits", "d1"), ("other", "d2"), ("third", "d3")):
        cache.children["DaemonSet"].seen(maker(name, uid))
    for raw in (holding("digits", "own"), holding("other", "a"), holding("third", "b")):
        cache.pods.seen(pod_entry(raw))
    assert taken(cache) == {"node-7": {"hailo.ai/h8": 2}}
    cache.pods.discard(("edge", "a"))
    assert taken(cache) == {"node-7": {"hailo.ai/h8": 1}}
    cache.pods.discard(("edge", "b"))
    assert taken(cache) == {}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over_holds_no_device_and_has_no_address(phase: str) -> None:
    cache = Cache()
    cache.children["DaemonSet"].seen(maker("other", "d2"))
    cache.pods.seen(pod_entry(holding("other", "a")))
    over = holding("other", "a", phase=phase)
    over["metadata"]["resourceVersion"] = "10"
    over["status"]["podIP"] = "10.0.0.9"
    cache.pods.seen(pod_entry(over))
    assert taken(cache) == {}
    assert read_pod(over).ip == ""
    assert cache.claims.released(("edge", "a")) == "node-7"


def test_a_pod_of_a_stranger_holds_nothing_whatever_its_labels_say() -> None:
    cache = Cache()
    raw = holding("other", "a")
    del raw["metadata"]["ownerReferences"]
    cache.pods.seen(pod_entry(raw))
    cache.children["DaemonSet"].seen(maker("other", "d2"))
    assert taken(cache) == {}


def test_a_pod_that_was_seen_before_what_made_it_counts_once_that_comes() -> None:
    cache = Cache()
    cache.pods.seen(pod_entry(holding("other", "a")))
    assert taken(cache) == {}
    cache.children["DaemonSet"].seen(maker("other", "d2"))
    assert taken(cache) == {"node-7": {"hailo.ai/h8": 1}}


def test_a_pod_whose_workload_is_being_collected_holds_its_device_until_it_is_gone() -> None:
    cache = Cache()
    cache.children["DaemonSet"].seen(maker("digits", "d0"))
    cache.pods.seen(pod_entry(holding("digits", "a")))
    cache.children["DaemonSet"].discard(("edge", "digits-maker"))
    ending = holding("digits", "a")
    ending["metadata"] |= {"resourceVersion": "10", "deletionTimestamp": "2026-11-23T11:00:00Z"}
    cache.pods.seen(pod_entry(ending))
    assert taken(cache) == {"node-7": {"hailo.ai/h8": 1}}
    cache.pods.discard(("edge", "a"))
    assert taken(cache) == {}


def test_an_orphan_s_pods_are_those_of_the_deployment_that_will_adopt_it() -> None:
    cache = Cache()
    cache.children["DaemonSet"].seen(maker("digits", ""))
    cache.pods.seen(pod_entry(holding("digits", "a")))
    assert taken(cache) == {}
    assert taken(cache, "d9") == {}
    other = Owner("EdgeDeployment", "edge", "other", "d2")
    assert cache.claims.taken(other) == {"node-7": {"hailo.ai/h8": 1}}


def test_what_was_observed_of_devices_does_not_change_with_the_pods() -> None:
    cache = Cache()
    cache.children["DaemonSet"].seen(maker("other", "d2"))
    cache.pods.seen(pod_entry(holding("other", "a")))
    before = taken(cache)
    cache.pods.discard(("edge", "a"))
    assert before == {"node-7": {"hailo.ai/h8": 1}}


def test_a_pod_that_is_over_hides_no_successor_and_is_shown_while_it_has_none() -> None:
    cache = filled()
    over = raw_pod({"phase": "Failed", "reason": "Evicted"}, name="old", uid="old")
    cache.pods.seen(pod_entry(controlled(over, "maker")))
    assert [pod.name for pod in look(cache).pods] == ["digits-x"]
    cache.pods.discard(("edge", "digits-x"))
    (shown,) = look(cache).pods
    assert (shown.name, shown.waiting_reason, shown.is_over) == ("old", "Evicted", True)


def test_a_pod_of_a_stranger_is_no_unit_s_pod() -> None:
    cache = filled()
    stranger = raw_pod({"podIP": "10.0.0.1"}, name="stranger", uid="s")
    cache.pods.seen(pod_entry(stranger))
    cache.pods.seen(pod_entry(controlled(raw_pod(name="z", uid="z"), "no-such-workload")))
    assert [pod.name for pod in look(cache).pods] == ["digits-x"]


@pytest.mark.parametrize("loss", ["managedFields", "annotations"])
def test_a_copy_of_an_object_of_ours_is_not_observed_and_people_are_told_once(loss: str) -> None:
    copy = raw_config_map(ASSIGNMENT)
    del copy["metadata"][loss]
    cache = filled(copy)
    assert set(look(cache).generated) == {"DaemonSet/maker"}
    owner = Owner("EdgeDeployment", "edge", "digits", "d1")
    (note,) = cache.complaints.take(owner)
    assert (note.reason, "digits-cpu-arm64" in note.message) == ("ForeignObject", True)
    copy["metadata"]["resourceVersion"] = "31"
    cache.children["ConfigMap"].seen(child_entry("ConfigMap", copy))
    assert cache.complaints.take(owner) == ()


def test_a_content_that_is_too_large_or_too_fine_is_not_read() -> None:
    units = {str(number): "" for number in range(40_000)}
    for text in ("x" * CONTENT_LIMIT, json.dumps({"units": units})):
        child = read_child("ConfigMap", raw_config_map(text))
        assert child.cell is None


def test_the_device_of_a_sidecar_is_the_pods_claim() -> None:
    raw = raw_pod()
    device = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    raw["spec"] = {"nodeName": "n", "initContainers": [device], "containers": [{}]}
    assert read_pod(raw).claim == "nvidia.com/gpu"


def test_a_pod_that_has_a_profile_alone_claims_it() -> None:
    raw = raw_pod()
    raw["metadata"]["labels"][LABEL_PROFILE] = "arm-mali"
    raw["spec"] = {"nodeName": "n", "affinity": {"podAntiAffinity": {"required": []}}}
    assert read_pod(raw).claim == "profile/arm-mali"


def test_a_replica_is_named_by_its_label_wherever_it_runs() -> None:
    raw = raw_pod()
    raw["metadata"]["labels"][LABEL_UNIT] = "digits-0"
    pod = read_pod(raw)
    assert (pod.unit, pod.node) == ("digits-0", "node-7")


@pytest.mark.parametrize(
    ("started", "phase", "is_started"),
    [((True, True), "Running", True), ((True, False), "Running", False), ((), "Pending", False),
     ((True,), "Failed", False)],
    ids=["all run", "one starts", "none yet", "it is over"],
)  # fmt: skip
def test_a_pod_is_started_when_every_container_is(
    started: tuple[bool, ...], phase: str, is_started: bool
) -> None:
    containers = [{"restartCount": 0, "started": one} for one in started]
    pod = read_pod(raw_pod({"phase": phase, "containerStatuses": containers}))
    assert pod.is_started is is_started


def test_how_a_container_ended_is_known_while_it_runs_again() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    container = {"restartCount": 1, "state": {"running": {}}, "lastState": ended}
    assert read_pod(raw_pod({"containerStatuses": [container]})).last_exit == "OOMKilled, code 137"


def test_who_takes_a_pod_away_is_known_once_it_goes() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
    }
    raw = raw_pod({"conditions": [condition]})
    assert read_pod(raw).disruption == ""
    raw["metadata"]["deletionTimestamp"] = "2026-11-23T11:00:00Z"
    assert read_pod(raw).disruption.startswith("PreemptionByScheduler: default-scheduler")


def test_what_a_kubelet_says_moves_no_terminal_and_is_bounded() -> None:
    said = waiting("Err\x1b[2J", "no\nsuch \u202eimage" + "x" * 10**5)
    pod = read_pod(raw_pod({"containerStatuses": [said]}))
    assert (pod.waiting_reason + pod.waiting_message).isprintable()
    assert len(pod.waiting_message) <= 512
