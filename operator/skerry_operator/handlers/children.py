"""Nodes, pods and generated objects: which EdgeDeployments a change of one wakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry_operator.decide.observed import Node
from skerry_operator.handlers.feed import Change
from skerry_operator.handlers.queue import Key
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.read import Cache


def owner_wakes(cache: Cache, change: Change[Any]) -> Iterable[Key]:
    """Return the EdgeDeployment that the object belongs to, or belonged to."""
    owners = {entry.owner for entry in (change.before, change.after) if entry and entry.owner}
    return [
        ("EdgeDeployment", *deployment.key)
        for owner in owners
        for deployment in cache.deployments.owned_by(owner)
    ]


def node_wakes(cache: Cache, change: Change[Node]) -> Iterable[Key]:
    """Return the EdgeDeployments that select the node, did so before, or have a pod on it.

    A heartbeat never comes so far: it changes nothing of what a node is reduced to.
    """
    nodes = [entry.value for entry in (change.before, change.after) if entry]
    tenants = {entry.owner for entry in cache.pods if entry.value.unit == nodes[0].name}
    return [
        ("EdgeDeployment", *deployment.key)
        for deployment in cache.deployments
        if deployment.owner in tenants or any(_selects(deployment, node) for node in nodes)
    ]


def _selects(deployment: Entry[dict[str, Any]], node: Node) -> bool:
    placement = deployment.value["spec"].get("placement") or {}
    wanted: Mapping[str, str] = placement.get("nodeSelector") or {}
    return all(node.labels.get(label) == value for label, value in wanted.items())
