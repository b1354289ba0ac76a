"""A model server on a slow line: a few KiB a second, until the line is a good one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO, Self

from typing_extensions import override

from digits_demo.model_server import FileHandler, FileServer, Span

PIECE = 3 * 1024
EVERY_S = 1.0


class DrippingServer:
    """Serves a flat folder; notes from which byte on each file was asked for."""

    def __init__(self, root: Path, host: str) -> None:
        self._good = threading.Event()
        self.begun_at: list[tuple[str, int]] = []
        handler = type("Handler", (_Handler,), {"root": root.resolve(), "line": self})
        self._server = FileServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="slow line")
        self.url = f"http://{host}:{self._server.server_port}"

    def be_good(self) -> None:
        """Send everything at once from now on."""
        self._good.set()

    def be_slow(self) -> None:
        """Drip again."""
        self._good.clear()

    def is_good_within(self, seconds: float) -> bool:
        """Wait for the next piece to be due; tell whether the line is a good one."""
        return self._good.wait(seconds)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.be_good()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(FileHandler):
    line: DrippingServer

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Leave the tests' output alone."""

    @override
    def _send_body(self, file: BinaryIO, span: Span) -> None:
        self.line.begun_at.append((self.path, span.start))
        at = span.start
        while at < span.end and not self.line.is_good_within(EVERY_S):
            until = min(span.end, at + PIECE)
            super()._send_body(file, Span(at, until))
            self.wfile.flush()
            at = until
        super()._send_body(file, Span(at, span.end))
