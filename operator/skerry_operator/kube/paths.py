"""Addresses of objects on the API server."""

from __future__ import annotations

from skerry_operator.constants import API_VERSION

PLURALS = {
    "ConfigMap": "configmaps",
    "ControllerRevision": "controllerrevisions",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "EdgeDeployment": "edgedeployments",
    "EdgeModel": "edgemodels",
    "Event": "events",
    "Job": "jobs",
    "Lease": "leases",
    "NetworkPolicy": "networkpolicies",
    "Node": "nodes",
    "Pod": "pods",
    "ReplicaSet": "replicasets",
    "Secret": "secrets",
    "Service": "services",
    "StatefulSet": "statefulsets",
}
"""Every kind that the operator touches, with its name in addresses."""

API_VERSIONS = {
    "ConfigMap": "v1",
    "ControllerRevision": "apps/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "EdgeDeployment": API_VERSION,
    "EdgeModel": API_VERSION,
    "Event": "v1",
    "Job": "batch/v1",
    "Lease": "coordination.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Node": "v1",
    "Pod": "v1",
    "ReplicaSet": "apps/v1",
    "Secret": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}
"""Group and version of each of them."""

CHILDREN = (
    "ConfigMap",
    "DaemonSet",
    "ReplicaSet",
    "Service",
    "ControllerRevision",
    "NetworkPolicy",
)
"""Kinds that the operator generates."""

BUILDS = ("Job",)
"""Those that it generates besides where models are optimised."""


def collection_path(kind: str, namespace: str = "") -> str:
    """Return the address of all objects of a kind, in one namespace or everywhere."""
    version = API_VERSIONS[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{PLURALS[kind]}"


def object_path(kind: str, namespace: str, name: str) -> str:
    """Return the address of one object."""
    return f"{collection_path(kind, namespace)}/{name}"
