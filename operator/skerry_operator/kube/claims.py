"""What pods hold of the devices of their nodes, kept up to date as pods come and go.

A pod counts when what controls it is a workload that an EdgeDeployment controls. A label is not
enough: everybody may write one. It counts until it is gone or over, also when its workload went
first: while a deployment is being deleted, its pods still have their devices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from skerry_operator.decide.observed import Pod
from skerry_operator.kube.cache import Entry, Key
from skerry_operator.kube.owners import Owner

Held = Mapping[str, Mapping[str, int]]
"""Node -> claim -> how many pods hold it there."""


RELEASED = 10_000
"""Pods of which is kept that they gave their device back, until the watch tells of them."""


class Claims:
    """Who holds what, and where. A look costs what it finds, not what there is in the cluster."""

    def __init__(self, maker_of: Callable[[Owner], Owner | None]) -> None:
        """`maker_of` returns what a workload belongs to; None: no such workload is known."""
        self._maker_of = maker_of
        self._holders: dict[Key, tuple[Owner, str, str]] = {}
        """Pod -> whose it is, its node and its claim."""
        self._all: dict[str, Counter[str]] = {}
        self._own: dict[Owner, dict[str, Counter[str]]] = defaultdict(dict)
        self._released: dict[Key, str] = {}

    def pod_changed(self, before: Entry[Pod] | None, after: Entry[Pod] | None) -> None:
        """Take note of a pod that came, changed or went."""
        entry = after or before
        assert entry is not None  # noqa: S101 (nothing at all is no change)
        known = self._holders.pop(entry.key, None)
        if known is not None:
            self._count(*known, -1)
            if after is None or after.value.claim is None:
                self._note_release(entry.key, known[1])
        if after is None or after.value.claim is None or not after.value.node:
            return
        is_same = before is not None and before.uid == after.uid
        maker = self._maker_of(after.owner) if after.owner else None
        if maker is None and known is not None and is_same:
            maker = known[0]
        if maker is not None:
            self._holders[after.key] = (maker, after.value.node, after.value.claim)
            self._count(*self._holders[after.key], 1)

    def _note_release(self, pod: Key, node: str) -> None:
        self._released[pod] = node
        if len(self._released) > RELEASED:
            self._released.pop(next(iter(self._released)))

    def released(self, pod: Key) -> str | None:
        """Return the node on which a pod gave its device back just now; told once."""
        return self._released.pop(pod, None)

    def workload_changed(self, pods: Iterable[Entry[Pod]]) -> None:
        """Take note that the workload of these pods came, or came to belong to another."""
        for pod in pods:
            self.pod_changed(pod, pod)

    def taken(self, owner: Owner) -> Held:
        """Return what pods of others hold, by node."""
        own = [self._own.get(one, {}) for one in {owner, owner.orphans}]
        if not any(own):
            return dict(self._all)
        mine = {node for held in own for node in held}
        others = {node: _without(self._all[node], own, node) for node in mine}
        found = {**self._all, **others}
        return {node: claims for node, claims in found.items() if claims}

    def _count(self, owner: Owner, node: str, claim: str, change: int) -> None:
        _add(self._all, node, claim, change)
        _add(self._own[owner], node, claim, change)
        if not self._own[owner]:
            del self._own[owner]


def _add(held: dict[str, Counter[str]], node: str, claim: str, change: int) -> None:
    """Count up or down in a new counter: the old one may be part of an observation."""
    claims = held.get(node, Counter()).copy()
    claims[claim] += change
    claims = +claims
    if claims:
        held[node] = claims
    else:
        held.pop(node, None)


def _without(
    held: Counter[str], own: Iterable[Mapping[str, Counter[str]]], node: str
) -> Counter[str]:
    left = held.copy()
    for mine in own:
        left -= mine.get(node, Counter())
    return left
