"""Everything that the watches deliver, in tables of trimmed values, each thing under its owner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic as machine_monotonic
from typing import Any

from skerry_operator.constants import Reason
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.planned import EventNote, ObjectRef
from skerry_operator.kube.cache import Entry, Key, Rules, Table
from skerry_operator.kube.children import WORKLOADS, Child
from skerry_operator.kube.claims import Claims
from skerry_operator.kube.complaints import Complaints
from skerry_operator.kube.mends import Mends
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.paths import CHILDREN
from skerry_operator.kube.raw import Raw
from skerry_operator.kube.read import child_entry
from skerry_operator.telemetry import Telemetry

RESOURCES_LIMIT = 5_000
"""Custom resources of one kind in one namespace."""

OBJECTS_LIMIT = 20_000
"""Pods, or generated objects of one kind, in one namespace."""

CONTENT_LIMIT = 32 * 1024 * 1024
"""Weight of the generated objects of one kind in one namespace: assignments of a fleet of 1000
deployments come to a third of it."""

LOGGED = 1_000
"""Namespaces and kinds of which the log was told that they are full."""

log = logging.getLogger(__name__)


class Cache:
    """All tables, and what follows from several of them."""

    def __init__(
        self,
        monotonic: Callable[[], float] = machine_monotonic,
        telemetry: Telemetry | None = None,
        generated: Iterable[str] = CHILDREN,
    ) -> None:
        """`generated` are the kinds of generated objects that are watched."""
        self._telemetry = telemetry
        resource: Rules[Raw] = Rules(most=RESOURCES_LIMIT)
        self.deployments: Table[Raw] = Table(monotonic, resource)
        self.models: Table[Raw] = Table(monotonic, resource)
        self.resources: dict[str, Table[Raw]] = {
            "EdgeDeployment": self.deployments,
            "EdgeModel": self.models,
        }
        self.nodes: Table[Node] = Table(monotonic)
        self.pods: Table[Pod] = Table(monotonic, Rules(_place_of, most=OBJECTS_LIMIT))
        rules: Rules[Child] = Rules(
            weigh=lambda child: child.weight, most=OBJECTS_LIMIT, heaviest=CONTENT_LIMIT
        )
        self.children: Mapping[str, Table[Child]] = {
            kind: Table(monotonic, rules) for kind in generated
        }
        self.claims = Claims(self.maker_of)
        self.complaints = Complaints()
        self.mends = Mends(monotonic)
        self._accepted: dict[tuple[str, Key], tuple[str, str]] = {}
        self._full: set[tuple[str, str]] = set()
        self._monotonic = monotonic
        self._listen()

    def add_resource(self, kind: str) -> Table[Raw]:
        """Hold one more kind of custom resource; what it owns is found by its reference."""
        table: Table[Raw] = Table(self._monotonic, Rules(most=RESOURCES_LIMIT))
        table.dropped = partial(self._dropped, kind)
        self.resources[kind] = table
        return table

    def _listen(self) -> None:
        tables: dict[str, Table[Any]] = {**self.resources, **self.children, "Pod": self.pods}
        for kind, table in tables.items():
            table.dropped = partial(self._dropped, kind)
        self.pods.listener = self.claims.pod_changed
        for kind, children in self.children.items():
            children.listener = partial(self._child_changed, kind)

    def maker_of(self, workload: Owner) -> Owner | None:
        """Return the owner of a workload that we made; None: there is no such workload."""
        table = self.children.get(workload.kind)
        entry = table.get((workload.namespace, workload.name)) if table else None
        is_known = entry is not None and entry.uid == workload.uid and entry.value.is_ours
        return entry.owner if entry is not None and is_known else None

    def own_children(self, owner: Owner) -> list[tuple[str, Entry[Child]]]:
        """Return the generated objects of an owner: its own, and orphans, which are adopted.

        Only what we made: a label, or a copied reference, makes nothing ours. Objects of an earlier
        owner of the same name are being collected, and do not count.
        """
        return [
            (kind, entry)
            for kind, table in self.children.items()
            for one in dict.fromkeys((owner, owner.orphans))
            for entry in table.owned_by(one)
            if entry.value.is_ours
        ]

    def pods_of(self, owner: Owner) -> tuple[Entry[Pod], ...]:
        """Return the pods that the owner's workloads control, by name."""
        found = [
            pod
            for kind, entry in self.own_children(owner)
            if kind in WORKLOADS
            for pod in self.pods.owned_by(Owner(kind, *entry.key, entry.uid))
        ]
        return tuple(sorted(found, key=lambda pod: pod.key))

    def makers_at(self, node: str) -> set[Owner]:
        """Return who has a pod on a node, or one that waits for it."""
        pods = self.pods.groups.get(node, {}).values()
        makers = (self.maker_of(pod.owner) for pod in pods if pod.owner)
        return {maker for maker in makers if maker is not None}

    def keys_of(self, owner: Owner) -> list[tuple[str, Key]]:
        """Return the custom resource that an owner is, or will be when it is made again."""
        table = self.resources.get(owner.kind)
        if table is None:
            return []
        return [(owner.kind, entry.key) for entry in table.owned_by(owner.orphans)]

    # --- generated objects, and what they ought to be ---

    def wrote_child(self, kind: str, raw: Raw) -> None:
        """Take the answer to an apply of a generated object: so it is as it ought to be."""
        entry = child_entry(kind, raw)
        self.children[kind].wrote(entry)
        self.accept(kind, entry)

    def accept(self, kind: str, entry: Entry[Child]) -> None:
        """Remember that the object, as it is, is what it ought to be."""
        self._accepted[kind, entry.key] = (entry.uid, entry.value.fingerprint)
        entry.value.settle()

    def forget_child(self, ref: ObjectRef, namespace: str) -> None:
        """Drop a generated object that was deleted."""
        self.children[ref.kind].discard((namespace, ref.name))

    def digest_of(self, kind: str, entry: Entry[Child], owner: Owner) -> str:
        """Return the digest that the object carries; nothing when it must be looked at again.

        That is when it is not what was seen to be right: somebody changed it, or this process has
        just begun; or when it lost its owner. One over which we fight is left alone for a while.
        """
        if entry.value.owner_uid != owner.uid:
            return ""
        is_right = self._accepted.get((kind, entry.key)) == (entry.uid, entry.value.fingerprint)
        if is_right or self.mends.left_s(kind, entry.key) > 0:
            return entry.value.digest
        return ""

    def held_s(self, owner: Owner) -> float | None:
        """Return when an object that is left alone may be put back; None: there is none."""
        waits = (
            left
            for kind, entry in self.own_children(owner)
            if (left := self.mends.left_s(kind, entry.key)) > 0
        )
        return min(waits, default=None)

    def _child_changed(
        self, kind: str, before: Entry[Child] | None, after: Entry[Child] | None
    ) -> None:
        if after is None and before is not None:
            self._accepted.pop((kind, before.key), None)
        is_other = before is None or after is None or _whose(before) != _whose(after)
        if kind in WORKLOADS and after is not None and is_other:
            self.claims.workload_changed(self.pods.owned_by(Owner(kind, *after.key, after.uid)))
        if after is not None and after.owner is not None and not after.value.is_ours:
            self.complaints.add(after.owner, _foreign(kind, after.key[1]))

    # --- what does not fit ---

    def _dropped(self, kind: str, entry: Entry[Any]) -> None:
        namespace = entry.key[0]
        if self._telemetry:
            self._telemetry.objects_refused.labels(kind).inc()
        if (kind, namespace) not in self._full and len(self._full) < LOGGED:
            self._full.add((kind, namespace))
            log.warning("namespace %s has too many objects of kind %s: from %s on they are not "
                        "looked at", namespace, kind, entry.key[1])  # fmt: skip
        owner = self.maker_of(entry.owner) if kind == "Pod" and entry.owner else entry.owner
        if owner is not None:
            self.complaints.add(owner, _too_many(kind, namespace))


def _place_of(pod: Pod) -> str | None:
    """Return the node that the pod is on, or waits for."""
    return pod.node or pod.unit or None


def _whose(entry: Entry[Child]) -> tuple[str, Owner | None, bool]:
    return entry.uid, entry.owner, entry.value.is_ours


def _foreign(kind: str, name: str) -> EventNote:
    return EventNote(
        warning=True,
        reason=Reason.FOREIGN_OBJECT,
        message=(
            f"{kind} {name} carries the labels of this EdgeDeployment and was not made by Skerry: "
            "it is left alone; take the labels off it"
        ),
    )


def _too_many(kind: str, namespace: str) -> EventNote:
    return EventNote(
        warning=True,
        reason=Reason.TOO_MANY_OBJECTS,
        message=(
            f"namespace {namespace} holds more objects of kind {kind} than Skerry keeps of one "
            "namespace, and some of this EdgeDeployment are not looked at: delete what is not used"
        ),
    )
