"""A file server with doors: what lies below each is for one kind of asker, and for nobody else."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from typing_extensions import override


class GuardedServer:
    """Serves a flat folder below each of its doors; switched off, it hangs up on everybody."""

    def __init__(self, root: Path, host: str, doors: Mapping[str, str | None]) -> None:
        """Take the doors: the path of each, and what `Authorization` has to say; None: nothing."""
        self.root = root
        self.doors = doors
        self.is_off = False
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="guarded server")
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


class _Handler(BaseHTTPRequestHandler):
    owner: GuardedServer

    def do_GET(self) -> None:
        if self.owner.is_off:
            self.close_connection = True
            return
        door, _, name = self.path.rpartition("/")
        if door not in self.owner.doors or not (self.owner.root / name).is_file():
            self.send_error(404)
        elif self.headers.get("Authorization") != self.owner.doors[door]:
            self.send_error(401)
        else:
            body = (self.owner.root / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    @override
    def log_message(self, *_: object) -> None:
        """Leave the tests' output alone."""
