"""Brings a port's connections to their protocol, and bounds the TLS handshakes under way.

A handshake costs a client a packet and this process some kilobytes, and nobody has been asked for
a token yet. So each has a deadline, and there is room for so many; when it is full the oldest has
to go, because a client with good intentions is done in a few turns of the network.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandshakeLimits:
    """How long a handshake may take, and how many may be under way."""

    timeout_s: float = 10.0
    most: int = 128


class Handshakes:
    """The connections that came in at one port and have no protocol yet, on one event loop.

    Without `tls` there is nothing to agree on, and each has its protocol at once.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        limits: HandshakeLimits,
        protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._limits = limits
        self._connect = partial(
            asyncio.get_running_loop().connect_accepted_socket,
            protocol,
            ssl=tls,
            ssl_handshake_timeout=limits.timeout_s if tls else None,
        )
        self._under_way: dict[asyncio.Task[None], None] = {}  # oldest first

    def begin(self, connection: socket.socket) -> None:
        """Bring a connection to its protocol."""
        self._make_room()
        task = asyncio.create_task(self._shake(connection))
        self._under_way[task] = None
        task.add_done_callback(partial(self._end, connection))

    def give_up(self) -> None:
        """End all that are under way."""
        for task in tuple(self._under_way):
            task.cancel()

    def _make_room(self) -> None:
        if len(self._under_way) >= self._limits.most:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()

    async def _shake(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._connect(connection)

    def _end(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        """Forget a handshake; a client that could not do it is gone without a word."""
        self._under_way.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error:
            connection.close()
        if error and not isinstance(error, OSError):  # TLS' own errors are such
            _log.error("a connection failed unexpectedly", exc_info=error)
