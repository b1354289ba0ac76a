"""A model server that stops half-way through a file for some clients, until it may go on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO, Self

from typing_extensions import override

from digits_demo.model_server import FileHandler, FileServer, Span

HELD_AT_MOST_S = 900.0
"""Longer than any test may take: what opens the gate is the test."""


class GatedServer:
    """Serves a flat folder; a client that is held gets half of each file and then waits."""

    def __init__(self, root: Path, host: str) -> None:
        self._held: set[str] = set()
        self._open = threading.Event()
        handler = type("Handler", (_Handler,), {"root": root.resolve(), "gate": self})
        self._server = FileServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="gated server")
        self.url = f"http://{host}:{self._server.server_port}"

    def hold(self, address: str) -> None:
        """Let a client wait from now on."""
        self._held = {address}
        self._open.clear()

    def let_go(self) -> None:
        """Let nobody wait any longer."""
        self._held = set()
        self._open.set()

    def wait_for(self, address: str) -> None:
        """Wait as long as the client is held."""
        if address in self._held:
            self._open.wait(HELD_AT_MOST_S)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(FileHandler):
    gate: GatedServer

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Leave the tests' output alone."""

    @override
    def _send_body(self, file: BinaryIO, span: Span) -> None:
        middle = span.start + span.length // 2
        super()._send_body(file, Span(span.start, middle))
        self.wfile.flush()
        self.gate.wait_for(self.client_address[0])
        super()._send_body(file, Span(middle, span.end))
