"""Hardware that goes, comes back, or is called otherwise: on kubelet's own device plugins."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import HELM_WAITS, RELEASE
from e2e.lab import NODES, Lab
from skerry_operator.api.base import Condition

NPU, GPU = "simulated.skerry.dev/npu", "simulated.skerry.dev/gpu"
NPU_CELL, CPU_CELL = "digits-simulated-npu-amd64", "digits-cpu-amd64"
VALUES = Path(__file__).with_name("hardware.yaml")
Cluster = Callable[..., None]


@pytest.fixture(scope="module", autouse=True)
def short_grace(settings_come_back: None, helm: list[str]) -> None:
    """Let the operator wait 25 s for hardware, and know a few more simulated kinds of it."""
    chart = str(Path(__file__).parents[2] / "charts/skerry")
    change = [*helm, "upgrade", RELEASE, chart, "--reuse-values", "--values", str(VALUES)]
    subprocess.run([*change, *HELM_WAITS], check=True)


@pytest.fixture(scope="module")
def cluster(cluster_command: list[str]) -> Cluster:
    def run(*words: str) -> None:
        subprocess.run([*cluster_command, *words], check=True)

    return run


@pytest.fixture
def digits(lab: Lab) -> Lab:
    """V1 is stable on all three nodes, each on its best hardware, before each test."""
    lab.start_stable()
    lab.wait(lambda: serves_on(lab, NODES[0], NPU_CELL), "node-a serves on its NPU")
    return lab


def allocatable(lab: Lab, node: str, resource: str) -> int:
    return int(lab.get("node", node)["status"]["allocatable"].get(resource, 0))


def placed(lab: Lab) -> Condition:
    found = {one.type: one for one in lab.status().conditions}
    return found["Placed"]


def serves_on(lab: Lab, node: str, cell: str) -> bool:
    return lab.cells().get(node) == cell and bool(lab.versions().get(node))


def test_a_device_that_is_gone_for_good_leaves_the_unit_on_the_cpu_and_is_used_again_when_back(
    digits: Lab, cluster: Cluster
) -> None:
    cluster("device", "lose", NODES[0])
    try:
        digits.wait(lambda: serves_on(digits, NODES[0], CPU_CELL), "it serves on the CPU")
        digits.wait_event("UnitMoved", NODES[0])
    finally:
        cluster("device", "regain", NODES[0])
    digits.wait(lambda: serves_on(digits, NODES[0], NPU_CELL), "it serves on the NPU again")


def test_a_device_whose_resource_has_another_name_after_a_reboot_is_the_same_profile(
    digits: Lab, cluster: Cluster
) -> None:
    cluster("device", "stop-plugin", NODES[0])
    cluster("device", "start-plugin", NODES[0], "--resource", f"{NPU}-renamed")
    try:
        digits.wait(lambda: serves_on(digits, NODES[0], f"{NPU_CELL}-r2"), "the new name")
    finally:
        cluster("device", "stop-plugin", NODES[0])
        cluster("device", "start-plugin", NODES[0])
    digits.wait(lambda: serves_on(digits, NODES[0], NPU_CELL), "the usual name")


def test_a_stick_that_changes_its_identity_keeps_its_unit(digits: Lab) -> None:
    node, cell = NODES[2], "digits-simulated-usb-amd64"
    cold, warm = (f"simulated.skerry.dev/usb-{state}" for state in ("cold", "warm"))
    try:
        digits.kubectl("label", "node", node, f"{cold}=true")
        digits.wait(lambda: serves_on(digits, node, cell), "it serves on the stick")
        pod = digits.pods()[node]
        digits.kubectl("label", "node", node, f"{cold}-")
        digits.wait(
            lambda: [one.node for one in digits.status().lost_hardware] == [node], "it is away"
        )
        digits.kubectl("label", "node", node, f"{warm}=true")
        digits.wait(lambda: digits.status().lost_hardware == (), "it is back under another name")
        assert digits.pods()[node] == pod
    finally:
        digits.kubectl("label", "node", node, f"{cold}-", f"{warm}-")


def test_a_node_that_loses_the_label_of_the_selector_loses_its_unit_and_gets_it_back(
    digits: Lab,
) -> None:
    node, label = NODES[2], "e2e.skerry.dev/camera"
    digits.kubectl("label", "node", NODES[0], node, f"{label}=yes")
    try:
        placement = {"nodeSelector": {label: "yes"}}
        digits.apply(digits.deployment(placement=placement))
        digits.wait(lambda: set(digits.cells()) == {NODES[0], node}, "two nodes are selected")
        digits.kubectl("label", "node", node, f"{label}-")
        digits.wait(lambda: set(digits.cells()) == {NODES[0]}, "one is left")
        digits.kubectl("label", "node", node, f"{label}=yes")
        digits.wait(lambda: set(digits.cells()) == {NODES[0], node}, "it is back")
        digits.wait_stable("1.0.0")
    finally:
        digits.kubectl("label", "node", NODES[0], node, f"{label}-")


def test_a_cordoned_node_keeps_its_unit_through_a_rollout_and_gets_no_new_one(digits: Lab) -> None:
    node = NODES[2]
    pod = digits.pods()[node]
    digits.kubectl("cordon", node)
    try:
        digits.apply(digits.model("v2"))
        digits.wait_stable("2.0.0")
        assert digits.pods()[node] == pod
        assert set(digits.versions().values()) == {"2.0.0"}
        digits.delete_deployment()
        digits.apply(digits.deployment())
        digits.wait(lambda: set(digits.cells()) == set(NODES[:2]), "the other two get a unit")
        digits.wait_stable("2.0.0")
        rejected = lambda: placed(digits).reason == "NodesRejected"  # noqa: E731
        digits.wait(rejected, "a node is rejected")
        assert f"kubectl uncordon {node}" in placed(digits).message
    finally:
        digits.kubectl("uncordon", node)
    digits.wait(lambda: set(digits.cells()) == set(NODES), "it joins")
    digits.wait(lambda: placed(digits).status == "True", "and nothing is missing")


def test_a_node_that_is_deleted_is_forgotten_and_joins_anew(digits: Lab, cluster: Cluster) -> None:
    node = NODES[2]
    cluster("node", "stop-kubelet", node)
    try:
        digits.kubectl("delete", "node", node)
        digits.wait(lambda: digits.status().units.eligible == 2, "two units are left")
        digits.apply(digits.model("v2", version="2.0.0-two"))
        digits.wait_stable("2.0.0-two")
    finally:
        cluster("up")
    digits.wait_serves(node, "2.0.0-two")
    digits.wait(lambda: digits.status().units.eligible == 3, "three units are there")


# --- replicas ---


def replicas(lab: Lab, count: int, **placement: Any) -> dict[str, Any]:
    placement = {"mode": "Replicas", "replicas": count, **placement}
    body = lab.deployment(placement=placement)
    body["metadata"]["name"] = "spread"
    return body


def spread(lab: Lab) -> dict[str, tuple[str, str]]:
    """Unit -> node and cell of its pod, of those that are ready."""
    return {
        pod["metadata"]["labels"]["skerry.dev/unit"]: (
            pod["spec"].get("nodeName", ""),
            pod["metadata"]["labels"]["skerry.dev/cell"].removeprefix("spread-"),
        )
        for pod in lab.living("spread")
        if {"Ready": "True"}.items()
        <= {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}.items()
    }


def seats(lab: Lab, version: str) -> list[str] | None:
    """Return the cells of the three units once all of them serve a version."""
    cells = sorted(cell for _, cell in spread(lab).values())
    return cells if spread_is(lab, version, 3) and len(cells) == 3 else None


def spread_is(lab: Lab, version: str, ready: int) -> bool:
    found = lab.get("edgedeployment", "spread")
    status = found.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    is_current = status.get("observedGeneration") == found["metadata"]["generation"]
    return (
        is_current
        and status.get("modelVersion") == version
        and conditions.get("Ready") == "True"
        and status["units"]["serving"] == ready
    )


def test_replicas_take_the_free_devices_first_spill_and_climb_back_with_a_rollout(
    lab: Lab, cluster: Cluster
) -> None:
    lab.delete_deployment()
    lab.apply(lab.model("v1"), replicas(lab, 3))
    try:
        taken = lab.wait(lambda: seats(lab, "1.0.0"), "three replicas serve")
        assert taken == ["cpu-amd64", "simulated-gpu-amd64", "simulated-npu-amd64"]
        cluster("device", "lose", NODES[0])
        spilt = lambda: "simulated-npu-amd64" not in (seats(lab, "1.0.0") or taken)  # noqa: E731
        lab.wait(spilt, "three replicas serve again, and none on the NPU")
        before = spread(lab)
        cluster("device", "regain", NODES[0])
        lab.wait(lambda: allocatable(lab, NODES[0], NPU) == 1, "the NPU is back")
        lab.apply(lab.model("v2"))
        now = lab.wait(lambda: seats(lab, "2.0.0"), "the new version serves")
        assert "simulated-npu-amd64" in now
        moved = {unit for unit, seat in spread(lab).items() if seat != before[unit]}
        assert len(moved) == 1
    finally:
        cluster("device", "regain", NODES[0])
        lab.delete_deployment("spread")


def test_two_deployments_never_share_the_one_device(digits: Lab) -> None:
    lab = digits
    lab.apply(replicas(lab, 1, accelerators=["npu"], fallback="Forbid"))
    try:

        def refused() -> dict[str, Any] | None:
            found = lab.get("edgedeployment", "spread").get("status", {})
            nodes = {one["node"]: one["reason"] for one in found.get("rejectedNodes", [])}
            return found if nodes.get(NODES[0]) == "AcceleratorInUse" else None

        status = lab.wait(refused, "the device is in use")
        ready = {one["type"]: one for one in status["conditions"]}["Ready"]
        assert (ready["status"], ready["reason"]) == ("False", "InsufficientCapacity")
        lab.delete_deployment()
        lab.wait(lambda: spread_is(lab, "1.0.0", 1), "it gets the device that was given back")
    finally:
        lab.delete_deployment("spread")
