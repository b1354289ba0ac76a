"""What a stream is answered by: the way a connection speaks with a call, or a request."""

from __future__ import annotations

import asyncio
from typing import Protocol

from skerry_runtime.front.desk import Desk
from skerry_runtime.http2.connection import ServerCore


class ClientLine(Protocol):
    """The connection as a call sees it."""

    desk: Desk
    core: ServerCore
    loop: asyncio.AbstractEventLoop

    def flush(self) -> None:
        """Let out what the core has to send, when nobody else will do it."""
        ...

    def forget(self, stream_id: int) -> None:
        """Stop telling a stream of what comes: its work has ended."""
        ...


class Answering(Protocol):
    """Whatever answers one stream."""

    def take(self, piece: memoryview, *, is_last: bool) -> None:
        """Take a piece of the request's body."""
        ...

    def end(self) -> None:
        """Heed that the request is whole."""
        ...

    def give_up(self) -> None:
        """Stop: the peer wants no answer."""
        ...

    def go_on(self) -> None:
        """Heed that the peer has taken what was sent."""
        ...

    def look(self, least_bytes: float) -> None:
        """End when less than this has come of the request since the last look."""
        ...
