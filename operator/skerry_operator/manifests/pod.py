"""The pod of a unit, whatever makes it.

Pods pass PodSecurity `restricted`: no privilege, no capability, no host path, a read-only root,
no Kubernetes credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.constants import ANNOTATION_EXTRAS, LABEL_PROFILE
from skerry_operator.decide.fleet.fleet import HOSTNAME_LABEL
from skerry_operator.decide.fleet.podtemplate import PodTemplate
from skerry_operator.decide.fleet.renewal import extras_hash
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.manifests import supplies, triton
from skerry_operator.manifests.metadata import berth_labels, deployment_labels
from skerry_runtime.contract import (
    ADMIN_PORT,
    ASSIGNMENT_DIR,
    ENV_GRPC_PORT,
    ENV_HTTP_PORT,
    ENV_SLOTS_LIMIT_BYTES,
    ENV_TLS_DIR,
    ENV_TOKEN_DIR,
    ENV_UNIT,
    SLOTS_DIR,
    TLS_DIR,
    TOKEN_DIR,
)

CONTAINER = "runtime"
USER_ID = 65532
"""Nobody in particular: the user of distroless and of Skerry's images."""
TMP_LIMIT = "64Mi"
GRACE_S = 30


@dataclass(frozen=True)
class UnitPod:
    """A pod before it is told where to run."""

    berth: Berth
    template: PodTemplate
    hardware: Hardware
    unit: Mapping[str, Any]
    """Value of the environment variable that names the unit: `value` or `valueFrom`."""
    extras: PodExtras = NO_EXTRAS
    """What the pod has besides; in no hash either."""
    fetch: Mapping[str, str] = field(default_factory=dict)
    """What the pod is told about fetching, as environment variables. It is of the operator and of
    no revision, and is not in the template's hash: only pods that are made for another reason have
    another one."""


def pod_template(
    owner: ObjectMeta,
    pod: UnitPod,
    labels: Mapping[str, str],
    scheduling: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the template of the pods of a workload.

    `labels` are added to those that every pod has; `scheduling` holds the fields of the pod's spec
    that say where it may run.
    """
    own = {LABEL_PROFILE: pod.hardware.profile.name}
    ours = {**deployment_labels(owner), **berth_labels(pod.berth), **own, **labels}
    metadata: dict[str, Any] = {"labels": {**pod.extras.labels, **ours}}
    if digest := extras_hash(pod.extras):
        metadata["annotations"] = {**pod.extras.annotations, ANNOTATION_EXTRAS: digest}
    return {"metadata": metadata, "spec": {**_pod_spec(pod), **_extra_spec(pod), **scheduling}}


def _extra_spec(pod: UnitPod) -> dict[str, Any]:
    secrets = [{"name": secret.name} for secret in pod.extras.image_pull_secrets]
    spec: dict[str, Any] = {"imagePullSecrets": secrets} if secrets else {}
    priority = pod.extras.priority_class_name
    return spec | ({"priorityClassName": priority} if priority else {})


def alone_on_its_node(hardware: Hardware) -> dict[str, Any]:
    """Return the affinity that keeps a second unit off hardware that no device plugin counts."""
    if hardware.resource is not None or hardware.claim is None:
        return {}
    term = {
        "labelSelector": {"matchLabels": {LABEL_PROFILE: hardware.profile.name}},
        "namespaceSelector": {},  # those of every namespace
        "topologyKey": HOSTNAME_LABEL,
    }
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _pod_spec(pod: UnitPod) -> dict[str, Any]:
    template = pod.template
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": _pod_security(template),
        "containers": [_container(template, _environment(pod))],
        "volumes": [
            *_volumes(pod.berth.cell, template.disk_limit),
            *(mount.volume for mount in _secrets(template)),
            *supplies.volumes(template.supplies or ()),
        ],
    }
    if template.triton_image is not None:
        # A sidecar: it is there before the runtime, and after the last answer.
        spec["initContainers"] = [triton.server_container(template, _container_security())]
        spec["volumes"].append(triton.SCRATCH)
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


def _container(template: PodTemplate, environment: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "env": environment,
        "ports": [
            _port("http", template.http_port),
            _port("grpc", template.grpc_port),
            _port("admin", ADMIN_PORT),
        ],
        "resources": triton.runtime_resources(template),
        "securityContext": _container_security(),
        "startupProbe": _probe("/healthz", period_s=2, failures=60),
        "livenessProbe": _probe("/healthz", period_s=10, failures=6),
        "readinessProbe": _probe("/readyz", period_s=2, failures=2),
        "volumeMounts": [
            *_mounts(),
            *(mount.mount for mount in _secrets(template)),
            *supplies.mounts(template.supplies or ()),
        ],
    }


def _environment(pod: UnitPod) -> list[dict[str, Any]]:
    template = pod.template
    limit = template.disk_limit
    disk = [] if limit is None else [{"name": ENV_SLOTS_LIMIT_BYTES, "value": _bytes(limit)}]
    return [
        {"name": ENV_UNIT, **pod.unit},
        {"name": ENV_HTTP_PORT, "value": str(template.http_port)},
        {"name": ENV_GRPC_PORT, "value": str(template.grpc_port)},
        *disk,
        *({"name": name, "value": value} for name, value in pod.fetch.items()),
        *triton.runtime_environment(template),
        *({"name": mount.env, "value": mount.folder} for mount in _secrets(template)),
    ]


def _bytes(limit: str) -> str:
    return str(int(quantity(limit)))


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "containerPort": port, "protocol": "TCP"}


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


@dataclass(frozen=True)
class _SecretMount:
    """A secret that the kubelet mounts: nothing else of the cluster has to read it."""

    name: str
    secret: str
    env: str
    folder: str

    @property
    def volume(self) -> dict[str, Any]:
        # Readable by the pod's group, which is the container's user, and by nobody else.
        return {"name": self.name, "secret": {"secretName": self.secret, "defaultMode": 0o440}}

    @property
    def mount(self) -> dict[str, Any]:
        return {"name": self.name, "mountPath": self.folder, "readOnly": True}


def _secrets(template: PodTemplate) -> list[_SecretMount]:
    named = (
        ("tls", template.tls_secret, ENV_TLS_DIR, TLS_DIR),
        ("tokens", template.token_secret, ENV_TOKEN_DIR, TOKEN_DIR),
    )
    return [_SecretMount(name, secret, *rest) for name, secret, *rest in named if secret]
