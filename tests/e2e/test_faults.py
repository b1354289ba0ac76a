"""Things that break at the edge while a rollout is under way, or afterwards."""

from __future__ import annotations

import subprocess
import time
import urllib.request

import pytest

from e2e.lab import ANSWER_S, NODES, WITHIN_S, Lab, PodView
from skerry_operator.api.v1alpha1.edgedeployment_status import RolloutStatus

REST_S = 2.0
LONG_CANARY = {"steps": [{"units": "1", "soak": "12s"}, {"units": "100%", "soak": "1s"}]}


@pytest.fixture
def pods(lab: Lab) -> dict[str, PodView]:
    """V1 is stable everywhere before each test."""
    lab.start_stable()
    return lab.pods()


def the_one_that_serves(lab: Lab, version: str) -> str | None:
    """Return the canary's node as soon as exactly one node serves the version."""
    found = [node for node, serving in lab.versions().items() if serving == version]
    return found[0] if len(found) == 1 else None


def soaking(lab: Lab) -> RolloutStatus | None:
    """Return the rollout while its canary is being watched."""
    rollout = lab.status().rollout
    return rollout if rollout.stage == "Soaking" else None


def test_an_operator_that_is_killed_in_the_canary_goes_on_where_it_was(
    lab: Lab, operator: str, pods: dict[str, PodView]
) -> None:
    new = "2.0.0-killed"
    lab.apply(lab.deployment(rollout=LONG_CANARY), lab.model("v2", version=new))
    before = lab.wait(lambda: soaking(lab), "the canary is being watched")
    one_pod = ("--selector=app.kubernetes.io/name=skerry", "--force", "--grace-period=0")
    lab.kubectl("delete", "pod", f"--namespace={operator}", *one_pod)
    status = lab.wait_stable(new)
    assert status.rollout.started_at == before.started_at
    assert before.soak_started_at is not None
    assert lab.pods() == pods
    lab.wait_event("Promoted", f"{new} ({status.stable_revision}) is stable")


def test_an_operator_that_restarts_at_rest_writes_nothing(
    lab: Lab, operator: str, pods: dict[str, PodView]
) -> None:
    before = lab.wait(lambda: unchanged(lab), "the objects are at rest")
    lab.kubectl("rollout", "restart", "deployment", "-n", operator)
    lab.kubectl("rollout", "status", "deployment", "-n", operator, f"--timeout={WITHIN_S:.0f}s")
    lab.wait(lambda: looks(lab, operator) >= 2, "it looked at the model and the deployment")
    assert versions(lab) == before
    assert lab.pods() == pods


def versions(lab: Lab) -> dict[str, str]:
    """Return the version of every object that the operator could write."""
    kinds = "edgedeployments,edgemodels,daemonsets,configmaps,services,controllerrevisions"
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in lab.items(kinds)
    }


def unchanged(lab: Lab) -> dict[str, str] | None:
    """Return the versions when they stay for a while: Kubernetes writes its own word as well."""
    before = versions(lab)
    time.sleep(REST_S)
    return before if versions(lab) == before else None


def looks(lab: Lab, operator: str) -> float:
    """Return how many reconciles the one running operator has ended well."""
    pods = lab.items("pods", "-n", operator)
    addresses = [pod["status"].get("podIP") for pod in pods]
    if len(addresses) != 1 or not addresses[0]:
        return 0
    try:
        url = f"http://{addresses[0]}:8080/metrics"
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    counted = [line for line in lines if line.startswith("skerry_reconcile_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted if 'result="success"' in line)


def test_a_canary_whose_kubelet_stops_is_offline_and_joins_when_it_is_back(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    new = "2.0.0-offline"
    lab.apply(lab.deployment(rollout=LONG_CANARY), lab.model("v2", version=new))
    canary = lab.wait(lambda: the_one_that_serves(lab, new), "one node serves it")
    subprocess.run([*cluster_command, "node", "stop-kubelet", canary], check=True)
    try:
        lab.wait(lambda: lab.status().units.offline == 1, "the canary counts as offline")
        lab.wait(
            lambda: serves_everywhere_but(lab, canary, new), "the others get it without waiting"
        )
    finally:
        subprocess.run([*cluster_command, "node", "start-kubelet", canary], check=True)
    lab.wait(lambda: lab.status().units.offline == 0, "the node is back")
    lab.wait_stable(new)
    assert set(lab.versions().values()) == {new}
    assert {node: pod.uid for node, pod in lab.pods().items()} == {
        node: pod.uid for node, pod in pods.items()
    }


def serves_everywhere_but(lab: Lab, offline: str, version: str) -> bool:
    others = [serving for node, serving in lab.versions().items() if node != offline]
    return set(others) == {version}


def test_a_pod_that_restarts_while_the_model_server_is_down_serves_from_its_disk(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node = NODES[2]
    victim = pods[node]
    lab.server.stop()
    try:
        words = ("node", "kill-container", node, lab.namespace, victim.name, "runtime")
        subprocess.run([*cluster_command, *words], check=True)
        restarted = lambda: lab.pods()[node].restarts > victim.restarts  # noqa: E731
        lab.wait(restarted, "the container was restarted")
        report = lab.wait_serves(node, lab.index.model("v1").version)
    finally:
        lab.server.start()
    assert report.last_swap is not None
    assert not report.last_swap.fetched
    assert lab.pods()[node].uid == victim.uid


def test_a_device_that_is_lost_and_comes_back_moves_no_unit(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    cell = lab.cells()[NODES[0]]
    subprocess.run([*cluster_command, "device", "lose", NODES[0]], check=True)
    try:
        lab.wait(lambda: npus(lab) == 0, "the node has no allocatable NPU")
        lab.wait(lambda: [lost.node for lost in lab.status().lost_hardware] == [NODES[0]], "noted")
        assert lab.cells()[NODES[0]] == cell
        assert lab.versions()[NODES[0]] == lab.index.model("v1").version
    finally:
        subprocess.run([*cluster_command, "device", "regain", NODES[0]], check=True)
    lab.wait(lambda: npus(lab) == 1, "the NPU is back")
    lab.wait(lambda: lab.status().lost_hardware == (), "nothing is missing")
    assert lab.pods() == pods
    assert lab.cells()[NODES[0]] == cell


def test_a_device_plugin_that_restarts_moves_no_unit(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    subprocess.run([*cluster_command, "device", "stop-plugin", NODES[0]], check=True)
    try:
        lab.wait(lambda: npus(lab) == 0, "the node has no allocatable NPU")
        lost = lambda: [one.node for one in lab.status().lost_hardware] == [NODES[0]]  # noqa: E731
        lab.wait(lost, "the loss is on record")
    finally:
        subprocess.run([*cluster_command, "device", "start-plugin", NODES[0]], check=True)
    lab.wait(lambda: npus(lab) == 1, "the NPU is back")
    lab.wait(lambda: lab.status().lost_hardware == (), "nothing is missing")
    assert lab.pods() == pods
    lab.wait_event("HardwareLost", NODES[0])
    lab.wait_event("HardwareReturned", NODES[0])


def npus(lab: Lab) -> int:
    allocatable = lab.get("node", NODES[0])["status"]["allocatable"]
    return int(allocatable.get("simulated.skerry.dev/npu", 0))
