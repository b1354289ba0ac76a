"""From kopf's events of one kind to the cache and to the keys that they concern.

kopf calls the index function first, for every object of the initial list too, and holds all other
handlers back until every kind is listed: so no reconcile ever sees half a cluster. The function
puts the object into our own cache and gives kopf nothing to store: kopf's own index would hold
whole objects, and could not refuse a copy older than our last write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import kopf

from skerry_operator.constants import LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.handlers.change import Change, Key
from skerry_operator.kube.cache import Entry, Table
from skerry_operator.kube.paths import API_VERSIONS, PLURALS
from skerry_operator.kube.raw import Raw, key_of, metadata_of

SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
"""Only generated objects and their pods are watched, the API server filters."""

V = TypeVar("V")


@dataclass
class KindFeed(Generic[V]):
    """Everything about one watched kind."""

    kind: str
    table: Table[V]
    entry: Callable[[Raw], Entry[V]]
    wakes: Callable[[Change[V]], Iterable[Key]]
    """Which keys a change concerns."""
    add: Callable[[Key], None]
    """Puts a key on the queue."""
    relisted: Callable[[str], None]
    """Told when the watch had to start anew, so that deletions may have been missed."""
    is_generated: bool = False
    """Made by the operator: watched by label."""
    _pending: dict[tuple[str, str], Change[V]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Hand the two functions to kopf."""
        group, _, version = API_VERSIONS[self.kind].rpartition("/")
        name = PLURALS[self.kind]
        kopf.index(group, version, name, id=f"index-{name}", registry=registry)(self._index)
        kopf.on.event(group, version, name, id=f"event-{name}", registry=registry)(self._event)

    async def _index(self, body: kopf.Body, **_: Any) -> None:
        """Put the object into the cache. Never called for a deleted one."""
        raw = dict(body)
        before = self.table.get(self._key(raw))
        if self.table.seen(self.entry(raw)):
            after = self.table.get(self._key(raw))
            first = self._pending.get(self._key(raw))
            self._pending[self._key(raw)] = Change(first.before if first else before, after)

    async def _event(self, event: kopf.RawEvent, **_: Any) -> None:
        """Wake what the change concerns."""
        raw: Raw = dict(event["object"])
        uid = metadata_of(raw)["uid"]
        if event["type"] == "DELETED":
            self.forget(self._key(raw), uid)
            return
        self._notice_relist(event, uid)
        change = self._pending.pop(self._key(raw), None)
        if change is not None:
            self.wake(change)

    def forget(self, key: tuple[str, str], uid: str) -> None:
        """Drop a deleted object and wake what that concerns."""
        self._pending.pop(key, None)
        self._known.discard(uid)
        before = self.table.discard(key, uid)
        if before is not None:
            self.wake(Change(before, None))

    def wake(self, change: Change[V]) -> None:
        """Put every key that the change concerns on the queue."""
        for key in self.wakes(change):
            self.add(key)

    def _notice_relist(self, event: Mapping[str, Any], uid: str) -> None:
        """An object that comes in a list for the second time: the watch was broken off."""
        if event["type"] is None and uid in self._known:
            self.relisted(self.kind)
        self._known.add(uid)

    def _key(self, raw: Raw) -> tuple[str, str]:
        return key_of(raw)


def select_generated(settings: kopf.OperatorSettings, feeds: Iterable[KindFeed[Any]]) -> None:
    """Let the API server filter the kinds that the operator makes."""
    for feed in feeds:
        if feed.is_generated:
            group = API_VERSIONS[feed.kind].rpartition("/")[0]
            settings.watching.label_selectors[group, PLURALS[feed.kind]] = SELECTOR
