"""A model server on the far side of a site's line: counts what goes over it, and can be cut off."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import BinaryIO, Self

from typing_extensions import override

from digits_demo.model_server import FileHandler, FileServer, Span


class CountedServer:
    """Serves a flat folder."""

    def __init__(self, root: Path, host: str) -> None:
        self.sent: Counter[str] = Counter()
        """File -> bytes of it that were sent."""
        self.is_cut = False
        handler = type("Handler", (_Counting,), {"root": root.resolve(), "line": self})
        self._server = FileServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="counted server")
        self.url = f"http://{host}:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Counting(FileHandler):
    line: CountedServer

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what counts is counted."""

    @override
    def _answer(self, *, with_body: bool) -> None:
        if self.line.is_cut:
            self.close_connection = True
            self.connection.close()
            return
        super()._answer(with_body=with_body)

    @override
    def _send_body(self, file: BinaryIO, span: Span) -> None:
        self.line.sent[Path(file.name).name] += span.length
        super()._send_body(file, span)
