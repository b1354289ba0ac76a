"""Takes connections of a port, one in a turn of the event loop.

So a crowd at this door holds up nobody at another one, and everybody who was let in is heard
before the next one comes and wants a place.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

PAUSE_S = 0.5
"""Pause when the system has no more sockets to give, and nobody gave one back."""

_OUT_OF_SOCKETS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)


class Acceptor:
    """One port, on one event loop; `relieve` ends an idle connection, and tells whether it did."""

    def __init__(
        self,
        bound: socket.socket,
        take: Callable[[socket.socket], None],
        relieve: Callable[[], bool],
    ) -> None:
        self._bound = bound
        self._take = take
        self._relieve = relieve
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Take no more connections."""
        self._loop.remove_reader(self._bound)
        if self._pause is not None:
            self._pause.cancel()
        self._bound.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._bound, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._bound.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has left again
        except OSError as error:
            self._bear(error)
            return
        connection.setblocking(False)
        self._take(connection)

    def _bear(self, error: OSError) -> None:
        """Make room where that helps; else look away for a while."""
        if error.errno in _OUT_OF_SOCKETS and self._relieve():
            return  # who was ended leaves in this turn; the next one tries again
        _log.warning("no connection could be taken: %s", error.strerror)
        self._loop.remove_reader(self._bound)
        self._pause = self._loop.call_later(PAUSE_S, self._resume)
