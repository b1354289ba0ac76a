"""What people ought to be told of an object, noticed where no event can be written."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from skerry_operator.decide.planned import EventNote
from skerry_operator.kube.owners import Owner

REMEMBERED = 4096
"""Objects of which is remembered what was told."""

MOST = 32
"""Different things that are told of one object; who makes more of them is not worth an event."""


@dataclass
class _Told:
    known: set[EventNote] = field(default_factory=set)
    due: list[EventNote] = field(default_factory=list)


class Complaints:
    """Each thing is told once for as long as the process runs, and of each object only so many."""

    def __init__(self) -> None:
        self._about: OrderedDict[Owner, _Told] = OrderedDict()

    def add(self, about: Owner, note: EventNote) -> None:
        """Note what is to be told of an object at its next look."""
        told = self._about.setdefault(about.orphans, _Told())
        self._about.move_to_end(about.orphans)
        if len(self._about) > REMEMBERED:
            self._about.popitem(last=False)
        if note not in told.known and len(told.known) < MOST:
            told.known.add(note)
            told.due.append(note)

    def take(self, about: Owner) -> tuple[EventNote, ...]:
        """Return what is to be told now."""
        told = self._about.get(about.orphans)
        if told is None:
            return ()
        due, told.due = tuple(told.due), []
        return due

    def forget(self, about: Owner) -> None:
        """Forget an object that is gone."""
        self._about.pop(about.orphans, None)
