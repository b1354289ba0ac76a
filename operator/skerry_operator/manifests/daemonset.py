"""The DaemonSet of one cell and one pod template (PerNode).

The operator names the nodes; OnDelete leaves the pace to it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment import Toleration
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.decide.fleet.fleet import HOSTNAME_LABEL
from skerry_operator.decide.fleet.podtemplate import PodTemplate
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.planned import Manifest
from skerry_operator.manifests.metadata import (
    berth_labels,
    daemonset_name,
    manifest,
    ref,
    selector_labels,
)
from skerry_operator.manifests.pod import UnitPod, alone_on_its_node, pod_template

_THE_NODE = {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


@dataclass(frozen=True)
class CellPods:
    """The pods of one cell and template, and the nodes that have them."""

    berth: Berth
    template: PodTemplate
    hardware: Hardware
    hostnames: tuple[str, ...]
    tolerations: tuple[Toleration, ...] = ()
    fetch: Mapping[str, str] = field(default_factory=dict)
    extras: PodExtras = NO_EXTRAS


def build_daemonset(owner: ObjectMeta, pods: CellPods) -> Manifest:
    """Return the DaemonSet; its pods find their assignment in the cell's ConfigMap."""
    pod = UnitPod(pods.berth, pods.template, pods.hardware, _THE_NODE, pods.extras, pods.fetch)
    scheduling = {
        "affinity": {**_affinity(pods.hostnames), **alone_on_its_node(pods.hardware)},
        "tolerations": _tolerations(pods.tolerations),
    }
    spec = {
        "selector": {"matchLabels": {**selector_labels(owner), **berth_labels(pods.berth)}},
        "updateStrategy": {"type": "OnDelete"},
        # Every copy in its history holds the list of nodes; the operator has its own snapshots.
        "revisionHistoryLimit": 1,
        "template": pod_template(owner, pod, {}, scheduling),
    }
    target = ref("DaemonSet", daemonset_name(pods.berth))
    return manifest(owner, target, {"spec": spec}, berth_labels(pods.berth))


def _affinity(hostnames: tuple[str, ...]) -> dict[str, Any]:
    term = {"key": HOSTNAME_LABEL, "operator": "In", "values": sorted(hostnames)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _tolerations(asked_for: tuple[Toleration, ...]) -> list[dict[str, Any]]:
    """Return the tolerations: a unit out of reach keeps its pod for ever."""
    own = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute"}
        for state in ("not-ready", "unreachable")
    ]
    return own + [toleration.to_dict() for toleration in asked_for]
