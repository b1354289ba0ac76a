"""A port: takes connections, and lets them go in an orderly way."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack

from skerry_runtime.rest.acceptor import Acceptor
from skerry_runtime.rest.body import BodyBudget
from skerry_runtime.rest.connection import Connection
from skerry_runtime.rest.handshakes import Handshakes
from skerry_runtime.rest.http import App
from skerry_runtime.rest.hub import Hub, ListenerLimits

BACKLOG = 2048
NEWCOMERS_BACKLOG = 256
"""Where everybody is let in one by one: so many may be before you at most."""


class Listener:
    """One port, on one event loop."""

    def __init__(
        self,
        app: App,
        bound: socket.socket,
        limits: ListenerLimits,
        budget: BodyBudget,
        tls: ssl.SSLContext | None = None,
        protocol: Callable[[Hub], asyncio.BaseProtocol] = Connection,
    ) -> None:
        self._protocol = protocol
        self._bound = bound
        self._tls = tls
        self._hub = Hub(app, limits, budget)
        self._server: asyncio.Server | Acceptor | None = None
        self._handshakes = Handshakes(tls, limits.handshakes, self._connection)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._bound.getsockname()[1])

    async def start(self) -> None:
        """Take connections from now on."""
        if self._tls is None and not self._hub.limits.places.newcomers_first:
            self._server = await self._hub.loop.create_server(
                self._connection, sock=self._bound, backlog=BACKLOG
            )
        else:
            if self._hub.limits.places.newcomers_first:
                self._bound.listen(NEWCOMERS_BACKLOG)
            self._server = Acceptor(self._bound, self._handshakes.begin, self._hub.relieve)

    def drain(self) -> None:
        """End every connection with its next answer; new ones are still taken."""
        self._hub.is_draining = True

    async def stop(self, timeout_s: float) -> None:
        """Take no more connections, and give requests in flight so much time."""
        if self._server is not None:
            self._server.close()
        self._handshakes.give_up()
        await self._hub.end(timeout_s)

    def _connection(self) -> asyncio.BaseProtocol:
        return self._protocol(self._hub)


def bind_all(host: str, *ports: int) -> tuple[socket.socket, ...]:
    """Return a bound socket for each port, or leave none open.

    Raises:
        OSError: as `bind`.
    """
    with ExitStack() as opened:
        sockets = tuple(opened.enter_context(bind(host, port)) for port in ports)
        opened.pop_all()
    return sockets


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes any that is free.

    Raises:
        OSError: the address is in use, or not ours.
    """
    is_ipv6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        backlog=BACKLOG,
    )
