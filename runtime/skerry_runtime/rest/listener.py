"""Runs an ASGI application on a port, with the limits that uvicorn leaves to others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

IDLE_S = 75
"""A keep-alive connection without requests is closed after this time."""

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b'content-length: 44\r\nconnection: close\r\n\r\n{"error":"the request\'s head is too large"}\n'
)


@dataclass(frozen=True)
class ListenerLimits:
    """What one port bears."""

    max_header_bytes: int
    max_connections: int
    read_timeout_s: float


class Listener(uvicorn.Server):
    """One port. Signals are the composition root's, and so is the log."""

    def __init__(self, app: Any, bound: socket.socket, limits: ListenerLimits) -> None:
        protocol = type("Protocol", (HeadLimitedProtocol,), {"limits": limits})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE_S,
            limit_concurrency=limits.max_connections,
        )
        super().__init__(config)
        self._bound = bound
        self._stop = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._bound.getsockname()[1])

    async def run_until_stopped(self) -> None:
        """Serve; return when `stop` was called and every request in flight has its answer."""
        await self.serve([self._bound])

    def stop(self, timeout_s: float) -> None:
        """Take no more connections, and give requests in flight so much time."""
        self.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self.should_exit = True
        self._stop.set()

    @override
    async def main_loop(self) -> None:
        """Wait without uvicorn's ten wake-ups a second: an idle board should sleep."""
        await self._stop.wait()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


class HeadLimitedProtocol(HttpToolsProtocol):
    """Bounds a request's head in bytes and in time; httptools itself bounds neither."""

    limits: ClassVar[ListenerLimits]
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _is_head_open = True
    _has_message_ended = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a client that connects must also speak."""
        super().connection_made(transport)
        self._start_timer()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Feed the parser, and give up on a head that does not end."""
        self._has_message_ended = False
        super().data_received(data)
        # A piece that ended a message says nothing about the length of the next head.
        if self._has_message_ended or not self._is_head_open or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.limits.max_header_bytes:
            self._refuse()
        elif self._head_timer is None:
            self._start_timer()

    @override
    def on_headers_complete(self) -> None:
        """Stop the clock and begin the request, unless its head came large in one piece."""
        self._stop_timer()
        self._is_head_open = False
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > (
            self.limits.max_header_bytes
        ):
            self._refuse()
            return
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        """Ignore the body of a request that was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._head_bytes = 0
        self._is_head_open = True
        self._has_message_ended = True
        if not self.transport.is_closing():
            super().on_message_complete()

    def _refuse(self) -> None:
        self.transport.write(TOO_LARGE)
        self.transport.close()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.read_timeout_s, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


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
        backlog=2048,
    )
