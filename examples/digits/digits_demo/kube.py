"""Reads what the demo shows from the Kubernetes API, as typed values; writes with kubectl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from digits_demo.cluster import Access
from digits_demo.errors import DemoError
from digits_demo.shell import run
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.constants import GROUP, LABEL_CELL, LABEL_DEPLOYMENT, VERSION

REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Pod:
    """One model pod."""

    name: str
    uid: str
    node: str
    cell: str
    ip: str | None
    restarts: int
    ready: bool


@dataclass(frozen=True)
class Event:
    """One event about the demo's objects."""

    uid: str
    object: str
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True)
class Deployment:
    """The EdgeDeployment as it is now."""

    generation: int
    status: EdgeDeploymentStatus

    def condition(self, kind: str) -> str | None:
        """Return the status of a condition, None without it."""
        found = [str(c.status) for c in self.status.conditions if c.type == kind]
        return found[0] if found else None

    def profile_of(self, cell: str) -> str:
        """Return the accelerator profile of a cell."""
        found = [c.profile for c in self.status.cells if c.name == cell]
        return found[0] if found else ""


class Kube:
    """Reads one namespace over the plain REST API. Thread-safe, as the client below is."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        new_client: Any = config.new_client_from_config  # the only call; it has no types
        self._api: Any = new_client(config_file=str(kubeconfig))
        self._namespace = f"/api/v1/namespaces/{namespace}"
        self._customs = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}"

    def pods(self, deployment: str) -> tuple[Pod, ...]:
        """List the pods of an EdgeDeployment, by node."""
        selector = [("labelSelector", f"{LABEL_DEPLOYMENT}={deployment}")]
        found = self._call("GET", f"{self._namespace}/pods", selector)
        pods = (parse_pod(item) for item in found["items"])
        return tuple(sorted(pods, key=lambda pod: (pod.node, pod.name)))

    def deployment(self, name: str) -> Deployment | None:
        """Read the EdgeDeployment; None when there is none."""
        try:
            found = self._call("GET", f"{self._customs}/edgedeployments/{name}")
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        status = EdgeDeploymentStatus.model_validate(found.get("status", {}))
        return Deployment(found["metadata"]["generation"], status)

    def events(self) -> tuple[Event, ...]:
        """List the namespace's events about Skerry's own kinds, oldest first."""
        found = self._call("GET", f"{self._namespace}/events")
        items = [item for item in found["items"] if _is_ours(item)]
        return tuple(parse_event(item) for item in sorted(items, key=_event_time))

    def has_namespace(self) -> bool:
        """Tell whether the namespace exists, if only while it is being deleted."""
        try:
            self._call("GET", self._namespace)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def delete_namespace(self) -> None:
        """Ask for the namespace to go; it is fine when there is none."""
        self._delete(self._namespace)

    def delete_deployment(self, name: str) -> None:
        """Ask for an EdgeDeployment to go; it is fine when there is none."""
        self._delete(f"{self._customs}/edgedeployments/{name}")

    def _delete(self, path: str) -> None:
        """Ask for an object to go; it is fine when there is none, or when it goes already."""
        try:
            self._call("DELETE", path)
        except client.ApiException as error:
            if error.status not in (404, 409):
                raise

    def _call(self, verb: str, path: str, query: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """Return the JSON that the API server answers with.

        Raises:
            ApiException: it refused.
        """
        request = self._api.param_serialize(
            method=verb,
            resource_path=path,
            query_params=list(query),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
        answer.read()
        if not 200 <= answer.status < 300:
            raise client.ApiException(http_resp=answer)
        found: dict[str, Any] = json.loads(answer.data)
        return found


READ_ERRORS = (client.ApiException, urllib3.exceptions.HTTPError, OSError)
"""What a read may raise while the API server is away."""


def parse_pod(item: dict[str, Any]) -> Pod:
    """Read a pod's JSON."""
    metadata, status = item["metadata"], item.get("status", {})
    containers = status.get("containerStatuses", [])
    ready = [c["status"] == "True" for c in status.get("conditions", []) if c["type"] == "Ready"]
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        node=item["spec"].get("nodeName") or _meant_for(item["spec"]),
        cell=metadata["labels"].get(LABEL_CELL, ""),
        ip=status.get("podIP"),
        restarts=sum(container["restartCount"] for container in containers),
        ready=any(ready),
    )


def _meant_for(spec: dict[str, Any]) -> str:
    """Return the node that a DaemonSet's pod waits for; empty when it names none."""
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", []):
        for field in term.get("matchFields", []):
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return ""


def parse_event(item: dict[str, Any]) -> Event:
    """Read an event's JSON, of either API."""
    about = item["involvedObject"]
    return Event(
        uid=f"{item['metadata']['uid']}/{item.get('count') or 1}",
        object=f"{about['kind']}/{about['name']}",
        reason=item.get("reason") or "",
        message=item.get("message") or "",
        warning=item.get("type") == "Warning",
    )


def _is_ours(item: dict[str, Any]) -> bool:
    return str(item["involvedObject"].get("apiVersion", "")).startswith(f"{GROUP}/")


def _event_time(item: dict[str, Any]) -> tuple[str, int]:
    """Order events; those of one second by the order in which they were written."""
    second = str(item.get("lastTimestamp") or item.get("eventTime") or "")[:19]
    return second, int(item["metadata"]["resourceVersion"])


def apply(access: Access, manifest: str) -> None:
    """Apply YAML with kubectl, as a person would.

    Raises:
        DemoError: the API server refused it, or did not answer.
    """
    run(
        [access.kubectl, f"--kubeconfig={access.kubeconfig}", "apply", "--filename=-"],
        stdin=manifest,
        remedy="is the operator's chart installed, and is the API server up?",
        timeout_s=30,
    )


def connect(access: Access, namespace: str) -> Kube:
    """Open the API of the cluster.

    Raises:
        DemoError: the kubeconfig cannot be used.
    """
    try:
        return Kube(access.kubeconfig, namespace)
    except config.ConfigException as error:
        raise DemoError(f"{access.kubeconfig}: {error}", "run `make cluster-up`") from error
