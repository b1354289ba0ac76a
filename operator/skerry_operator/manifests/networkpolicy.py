"""The NetworkPolicy of a deployment's pods: who reaches the model, and who the admin port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment_network import (
    LabelSelector,
    NetworkAccess,
    NetworkPeer,
)
from skerry_operator.decide.planned import Manifest
from skerry_operator.manifests.metadata import manifest, network_policy_name, ref, selector_labels

SAME_NAMESPACE = NetworkPeer(pod_selector=LabelSelector())


@dataclass(frozen=True)
class NetworkDefaults:
    """What the operator's administrator decides about the pods' network."""

    enabled: bool = False
    """Whether a deployment that says nothing gets a policy."""
    admin_from: tuple[NetworkPeer, ...] = ()
    """Who reaches the admin ports: the operator itself, and who reads metrics there. Empty:
    everybody, as a port that nobody reaches would leave the operator blind."""


def build_network_policy(
    owner: ObjectMeta, access: NetworkAccess, defaults: NetworkDefaults
) -> Manifest | None:
    """Return the policy of the pods; None where neither spec nor operator wants one.

    Ports are named, as the pods of two templates may listen on different ones. What leaves the
    pods is not restricted: only who writes the models' addresses knows where that goes. Probes
    need no rule: a node always reaches its own pods.
    """
    is_wanted = defaults.enabled if access.enabled is None else access.enabled
    if not is_wanted:
        return None
    clients = _rule(("http", "grpc"), access.from_ or (SAME_NAMESPACE,))
    spec = {
        "podSelector": {"matchLabels": selector_labels(owner)},
        "policyTypes": ["Ingress"],
        "ingress": [clients, _rule(("admin",), defaults.admin_from)],
    }
    target = ref("NetworkPolicy", network_policy_name(owner.name))
    return manifest(owner, target, {"spec": spec})


def _rule(ports: Sequence[str], peers: Sequence[NetworkPeer]) -> dict[str, Any]:
    """Return a rule; one without peers lets everybody in."""
    peers_field = {"from": [peer.to_dict() for peer in peers]} if peers else {}
    return {"ports": [{"port": port, "protocol": "TCP"} for port in ports], **peers_field}
