"""The ReplicaSet of one replica (Replicas): it makes the pod anew wherever there is room.

One for each unit: a unit keeps its name, and with it its revision, through all of its pods.
A ReplicaSet and no Deployment: what is written here must never replace a pod that runs (ADR 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment import Placement
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.constants import LABEL_UNIT
from skerry_operator.decide.fleet.fleet import HOSTNAME_LABEL
from skerry_operator.decide.fleet.podtemplate import PodTemplate
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.planned import Manifest
from skerry_operator.manifests.metadata import (
    berth_labels,
    manifest,
    ref,
    replicaset_name,
    selector_labels,
)
from skerry_operator.manifests.pod import UnitPod, alone_on_its_node, pod_template

_ARCH_LABEL = "kubernetes.io/arch"


@dataclass(frozen=True)
class Replica:
    """The pod of one replica."""

    unit: str
    berth: Berth
    template: PodTemplate
    hardware: Hardware
    placement: Placement
    fetch: Mapping[str, str] = field(default_factory=dict)
    extras: PodExtras = NO_EXTRAS


def build_replicaset(owner: ObjectMeta, replica: Replica) -> Manifest:
    """Return the ReplicaSet; its pod finds its assignment in the cell's ConfigMap."""
    labels = {**berth_labels(replica.berth), LABEL_UNIT: replica.unit}
    name = {"value": replica.unit}
    pod = UnitPod(
        replica.berth, replica.template, replica.hardware, name, replica.extras, replica.fetch
    )
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {**selector_labels(owner), **labels}},
        "template": pod_template(
            owner, pod, {LABEL_UNIT: replica.unit}, _scheduling(owner, replica)
        ),
    }
    target = ref("ReplicaSet", replicaset_name(replica.berth, replica.unit))
    return manifest(owner, target, {"spec": spec}, labels)


def _scheduling(owner: ObjectMeta, replica: Replica) -> dict[str, Any]:
    placement = replica.placement
    return {
        "nodeSelector": {**placement.node_selector, _ARCH_LABEL: replica.hardware.arch},
        "affinity": {**_node_affinity(replica.hardware), **alone_on_its_node(replica.hardware)},
        "tolerations": [toleration.to_dict() for toleration in placement.tolerations],
        "topologySpreadConstraints": [
            _spread(owner, label) for label in (HOSTNAME_LABEL, placement.site_label)
        ],
    }


def _node_affinity(hardware: Hardware) -> dict[str, Any]:
    """Return the label alternatives of hardware that no device plugin counts."""
    alternatives = [labels for labels in hardware.profile.labels if labels]
    if hardware.resource is not None or len(alternatives) != len(hardware.profile.labels):
        return {}
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]}
                for key, value in sorted(labels.items())
            ]
        }
        for labels in alternatives
    ]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _spread(owner: ObjectMeta, label: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": label,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector_labels(owner)},
    }
