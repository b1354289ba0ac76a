"""Takes connections of a port that speaks TLS, and bounds the handshakes under way.

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

ACCEPT_PAUSE_S = 0.5
"""Pause when the system has no more sockets to give."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandshakeLimits:
    """How long a handshake may take, and how many may be under way."""

    timeout_s: float = 10.0
    most: int = 128


class Handshakes:
    """One port, on one event loop."""

    def __init__(
        self,
        bound: socket.socket,
        tls: ssl.SSLContext,
        limits: HandshakeLimits,
        protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._bound = bound
        self._tls = tls
        self._limits = limits
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[asyncio.Task[None], None] = {}  # oldest first
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Take no more connections, and give up those without TLS yet."""
        self._accepting.cancel()
        for task in tuple(self._under_way):
            task.cancel()
        self._bound.close()

    async def _accept(self) -> None:
        self._bound.setblocking(False)
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._bound)
            except OSError as error:
                _log.warning("no connection could be taken: %s", error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._make_room()
            task = self._loop.create_task(self._shake(connection))
            self._under_way[task] = None
            task.add_done_callback(partial(self._end, connection))

    def _make_room(self) -> None:
        if len(self._under_way) >= self._limits.most:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()

    async def _shake(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.connect_accepted_socket(
            self._protocol,
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=self._limits.timeout_s,
        )

    def _end(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        """Forget a handshake; a client that could not do it is gone without a word."""
        self._under_way.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error:
            connection.close()
        if error and not isinstance(error, OSError):  # TLS' own errors are such
            _log.error("a connection failed unexpectedly", exc_info=error)
