"""Nodes, pods and generated objects: which EdgeDeployments a change of one wakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.handlers.change import Change, Key
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.tables import Cache


def owner_wakes(cache: Cache, change: Change[Any]) -> Iterable[Key]:
    """Return what the object belongs to, or belonged to."""
    owners = {entry.owner for entry in (change.before, change.after) if entry and entry.owner}
    return [key for owner in sorted(owners) for key in _keys_of(cache, owner)]


def node_wakes(cache: Cache, change: Change[Node]) -> Iterable[Key]:
    """Return the EdgeDeployments that select the node, did so before, or have a pod on it.

    A heartbeat never comes so far: it changes nothing of what a node is reduced to.
    """
    nodes = [entry.value for entry in (change.before, change.after) if entry]
    tenants = {owner.orphans for owner in cache.makers_at(nodes[0].name)}
    return [
        ("EdgeDeployment", *deployment.key)
        for deployment in cache.deployments
        if deployment.owner in tenants or any(_selects(deployment, node) for node in nodes)
    ]


def pod_wakes(cache: Cache, change: Change[Pod]) -> Iterable[Key]:
    """Return whose pod it is, and those that may take the device that it gives back."""
    workloads = {entry.owner for entry in (change.before, change.after) if entry and entry.owner}
    makers = {maker for one in workloads if (maker := cache.maker_of(one))}
    released = cache.nodes.get(("", cache.claims.released(change.entry.key) or ""))
    waiting = (
        ("EdgeDeployment", *deployment.key)
        for deployment in cache.deployments
        if released is not None and _selects(deployment, released.value)
    )
    return {*(key for maker in makers for key in _keys_of(cache, maker)), *waiting}


def _keys_of(cache: Cache, owner: Owner) -> Iterable[Key]:
    return [(kind, *key) for kind, key in cache.keys_of(owner)]


def _selects(deployment: Entry[dict[str, Any]], node: Node) -> bool:
    placement = deployment.value["spec"].get("placement") or {}
    wanted: Mapping[str, str] = placement.get("nodeSelector") or {}
    return all(node.labels.get(label) == value for label, value in wanted.items())
