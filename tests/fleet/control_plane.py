"""A control plane of its own with KWOK nodes: the real API server, DaemonSet controller and
scheduler, and the real controller that notices silent nodes.

Beside any other cluster of the machine, on free ports; nothing of it outlives the context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from bare_api import bare_api, install_crds, running
from fleet.audit import Audit
from fleet.simulated_pod import LABEL_HABIT, Habit

LEASE_S = 20
"""Life of a node's lease; KWOK renews it four times as often."""
NODE_GRACE_S = 12
"""A node whose lease was not renewed for so long is not ready."""
FAKE = ("kwok.x-k8s.io/node", "fake")
"""Annotation of the nodes that KWOK plays."""
_NODE_INFO = (
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "osImage",
    "systemUUID",
)
_CONTROLLERS = "daemonset-controller,node-lifecycle-controller,garbage-collector-controller"


@contextlib.contextmanager
def control_plane(folder: Path, audit: Audit) -> Iterator[Path]:
    """Start it with our CRDs installed; yield the administrator's kubeconfig."""
    with contextlib.ExitStack() as parts:
        kubeconfig = parts.enter_context(bare_api(folder, *audit.flags()))
        install_crds(kubeconfig)
        common = [f"--kubeconfig={kubeconfig}"]
        quiet = ["--leader-elect=false", "--secure-port=0"]
        manager = [*common, *quiet, f"--controllers={_CONTROLLERS}", *_node_monitor()]
        parts.enter_context(running(folder, "kube-controller-manager", manager))
        parts.enter_context(running(folder, "kube-scheduler", [*common, *quiet]))
        stages = folder / "stages.yaml"
        stages.write_text(_node_stage())
        parts.enter_context(running(folder, "kwok", [*common, *_kwok(stages)]))
        yield kubeconfig


def _node_monitor() -> list[str]:
    return ["--node-monitor-period=2s", f"--node-monitor-grace-period={NODE_GRACE_S}s"]


def _kwok(stages: Path) -> list[str]:
    key, value = FAKE
    return [
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={key}={value}",
        f"--node-lease-duration-seconds={LEASE_S}",
        f"--config={stages}",
    ]


def _node_stage() -> str:
    """Return how KWOK plays a node: once it is ready its lease alone speaks for it.

    KWOK's own stages would go on to say that a node is ready after its lease has run out.
    """
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "reason": "Simulated",
            "message": "",
            "lastHeartbeatTime": "{{ Now }}",
            "lastTransitionTime": "{{ Now }}",
        }
        for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    node_info = {
        "architecture": "amd64",
        "operatingSystem": "linux",
        **dict.fromkeys(_NODE_INFO, "simulated"),
    }
    is_not_ready = {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": "NotIn",
        "values": ["True"],
    }
    is_on = {
        "key": f'.metadata.labels["{LABEL_HABIT}"]',
        "operator": "NotIn",
        "values": [str(Habit.GONE)],
    }
    status = {"conditions": conditions, "nodeInfo": node_info, "phase": "Running"}
    stage = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": "node-initialize"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Node"},
            "selector": {"matchExpressions": [is_not_ready, is_on]},
            "next": {"statusTemplate": yaml.safe_dump(status)},
        },
    }
    return yaml.safe_dump(stage)
