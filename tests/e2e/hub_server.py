"""A hub that speaks Hugging Face's `resolve` paths, and wants a token."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from typing_extensions import override

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_tests"  # noqa: S105 (of a server of the tests' own)


class HubServer:
    """Serves a flat folder as the repository edge/digits, until it is switched off."""

    def __init__(self, root: Path, host: str) -> None:
        handler = type("Handler", (_Handler,), {"root": root})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="hub")
        self._is_on = True
        self.url = f"http://{host}:{self._server.server_port}"

    def uri(self, name: str) -> str:
        """Return the address of a file."""
        return f"hf://edge/digits/{name}@{COMMIT}"

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


class _Handler(BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:
        name = self.path.removeprefix(f"/edge/digits/resolve/{COMMIT}/")
        body = self.root / name
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send_error(401)
        elif "/" in name or not body.is_file():
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(body.stat().st_size))
            self.end_headers()
            self.wfile.write(body.read_bytes())

    @override
    def log_message(self, *_: object) -> None:
        """Leave the tests' output alone."""
