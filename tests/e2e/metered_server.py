"""A model server that notes when each answer began and ended, and that can be switched off."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from typing_extensions import override

from digits_demo.model_server import FileHandler, FileServer, Span

PIECE = 16 * 1024
SEND_BUFFER = 32 * 1024
"""What the system may hold of an answer: little, so that what is sent was nearly taken, too."""


@dataclass(frozen=True)
class Sent:
    """One answer that was sent to its end."""

    path: str
    size: int
    seconds: float

    @property
    def bytes_per_s(self) -> float:
        """Return the mean rate."""
        return self.size / self.seconds


class MeteredServer:
    """Serves a flat folder until it is switched off."""

    def __init__(self, root: Path, host: str) -> None:
        self.sent: list[Sent] = []
        handler = type("Handler", (_Handler,), {"root": root.resolve(), "meter": self})
        self._server = FileServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metered")
        self._is_on = True
        self.url = f"http://{host}:{self._server.server_port}"

    def switch_off(self) -> None:
        """Answer nobody any more."""
        if self._is_on:
            self._is_on = False
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.switch_off()
        self._thread.join()


class _Handler(FileHandler):
    meter: MeteredServer

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Leave the tests' output alone."""

    @override
    def _send_body(self, file: BinaryIO, span: Span) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        began = time.monotonic()
        for at in range(span.start, span.end, PIECE):
            super()._send_body(file, Span(at, min(span.end, at + PIECE)))
            self.wfile.flush()
        self.meter.sent.append(Sent(self.path, span.length, time.monotonic() - began))
