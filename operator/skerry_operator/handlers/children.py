"""Nodes, pods and generated objects: which EdgeDeployments a change of one wakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.handlers.change import Change, Key
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
    name = nodes[0].name
    tenants = {entry.owner for entry in cache.pods if name in (entry.value.node, entry.value.unit)}
    return [
        ("EdgeDeployment", *deployment.key)
        for deployment in cache.deployments
        if deployment.owner in tenants or any(_selects(deployment, node) for node in nodes)
    ]


def pod_wakes(cache: Cache, change: Change[Pod]) -> Iterable[Key]:
    """Return the pod's EdgeDeployment, and those that may take the device that it gives back."""
    node = _left_device(cache, change)
    waiting = (
        ("EdgeDeployment", *deployment.key)
        for deployment in cache.deployments
        if node is not None and _selects(deployment, node)
    )
    return {*owner_wakes(cache, change), *waiting}


def _left_device(cache: Cache, change: Change[Pod]) -> Node | None:
    """Return the node on which a pod holds its device no longer."""
    before, after = (entry.value if entry else None for entry in (change.before, change.after))
    if before is None or before.claim is None or (after is not None and after.node == before.node):
        return None
    entry = cache.nodes.get(("", before.node))
    return entry.value if entry else None


def _selects(deployment: Entry[dict[str, Any]], node: Node) -> bool:
    placement = deployment.value["spec"].get("placement") or {}
    wanted: Mapping[str, str] = placement.get("nodeSelector") or {}
    return all(node.labels.get(label) == value for label, value in wanted.items())
