"""What the cache holds, for whom, and what goes when something else is to come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, str]
"""Namespace and sha256 of a file that is not whole yet: nobody else reads or continues it."""

MAX_FILES = 10_000
MAX_PINS_EACH = 1024


class NoRoom(Exception):  # noqa: N818 (says what is missing)
    """The file cannot be taken; the text says why."""


@dataclass(frozen=True)
class Allowance:
    """How much there may be."""

    capacity_bytes: int
    """Of everything."""
    quota_bytes: int
    """Of what one namespace has brought, and again of what it has pinned."""
    pin_s: float = 7 * 86_400.0
    """A pin that nobody renews ends after so much time in which the cache ran."""


@dataclass
class WholeFile:
    """A whole file, whose hash was right when it came."""

    size: int
    used: int = 0
    """When it was used last, in uses of any file."""
    owners: set[str] = field(default_factory=set)
    """Namespaces that have brought it."""


@dataclass
class BegunFile:
    """A file that is not whole yet."""

    size: int
    total: int
    """What it will have when it is whole; what it has, while nobody has said that."""
    used: int = 0

    @property
    def reserved(self) -> int:
        """Return the bytes that are kept free for it, those that are there included."""
        return max(self.size, self.total)


class Ledger:
    """The book of all files. Time is that in which the cache ran: boards have no clock."""

    def __init__(self, limits: Allowance, uptime_s: float = 0.0) -> None:
        self.limits = limits
        self.uptime_s = uptime_s
        self.entries: dict[str, WholeFile] = {}
        self.begun: dict[Key, BegunFile] = {}
        self._pins: dict[str, dict[str, float]] = {}
        self._uses = 0

    # what there is

    @property
    def used_bytes(self) -> int:
        """Return what all files take, and will take when they are whole."""
        return sum(entry.size for entry in self.entries.values()) + sum(
            portion.reserved for portion in self.begun.values()
        )

    def brought_bytes(self, namespace: str) -> int:
        """Return what counts against a namespace's quota."""
        whole = sum(one.size for one in self.entries.values() if namespace in one.owners)
        begun = sum(one.reserved for key, one in self.begun.items() if key[0] == namespace)
        return whole + begun

    def pinned_bytes(self, namespace: str) -> int:
        """Return what a namespace has pinned."""
        pins = self._pins.get(namespace, {})
        return sum(self.entries[name].size for name in pins if name in self.entries)

    def is_pinned(self, sha256: str) -> bool:
        """Tell whether the file has to stay."""
        return any(pins.get(sha256, 0.0) > self.uptime_s for pins in self._pins.values())

    # what happens

    def use(self, sha256: str) -> WholeFile | None:
        """Return a whole file, and note that it is of use."""
        entry = self.entries.get(sha256)
        if entry is not None:
            entry.used = self._next_use()
        return entry

    def pin(self, namespace: str, sha256: str) -> None:
        """Keep a file; for a namespace that had pinned it already, longer.

        Raises:
            KeyError: it is not there.
            NoRoom: the namespace has pinned as much as it may.
        """
        self._drop_old_pins()
        size = self.entries[sha256].size
        pins = self._pins.setdefault(namespace, {})
        if sha256 not in pins:
            over = self.pinned_bytes(namespace) + size > self.limits.quota_bytes
            if over or len(pins) >= MAX_PINS_EACH:
                raise NoRoom("the namespace has pinned as much as it may")
        pins[sha256] = self.uptime_s + self.limits.pin_s
        self.use(sha256)

    def admit(self, key: Key, size: int, total: int, busy: Iterable[Key]) -> list[str | Key]:
        """Reserve room for a file that comes in, and return what has to go for it.

        Args:
            key: the file.
            size: bytes of it that are there.
            total: bytes that it will have.
            busy: files that are coming in: they stay.

        Raises:
            NoRoom: it is too large, or all the rest has to stay; then nothing goes.
        """
        self._drop_old_pins()
        self._require_possible(key, total)
        had = self.begun.pop(key, None)
        try:
            leaving = self._room_for(key, total, {*busy, key})
        except NoRoom:
            if had is not None:
                self.begun[key] = had
            raise
        self._remove(leaving)
        self.begun[key] = BegunFile(size, total, self._next_use())
        return leaving

    def grow(self, key: Key, size: int) -> None:
        """Note what of a file has come."""
        self.begun[key].size = size

    def land(self, key: Key) -> None:
        """Note that a file is whole, and that its hash is right."""
        portion = self.begun.pop(key)
        namespace, sha256 = key
        entry = self.entries.setdefault(sha256, WholeFile(portion.size))
        entry.owners.add(namespace)
        entry.used = self._next_use()

    def forget(self, what: str | Key) -> None:
        """Note that a file is gone."""
        self._remove([what])

    # what is decided

    def _require_possible(self, key: Key, total: int) -> None:
        if total > min(self.limits.quota_bytes, self.limits.capacity_bytes):
            raise NoRoom("the file is larger than what one namespace may have here")
        if len(self.entries) + len(self.begun) >= MAX_FILES and key not in self.begun:
            raise NoRoom("there are too many files")

    def _room_for(self, key: Key, total: int, busy: set[Key]) -> list[str | Key]:
        """Return what goes: of the namespace itself above its quota, then of anyone."""
        namespace = key[0]
        own = [one for one in self._loose(busy) if self._is_only_of(one, namespace)]
        excess = self.brought_bytes(namespace) + total - self.limits.quota_bytes
        leaving = self._oldest(own, excess, "the namespace has as much here as it may")
        freed = sum(self._bytes_of(one) for one in leaving)
        others = [one for one in self._loose(busy) if one not in leaving]
        lacking = self.used_bytes - freed + total - self.limits.capacity_bytes
        return leaving + self._oldest(others, lacking, "the cache is full of files that stay")

    def _loose(self, busy: set[Key]) -> list[str | Key]:
        """Return what may go, the longest unused first."""
        whole = [(one.used, name) for name, one in self.entries.items() if not self.is_pinned(name)]
        begun = [(one.used, key) for key, one in self.begun.items() if key not in busy]
        found: list[tuple[int, str | Key]] = [*whole, *begun]
        return [name for _, name in sorted(found, key=lambda one: one[0])]

    def _is_only_of(self, what: str | Key, namespace: str) -> bool:
        if isinstance(what, tuple):
            return what[0] == namespace
        return self.entries[what].owners == {namespace}

    def _oldest(self, candidates: list[str | Key], excess: int, why: str) -> list[str | Key]:
        leaving: list[str | Key] = []
        for one in candidates:
            if excess <= 0:
                break
            leaving.append(one)
            excess -= self._bytes_of(one)
        if excess > 0:
            raise NoRoom(why)
        return leaving

    def _bytes_of(self, what: str | Key) -> int:
        if isinstance(what, tuple):
            return self.begun[what].reserved
        return self.entries[what].size

    def _remove(self, gone: Iterable[str | Key]) -> None:
        for one in gone:
            if isinstance(one, tuple):
                self.begun.pop(one, None)
                continue
            self.entries.pop(one, None)
            for pins in self._pins.values():
                pins.pop(one, None)

    def _drop_old_pins(self) -> None:
        self._pins = {
            namespace: kept
            for namespace, pins in self._pins.items()
            if (kept := {name: end for name, end in pins.items() if end > self.uptime_s})
        }

    def _next_use(self) -> int:
        self._uses += 1
        return self._uses

    # over a restart

    def dump(self) -> dict[str, Any]:
        """Return what a restart has to know besides the files themselves."""
        return {
            "uptimeS": self.uptime_s,
            "pins": self._pins,
            "begun": {"/".join(key): one.total for key, one in self.begun.items()},
            "files": {
                name: {"used": one.used, "owners": sorted(one.owners)}
                for name, one in self.entries.items()
            },
        }

    def restore(self, found: Mapping[str, int], known: Mapping[str, Any]) -> None:
        """Take over the files that are on disk, and what was known of them.

        Args:
            found: sha256 -> size of the whole files.
            known: what `dump` returned; what is missing in it is done without.
        """
        self.uptime_s = float(known.get("uptimeS", 0.0))
        files = known.get("files", {})
        for name, size in found.items():
            told = files.get(name, {})
            used, owners = int(told.get("used", 0)), {str(one) for one in told.get("owners", ())}
            self.entries[name] = WholeFile(size, used, owners)
            self._uses = max(self._uses, used)
        self._pins = {
            str(namespace): {str(name): float(end) for name, end in pins.items() if name in found}
            for namespace, pins in known.get("pins", {}).items()
        }
