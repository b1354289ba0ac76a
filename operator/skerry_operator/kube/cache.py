"""What the watches said, reduced to what decisions read, and never older than our own writes.

The watch brings a write back a moment after it was made. An operator that decided on the state
before its own write would decide twice. So every answer to a write goes straight in here, and for
a while an older copy that a slow watch still delivers is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

GUARD_S = 10.0
"""How long an own write holds off older copies. Not for ever: a datastore that was restored from a
backup counts its versions from an older number, and must be believed in the end."""

GRAVES = 20_000
"""How many deleted objects are remembered, so that a late answer brings none of them back."""

V = TypeVar("V")
Key = tuple[str, str]
"""Namespace and name; the namespace is empty for nodes."""


@dataclass(frozen=True)
class Entry(Generic[V]):
    """One object as it was last seen."""

    key: Key
    uid: str
    version: int
    """resourceVersion as a number; 0 when the server's is none."""
    value: V
    owner: Key | None = None
    """The EdgeDeployment it belongs to."""


class Table(Generic[V]):
    """Objects of one kind. Used from the event loop's thread only.

    `group` names the group of a value, None: it is in none.
    """

    def __init__(
        self, monotonic: Callable[[], float], group: Callable[[V], str | None] = lambda _: None
    ) -> None:
        self._monotonic = monotonic
        self._group = group
        self._groups: dict[str, dict[Key, Entry[V]]] = {}
        self._entries: dict[Key, Entry[V]] = {}
        self._owned: dict[Key, dict[Key, Entry[V]]] = {}
        self._guards: dict[Key, float] = {}
        self._graves: set[str] = set()
        self._grave_order: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[V]]:
        return iter(tuple(self._entries.values()))

    def get(self, key: Key) -> Entry[V] | None:
        """Return the object, or None."""
        return self._entries.get(key)

    def owned_by(self, owner: Key) -> tuple[Entry[V], ...]:
        """Return the objects of one EdgeDeployment, by name."""
        return tuple(entry for _, entry in sorted(self._owned.get(owner, {}).items()))

    @property
    def groups(self) -> Mapping[str, Mapping[Key, Entry[V]]]:
        """Return the members of every group that has some."""
        return self._groups

    def seen(self, entry: Entry[V]) -> bool:
        """Take what a watch delivered; return whether that changes the value.

        Refused: what was deleted, and a copy older than an own write of the last seconds.
        """
        if entry.uid in self._graves or self._is_guarded_against(entry):
            return False
        return self._store(entry)

    def wrote(self, entry: Entry[V]) -> None:
        """Take the server's answer to an own write."""
        current = self._entries.get(entry.key)
        if entry.uid in self._graves or (
            current and current.uid == entry.uid and current.version > entry.version
        ):
            return
        self._store(entry)
        self._guards[entry.key] = self._monotonic() + GUARD_S

    def discard(self, key: Key, uid: str | None = None) -> Entry[V] | None:
        """Forget a deleted object and return it; with `uid`, only when it is that very one."""
        current = self._entries.get(key)
        self._bury(uid or (current.uid if current else ""))
        if current is None or (uid and current.uid != uid):
            return None
        self._remove(current)
        return current

    def _is_guarded_against(self, entry: Entry[V]) -> bool:
        until = self._guards.get(entry.key)
        if until is None:
            return False
        current = self._entries.get(entry.key)
        is_older = (
            current is not None and current.uid == entry.uid and 0 < entry.version < current.version
        )
        if is_older and self._monotonic() < until:
            return True
        del self._guards[entry.key]
        return False

    def _store(self, entry: Entry[V]) -> bool:
        current = self._entries.get(entry.key)
        if current is not None:
            if current.value == entry.value:  # keep the one copy; the equal one can be freed
                entry = replace(entry, value=current.value)
            self._remove(current, keep_guard=True)
        self._entries[entry.key] = entry
        if entry.owner:
            self._owned.setdefault(entry.owner, {})[entry.key] = entry
        if (group := self._group(entry.value)) is not None:
            self._groups.setdefault(group, {})[entry.key] = entry
        return current is None or current.uid != entry.uid or current.value is not entry.value

    def _remove(self, entry: Entry[V], *, keep_guard: bool = False) -> None:
        del self._entries[entry.key]
        if not keep_guard:
            self._guards.pop(entry.key, None)
        if entry.owner and (siblings := self._owned.get(entry.owner)) is not None:
            siblings.pop(entry.key, None)
            if not siblings:
                del self._owned[entry.owner]
        group = self._group(entry.value)
        if group is not None and (members := self._groups.get(group)) is not None:
            members.pop(entry.key, None)
            if not members:
                del self._groups[group]

    def _bury(self, uid: str) -> None:
        if not uid or uid in self._graves:
            return
        self._graves.add(uid)
        self._grave_order.append(uid)
        if len(self._grave_order) > GRAVES:
            self._graves.discard(self._grave_order.popleft())
