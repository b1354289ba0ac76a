"""Raw objects as Skerry makes them: owner reference, digest, and entry in the server's book."""

from __future__ import annotations

from typing import Any

from skerry_operator.constants import ANNOTATION_DIGEST, FIELD_MANAGER, LABEL_DEPLOYMENT

Raw = dict[str, Any]
BOOK = {"manager": FIELD_MANAGER, "operation": "Apply", "time": "2026-11-23T11:00:00Z"}


def reference(kind: str, name: str, uid: str) -> Raw:
    """Return an owner reference that controls."""
    version = {"EdgeDeployment": "skerry.dev/v1alpha1", "EdgeModel": "skerry.dev/v1alpha1"}
    api_version = version.get(kind, "apps/v1")
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def made(raw: Raw, deployment: str = "digits", uid: str = "d1", digest: str = "d00d") -> Raw:
    """Return the object as the operator would have made it for an EdgeDeployment."""
    metadata = raw["metadata"]
    labels = {LABEL_DEPLOYMENT: deployment, **metadata.get("labels", {})}
    annotations = {ANNOTATION_DIGEST: digest, **metadata.get("annotations", {})}
    owners = [reference("EdgeDeployment", deployment, uid)] if uid else []
    ours = {"labels": labels, "annotations": annotations, "ownerReferences": owners}
    return {**raw, "metadata": {**metadata, **ours, "managedFields": [BOOK]}}


def workload(
    name: str, deployment: str = "digits", uid: str = "d1", kind: str = "DaemonSet"
) -> Raw:
    """Return a workload of an EdgeDeployment."""
    metadata = {"name": name, "namespace": "edge", "uid": f"uid-{name}", "resourceVersion": "5"}
    return made({"kind": kind, "metadata": metadata, "spec": {}}, deployment, uid)


def controlled(raw: Raw, name: str, kind: str = "DaemonSet") -> Raw:
    """Return a pod that the workload of this name controls."""
    metadata = {**raw["metadata"], "ownerReferences": [reference(kind, name, f"uid-{name}")]}
    return {**raw, "metadata": metadata}
