"""Nodes that placement cannot tell apart are judged once, however many there are.

A fleet has thousands of nodes and a handful of kinds. What a node is reduced to is worked out once
for each version of the node, not once for each deployment.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakValueDictionary

from skerry_operator.catalogue.profiles import Profile
from skerry_operator.decide.placement.nodes import Node


@dataclass(frozen=True, eq=False)
class Traits:
    """What the profiles of an operator look at in a node. One value exists for equal contents."""

    labels: tuple[str, ...]
    resources: tuple[str, ...]


class NodeKind:
    """Equal nodes have the same one: compared by identity, which costs nothing."""

    __slots__ = ("__weakref__", "content")

    def __init__(self, content: Hashable) -> None:
        self.content = content


_kinds: WeakValueDictionary[Hashable, NodeKind] = WeakValueDictionary()


@lru_cache(maxsize=64)
def _interned(labels: frozenset[str], resources: frozenset[str]) -> Traits:
    return Traits(tuple(sorted(labels)), tuple(sorted(resources)))


def traits_of(profiles: Iterable[Profile]) -> Traits:
    """Return what the profiles look at."""
    known = tuple(profiles)
    labels = {
        key
        for profile in known
        for alternative in (*profile.labels, *profile.excluded_by)
        for key in alternative
    }
    resources = {name for profile in known for name in profile.resource_names}
    return _interned(frozenset(labels), frozenset(resources))


def kind_of(node: Node, traits: Traits) -> NodeKind:
    """Return the node's kind: all that placement reads of it but its name, selector and memory."""
    found = node.memo.get(traits)
    if not isinstance(found, NodeKind):
        content = _content(node, traits)
        found = _kinds.setdefault(content, NodeKind(content))
        node.memo[traits] = found
    return found


def _content(node: Node, traits: Traits) -> Hashable:
    return (
        node.arch,
        node.reachable,
        node.unschedulable,
        node.taints,
        tuple(node.labels.get(key) for key in traits.labels),
        tuple(node.allocatable.get(name) for name in traits.resources),
    )
