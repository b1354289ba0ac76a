"""Names, labels, owner and digest of every generated object. Names are made here, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    API_VERSION,
    LABEL_BUILD,
    LABEL_CELL,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_MODEL,
    LABEL_TEMPLATE,
    MANAGED_BY,
)
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.names import LABEL_LIMIT, bounded
from skerry_operator.decide.planned import Manifest, ObjectRef
from skerry_operator.decide.revision import content_hash

DIGEST_LENGTH = 16
NAME_LIMIT = 253
"""Longest name of an object that is no Service and no label."""

API_VERSIONS: Mapping[str, str] = {
    "ConfigMap": "v1",
    "Service": "v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "ControllerRevision": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Job": "batch/v1",
}
"""Every kind that Skerry generates."""


def ref(kind: str, name: str) -> ObjectRef:
    """Return the reference of a generated object."""
    return ObjectRef(API_VERSIONS[kind], kind, name)


def daemonset_name(berth: Berth) -> str:
    """Return the name of a cell's DaemonSet of one pod template."""
    return f"{berth.cell}-{berth.template}"


def replicaset_name(berth: Berth, unit: str) -> str:
    """Return the name of a replica's ReplicaSet of one cell and pod template."""
    return f"{daemonset_name(berth)}-{unit.rpartition('-')[2]}"


def snapshot_name(deployment: str, revision: str) -> str:
    """Return the name of a revision's ControllerRevision."""
    name = f"{deployment}-{revision}"
    return name if len(name) <= NAME_LIMIT else bounded(name, NAME_LIMIT)


def service_name(deployment: str, role: str = "") -> str:
    """Return the name of the deployment's Service, or of its `stable` or `canary` one."""
    return bounded(f"{deployment}-{role}" if role else deployment)


def network_policy_name(deployment: str) -> str:
    """Return the name of the NetworkPolicy of the deployment's pods."""
    return bounded(f"{deployment}-pods", NAME_LIMIT)


def build_name(model: str, job: str, key: str) -> str:
    """Return the name of a build's Job, and of the record of what came of it.

    >>> build_name("digits", "int8", "0a" * 32)
    'digits-int8-59b0aec2f4'
    """
    digest = content_hash([model, job, key])
    return f"{bounded(f'{model}-{job}', LABEL_LIMIT - len(digest) - 1)}-{digest}"


def build_labels(model: str, job: str) -> dict[str, str]:
    """Return the labels of what belongs to a build."""
    return {LABEL_MODEL: bounded(model), LABEL_BUILD: bounded(job)}


def deployment_labels(owner: ObjectMeta) -> dict[str, str]:
    """Return the labels of everything that belongs to a deployment."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_DEPLOYMENT: bounded(owner.name)}


def selector_labels(owner: ObjectMeta) -> dict[str, str]:
    """Return the label that selects all pods of a deployment."""
    return {LABEL_DEPLOYMENT: bounded(owner.name)}


def cell_labels(cell: str) -> dict[str, str]:
    """Return the label of what belongs to a cell."""
    return {LABEL_CELL: cell}


def berth_labels(berth: Berth) -> dict[str, str]:
    """Return the labels that tell a DaemonSet's pods from all others of the deployment."""
    return {**cell_labels(berth.cell), LABEL_TEMPLATE: berth.template}


def manifest(
    owner: ObjectMeta,
    target: ObjectRef,
    content: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner_kind: str = "EdgeDeployment",
) -> Manifest:
    """Return an object of its owner: owned by it, labelled, with its digest as annotation."""
    is_deployment = owner_kind == "EdgeDeployment"
    own = deployment_labels(owner) if is_deployment else {LABEL_MANAGED_BY: MANAGED_BY}
    metadata: dict[str, Any] = {
        "name": target.name,
        "namespace": owner.namespace,
        "labels": {**own, **(labels or {})},
        "ownerReferences": [_owner_reference(owner, owner_kind)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    body = {
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": metadata,
        **content,
    }
    digest = content_hash(body, DIGEST_LENGTH)
    metadata["annotations"] = {**(annotations or {}), ANNOTATION_DIGEST: digest}
    return Manifest(target, body, digest)


def _owner_reference(owner: ObjectMeta, kind: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,  # else the operator would need rights on finalizers
    }
