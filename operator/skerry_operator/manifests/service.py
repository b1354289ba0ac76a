"""The Services in front of the pods: all of them, those on stable, those on the canary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment import Serving, TrafficPolicy
from skerry_operator.constants import LABEL_REVISION
from skerry_operator.decide.planned import Manifest
from skerry_operator.manifests.metadata import manifest, ref, selector_labels, service_name


@dataclass(frozen=True)
class RevisionService:
    """A Service for the pods of one revision."""

    role: str
    """`stable` or `canary`."""
    revision: str
    serving: Serving


def build_service(owner: ObjectMeta, serving: Serving, usual: TrafficPolicy) -> Manifest:
    """Return the Service that clients use, in front of every pod.

    `usual` is the policy where the user names none.
    """
    policy = serving.service.internal_traffic_policy or usual
    return manifest(
        owner,
        ref("Service", service_name(owner.name)),
        {"spec": _spec(serving, policy, selector_labels(owner))},
    )


def build_revision_service(owner: ObjectMeta, service: RevisionService) -> Manifest:
    """Return the Service of one revision: reachable from every node, as few nodes have it."""
    selector = {**selector_labels(owner), LABEL_REVISION: service.revision}
    return manifest(
        owner,
        ref("Service", service_name(owner.name, service.role)),
        {"spec": _spec(service.serving, TrafficPolicy.CLUSTER, selector)},
    )


def _spec(serving: Serving, policy: TrafficPolicy, selector: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "ClusterIP",
        "internalTrafficPolicy": str(policy),
        "selector": selector,
        "ports": [_port("http", serving.port), _port("grpc", serving.grpc_port)],
    }


def _port(name: str, port: int) -> dict[str, Any]:
    """Return a port; pods are found by its name, as two templates may listen elsewhere."""
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
