"""A reboot after which the device plugin is slower than the kubelet, on a real kubelet."""

from __future__ import annotations

import subprocess

import pytest

from e2e.lab import NODES, Lab

pytestmark = pytest.mark.long


def test_a_plugin_that_is_slower_than_the_kubelet_moves_no_unit(
    lab: Lab, cluster_command: list[str]
) -> None:
    node = NODES[0]
    version = str(lab.start_stable().model_version)
    pod, cell = lab.pods()[node], lab.cells()[node]

    def a_new_pod_waits() -> bool:
        waiting = [one for one in lab.living() if not one["spec"].get("nodeName")]
        return any(one["metadata"]["labels"]["skerry.dev/cell"] == cell for one in waiting)

    subprocess.run([*cluster_command, "device", "stop-plugin", node], check=True)
    try:
        subprocess.run([*cluster_command, "node", "reboot", node], check=True)
        lab.wait(a_new_pod_waits, "the kubelet refused the pod, and a new one waits for the device")
        lost = lambda: [one.node for one in lab.status().lost_hardware] == [node]  # noqa: E731
        lab.wait(lost, "the operator has seen it")
        assert a_new_pod_waits()
    finally:
        subprocess.run([*cluster_command, "device", "start-plugin", node], check=True)
    lab.wait_serves(node, version)
    lab.wait_stable(version)
    lab.wait(lambda: lab.status().lost_hardware == (), "nothing is missing")
    assert lab.cells()[node] == cell
    assert lab.pods()[node].uid != pod.uid
    assert lab.events("UnitMoved") == []
