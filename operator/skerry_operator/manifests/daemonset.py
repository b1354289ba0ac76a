"""The DaemonSet of one cell and one pod template.

Pods pass PodSecurity `restricted`: no privilege, no capability, no host path, a read-only root,
no Kubernetes credentials. The operator names the nodes; OnDelete leaves the pace to it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import Toleration
from skerry_operator.decide.fleet import HOSTNAME_LABEL, Berth
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.podtemplate import PodTemplate
from skerry_operator.manifests.metadata import (
    berth_labels,
    daemonset_name,
    deployment_labels,
    manifest,
    ref,
    selector_labels,
)
from skerry_runtime.contract import (
    ADMIN_PORT,
    ASSIGNMENT_DIR,
    ENV_GRPC_PORT,
    ENV_HTTP_PORT,
    ENV_MODEL_NAME,
    ENV_SLOTS_LIMIT_BYTES,
    ENV_UNIT,
    SLOTS_DIR,
)

CONTAINER = "runtime"
USER_ID = 65532
"""Nobody in particular: the user of distroless and of Skerry's images."""
TMP_LIMIT = "64Mi"
GRACE_S = 30


@dataclass(frozen=True)
class CellPods:
    """The pods of one cell and template, and the nodes that have them."""

    berth: Berth
    template: PodTemplate
    hostnames: tuple[str, ...]
    tolerations: tuple[Toleration, ...] = ()


def build_daemonset(owner: ObjectMeta, pods: CellPods) -> Manifest:
    """Return the DaemonSet; its pods find their assignment in the cell's ConfigMap."""
    selector = {**selector_labels(owner), **berth_labels(pods.berth)}
    spec = {
        "selector": {"matchLabels": selector},
        "updateStrategy": {"type": "OnDelete"},
        # Every copy in its history holds the list of nodes; the operator has its own snapshots.
        "revisionHistoryLimit": 1,
        "template": {
            "metadata": {"labels": {**deployment_labels(owner), **berth_labels(pods.berth)}},
            "spec": _pod_spec(pods),
        },
    }
    target = ref("DaemonSet", daemonset_name(pods.berth))
    return manifest(owner, target, {"spec": spec}, berth_labels(pods.berth))


def _pod_spec(pods: CellPods) -> dict[str, Any]:
    template = pods.template
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": _pod_security(template),
        "affinity": _affinity(pods.hostnames),
        "tolerations": _tolerations(pods.tolerations),
        "containers": [_container(template)],
        "volumes": _volumes(pods.berth.cell, template.disk_limit),
    }
    if template.runtime_class_name:
        spec["runtimeClassName"] = template.runtime_class_name
    return spec


def _pod_security(template: PodTemplate) -> dict[str, Any]:
    context: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if template.supplemental_groups:
        context["supplementalGroups"] = list(template.supplemental_groups)
    return context


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


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


def _container(template: PodTemplate) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "env": _environment(template),
        "ports": [
            _port("http", template.http_port),
            _port("grpc", template.grpc_port),
            _port("admin", ADMIN_PORT),
        ],
        "resources": _resources(template),
        "securityContext": _container_security(),
        "startupProbe": _probe("/healthz", period_s=2, failures=60),
        "livenessProbe": _probe("/healthz", period_s=10, failures=6),
        "readinessProbe": _probe("/readyz", period_s=2, failures=2),
        "volumeMounts": _mounts(),
    }


def _environment(template: PodTemplate) -> list[dict[str, Any]]:
    limit = template.disk_limit
    disk = [] if limit is None else [{"name": ENV_SLOTS_LIMIT_BYTES, "value": _bytes(limit)}]
    return [
        {"name": ENV_UNIT, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": ENV_MODEL_NAME, "value": template.model_name},
        {"name": ENV_HTTP_PORT, "value": str(template.http_port)},
        {"name": ENV_GRPC_PORT, "value": str(template.grpc_port)},
        *disk,
    ]


def _bytes(limit: str) -> str:
    return str(int(quantity(limit)))


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "containerPort": port, "protocol": "TCP"}


def _resources(template: PodTemplate) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": dict(template.requests)}
    if template.limits:
        resources["limits"] = dict(template.limits)
    return resources


def _probe(path: str, *, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "admin"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,  # a small board under load answers late, and is alive
        "failureThreshold": failures,
    }


def _mounts() -> list[dict[str, Any]]:
    return [
        # The folder, not the file: a subPath mount would never be refreshed.
        {"name": "assignment", "mountPath": ASSIGNMENT_DIR, "readOnly": True},
        {"name": "slots", "mountPath": SLOTS_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
    ]


def _volumes(cell: str, disk_limit: str | None) -> list[dict[str, Any]]:
    slots: dict[str, Any] = {"sizeLimit": disk_limit} if disk_limit else {}
    return [
        {"name": "assignment", "configMap": {"name": cell}},
        {"name": "slots", "emptyDir": slots},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": TMP_LIMIT}},
    ]
