"""What the connections of one port share, and the clock that ends the slow ones."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from skerry_runtime.rest.body import BodyBudget
from skerry_runtime.rest.crowd import Crowd, Peer, Places
from skerry_runtime.rest.handshakes import HandshakeLimits
from skerry_runtime.rest.head import Heads
from skerry_runtime.rest.http import App

PIECE = 64 * 1024
"""Size of a read that has no place of its own to go to."""

_LATENESS = 0.25  # of the time for reading: so much later than its deadline a client may end


@dataclass(frozen=True)
class ListenerLimits:
    """What one port bears."""

    max_header_bytes: int
    places: Places
    read_timeout_s: float
    idle_timeout_s: float = 75.0
    """A connection between two requests is ended after this time."""
    handshakes: HandshakeLimits = field(default_factory=HandshakeLimits)
    """Of TLS, where the port speaks it."""
    least_bytes_s: float = math.inf
    """Who sends a body, or takes an answer, at this rate has as long again, time after time."""


class Hub:
    """Lives on one event loop."""

    def __init__(self, app: App, limits: ListenerLimits, budget: BodyBudget) -> None:
        self.app = app
        self.limits = limits
        self.idle_timeout_s = limits.idle_timeout_s
        self.budget = budget
        self.heads = Heads()
        self.loop = asyncio.get_running_loop()
        self.piece = bytearray(PIECE)
        """Every read without a place of its own lands here, and is used up before the next."""
        self.is_draining = False
        """Every answer is the last of its connection."""
        self._crowd = Crowd(limits.places)
        self._empty = asyncio.Event()
        self._empty.set()
        self._sweep: asyncio.TimerHandle | None = None

    def add(self, peer: Peer) -> bool:
        """Take a connection in, instead of an idle one where the port is full; False: no room."""
        self._crowd.add(peer)
        self._empty.clear()
        if self._sweep is None:
            self._sweep_later()
        while (surplus := self._crowd.surplus(peer)) is not None:
            if surplus is peer:
                return False
            self._end_now(surplus)
        return True

    def relieve(self) -> bool:
        """End the connection that will be missed least; False: none is idle."""
        idle = self._crowd.most_idle()
        if idle is not None:
            self._end_now(idle)
        return idle is not None

    def remove(self, peer: Peer) -> None:
        """Forget a connection that has ended."""
        self._crowd.remove(peer)
        if not self._crowd:
            self._empty.set()

    async def end(self, timeout_s: float) -> None:
        """End idle connections now, others after their answer, and all when the time is over."""
        self.is_draining = True
        for peer in self._crowd:
            peer.close_if_idle()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            for peer in self._crowd:
                peer.abort()

    def _end_now(self, peer: Peer) -> None:
        peer.abort()
        self.remove(peer)  # its place is free before the loop hears of its end

    def _sweep_later(self) -> None:
        wait_s = _LATENESS * self.limits.read_timeout_s
        self._sweep = self.loop.call_later(wait_s, self._end_overdue)

    def _end_overdue(self) -> None:
        """One timer for all, because one per request would cost each of them."""
        self._sweep = None
        now = self.loop.time()
        for peer in self._crowd:
            peer.expire(now)
        if self._crowd:  # an idle board should sleep
            self._sweep_later()
