"""Exhaustive search over short sequences of events: breadth first, each state looked at once.

A system is states, events that lead from one to others, rules that hold after each of them, and
what it does when nothing happens to it any more. A rule is an assertion; the search turns one
that fails into a counterexample that names the shortest way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

S = TypeVar("S")


class System(Protocol[S]):
    """What is searched. A state is never changed: every method returns new ones."""

    def key(self, state: S) -> Hashable:
        """Return all of a state that matters for what comes: equal states are looked at once."""

    def events(self, state: S) -> Iterable[tuple[str, Callable[[], S]]]:
        """Yield events with what makes the state after each; a broken rule is an AssertionError."""

    def calm(self, state: S) -> S:
        """Return the state after a while in which nothing happens to the system."""

    def is_at_rest(self, state: S) -> bool:
        """Tell whether it may stay as it is; raises AssertionError when it may not rest so."""


class Counterexample(AssertionError):  # noqa: N818 (it is what a search looks for)
    """A rule is broken; the text has the events that lead there."""


@dataclass
class Search(Generic[S]):
    """A search, its states and its figures."""

    system: System[S]
    transitions: int = 0
    _ways: dict[Hashable, tuple[Hashable | None, str]] = field(default_factory=dict)
    _seen: dict[Hashable, S] = field(default_factory=dict)

    @property
    def states(self) -> int:
        """Return how many different states were seen."""
        return len(self._seen)

    def explore(self, starts: Mapping[str, S], depth: int) -> None:
        """Look at every state that at most `depth` events lead to.

        Raises:
            Counterexample: a rule is broken on the way.
        """
        level = [key for name, state in starts.items() if (key := self._note(None, name, state))]
        for _ in range(depth):
            level = [key for parent in level for key in self._open(parent)]

    def come_to_rest(self, looks: int = 400) -> None:
        """Let every state that was seen be, until it comes to rest.

        Raises:
            Counterexample: one goes on without end.
        """
        resting: set[Hashable] = set()
        for start, state in list(self._seen.items()):
            chain: dict[Hashable, None] = {}
            try:
                for key, one in self._calmly(state):
                    if key in resting or self.system.is_at_rest(one):
                        break
                    assert key not in chain, "it goes on in a circle without coming to rest"
                    assert len(chain) < looks, f"no rest within {looks} looks"
                    chain[key] = None
            except AssertionError as error:
                raise self._counterexample(start, "nothing happens any more", error) from error
            resting.update(chain)

    def _calmly(self, state: S) -> Iterator[tuple[Hashable, S]]:
        while True:
            state = self.system.calm(state)
            self.transitions += 1
            yield self.system.key(state), state

    def _open(self, parent: Hashable) -> Iterator[Hashable]:
        for event, happen in self.system.events(self._seen[parent]):
            try:
                state = happen()
            except AssertionError as error:
                raise self._counterexample(parent, event, error) from error
            self.transitions += 1
            if key := self._note(parent, event, state):
                yield key

    def _note(self, parent: Hashable | None, event: str, state: S) -> Hashable | None:
        """Remember a state; return its key if it is a new one."""
        key = self.system.key(state)
        if key in self._seen:
            return None
        self._seen[key], self._ways[key] = state, (parent, event)
        return key

    def _counterexample(self, key: Hashable, last: str, error: Exception) -> Counterexample:
        events = [last]
        at: Hashable | None = key
        while at is not None:
            at, event = self._ways[at]
            events.append(event)
        return Counterexample(f"{' -> '.join(reversed(events))}: {error}")
