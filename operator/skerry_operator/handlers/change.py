"""What an event says once kopf is out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from skerry_operator.kube.cache import Entry

Key = tuple[str, str, str]
"""Kind, namespace and name: what is to be looked at."""

V = TypeVar("V")


@dataclass(frozen=True)
class Change(Generic[V]):
    """A change of one object; no `before`: it is new, no `after`: it is gone."""

    before: Entry[V] | None
    after: Entry[V] | None

    @property
    def entry(self) -> Entry[V]:
        """The object as it is, or was."""
        entry = self.after or self.before
        assert entry is not None  # noqa: S101 (nothing at all is no change)
        return entry
