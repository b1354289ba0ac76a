"""What the watches said, reduced to what decisions read, and never older than our own writes.

The watch brings a write back a moment after it was made. An operator that decided on the state
before its own write would decide twice. So every answer to a write goes straight in here, and for
a while an older copy that a slow watch still delivers is refused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from skerry_operator.kube.owners import Owner

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
    owner: Owner | None = None
    """What it belongs to."""


@dataclass(frozen=True)
class Rules(Generic[V]):
    """How a table arranges its objects, and how many it takes."""

    group: Callable[[V], str | None] = lambda _: None
    """Names the group of a value; None: it is in none."""
    weigh: Callable[[V], int] = lambda _: 0
    """About how many bytes a value takes once it is read."""
    most: int | None = None
    """Most objects of one namespace; None: as many as there are."""
    heaviest: int | None = None
    """Most weight of one namespace; None: any."""


@dataclass
class _Load:
    """What the table holds, by namespace."""

    count: Counter[str] = field(default_factory=Counter)
    weight: Counter[str] = field(default_factory=Counter)


Listener = Callable[["Entry[V] | None", "Entry[V] | None"], None]
"""Told of every object that comes, changes or goes: what it was, and what it is."""


class Table(Generic[V]):
    """Objects of one kind. Used from the event loop's thread only.

    Who may write into a namespace must not be able to fill the memory of the process that serves
    all of them: what is above the rules' limits is not taken, and `dropped` is told of it. It
    comes in with its next change, once there is room. Answers to our own writes are always taken.
    """

    def __init__(self, monotonic: Callable[[], float], rules: Rules[V] | None = None) -> None:
        self._monotonic = monotonic
        self._rules: Rules[V] = rules or Rules()
        self._load = _Load()
        self.listener: Listener[V] = lambda _before, _after: None
        self.dropped: Callable[[Entry[V]], None] = lambda _: None
        self._groups: dict[str, dict[Key, Entry[V]]] = {}
        self._entries: dict[Key, Entry[V]] = {}
        self._owned: dict[Owner, dict[Key, Entry[V]]] = {}
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

    def owned_by(self, owner: Owner) -> tuple[Entry[V], ...]:
        """Return the objects of one owner, by name."""
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
        if not self._has_room_for(entry):
            self.dropped(entry)
            return self._discard_stale(entry.key)
        return self._store(entry)

    def _has_room_for(self, entry: Entry[V]) -> bool:
        rules, namespace = self._rules, entry.key[0]
        current = self._entries.get(entry.key)
        is_new = current is None
        if is_new and rules.most is not None and self._load.count[namespace] >= rules.most:
            return False
        if rules.heaviest is None:
            return True
        grown = rules.weigh(entry.value) - (rules.weigh(current.value) if current else 0)
        return grown <= 0 or self._load.weight[namespace] + grown <= rules.heaviest

    def _discard_stale(self, key: Key) -> bool:
        """Forget what an object was before it grew too large; return whether that is news."""
        current = self._entries.get(key)
        if current is not None:
            self._remove(current)
            self.listener(current, None)
        return current is not None

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
        self.listener(current, None)
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
        if (group := self._rules.group(entry.value)) is not None:
            self._groups.setdefault(group, {})[entry.key] = entry
        self._load.count[entry.key[0]] += 1
        self._load.weight[entry.key[0]] += self._rules.weigh(entry.value)
        self.listener(current, entry)
        return current is None or _is_news(current, entry)

    def _remove(self, entry: Entry[V], *, keep_guard: bool = False) -> None:
        del self._entries[entry.key]
        self._lighten(entry)
        if not keep_guard:
            self._guards.pop(entry.key, None)
        if entry.owner and (siblings := self._owned.get(entry.owner)) is not None:
            siblings.pop(entry.key, None)
            if not siblings:
                del self._owned[entry.owner]
        group = self._rules.group(entry.value)
        if group is not None and (members := self._groups.get(group)) is not None:
            members.pop(entry.key, None)
            if not members:
                del self._groups[group]

    def _lighten(self, entry: Entry[V]) -> None:
        load, namespace = self._load, entry.key[0]
        load.count[namespace] -= 1
        load.weight[namespace] -= self._rules.weigh(entry.value)
        if load.count[namespace] <= 0:
            del load.count[namespace], load.weight[namespace]

    def _bury(self, uid: str) -> None:
        if not uid or uid in self._graves:
            return
        self._graves.add(uid)
        self._grave_order.append(uid)
        if len(self._grave_order) > GRAVES:
            self._graves.discard(self._grave_order.popleft())


def _is_news(before: Entry[V], after: Entry[V]) -> bool:
    """Tell whether a stored object is another than before; equal values are one and the same."""
    same = before.uid == after.uid and before.owner == after.owner
    return not same or before.value is not after.value
