"""Who is connected to a port, and who gives way when somebody new comes.

A connection costs a client nothing, so idle ones must keep nobody out: the longest idle one of
whoever holds most places makes room. Work under way is spared as long as there is any other way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

# What ending a connection would cost its client, least first. Plain numbers, for they are compared.
NOTHING, A_REQUEST, AN_ANSWER = range(3)


class Peer(Protocol):
    """A connection as the port sees it."""

    @property
    def address(self) -> str:
        """Where the client is; empty where nobody knows."""
        ...

    @property
    def loss(self) -> int:
        """What its end would cost: NOTHING, A_REQUEST that comes in, or AN_ANSWER being made."""
        ...

    @property
    def deadline(self) -> float:
        """When it will be ended for what it waits for, on the loop's clock."""
        ...

    def expire(self, now: float) -> None:
        """End when what is waited for is overdue."""
        ...

    def close_if_idle(self) -> None:
        """End unless a request is under way."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


@dataclass(frozen=True)
class Places:
    """How many connections a port bears."""

    most: int
    most_each: int | None = None
    """Of one address; None: as many as there are places, for a proxy has one address."""
    newcomers_first: bool = False
    """Every answer is at hand, so that whoever is still busy has had its time."""


class Crowd:
    """The connections of one port. Lives on one event loop."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._peers: dict[Peer, str] = {}
        self._shares: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers))

    def add(self, peer: Peer) -> None:
        """Count a connection."""
        self._peers[peer] = peer.address
        self._shares[peer.address] += 1

    def remove(self, peer: Peer) -> None:
        """Count a connection no more; one that is not counted does not matter."""
        address = self._peers.pop(peer, None)
        if address is None:
            return
        self._shares[address] -= 1
        if not self._shares[address]:
            del self._shares[address]

    def surplus(self, newcomer: Peer) -> Peer | None:
        """Return who has to go now that the newcomer is counted: perhaps itself, perhaps nobody."""
        most_each = self._places.most_each
        if most_each is not None and self._shares[newcomer.address] > most_each:
            address = newcomer.address
            return self._choose((p for p, a in self._peers.items() if a == address), newcomer)
        if len(self._peers) > self._places.most:
            return self._choose(self._peers, newcomer)
        return None

    def most_idle(self) -> Peer | None:
        """Return whose end would cost nothing, first of the largest share; None: nobody's."""
        idle = [peer for peer in self._peers if peer.loss == NOTHING]
        return min(idle, key=self._order, default=None)

    def _choose(self, peers: Iterable[Peer], newcomer: Peer) -> Peer:
        others = (peer for peer in peers if peer is not newcomer)
        first = min(others, key=self._order, default=newcomer)
        return first if self._gives_way(first, newcomer) else newcomer

    def _gives_way(self, peer: Peer, newcomer: Peer) -> bool:
        if peer.loss == NOTHING or self._places.newcomers_first:
            return True
        has_more = self._shares[peer.address] > self._shares[newcomer.address]
        return peer.loss == A_REQUEST and has_more

    def _order(self, peer: Peer) -> tuple[int, int, float]:
        """Order by loss, then by share, largest first, then by what would have ended first."""
        loss = NOTHING if self._places.newcomers_first else peer.loss
        return loss, -self._shares[self._peers[peer]], peer.deadline
