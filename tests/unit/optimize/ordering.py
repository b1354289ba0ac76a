"""A place for an order: files on a server of its own, and a store in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fetching import TUNING, sha256_of
from skerry_optimize.ordered import Workplace
from skerry_optimize.store.base import BuildFile
from skerry_runtime.contract import BuildOrder, OrderedExam, OrderedFile, OrderedStore

KEY = "e" * 64


@dataclass
class MemoryStore:
    """Keeps files and notes; `failures` are raised by the next calls, one each."""

    files: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    kept: int = 0

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def note(self, key: str, /) -> bytes | None:
        self._fail()
        return self.notes.get(key)

    async def holds(self, uri: str, /) -> bool:
        return uri in self.files

    async def keep(self, file: BuildFile, /) -> str:
        self._fail()
        self.kept += 1
        uri = f"oci://registry.example/{file.name}@sha256:{file.sha256}"
        self.files[uri] = file.path.read_bytes()
        return uri

    async def write_note(self, key: str, content: bytes, /) -> None:
        self.notes[key] = content


@dataclass
class Files:
    """Served files, and how often each was asked for."""

    bodies: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    base: str = ""

    def ordered(self, name: str) -> OrderedFile:
        return OrderedFile(uri=f"{self.base}/{name}", sha256=sha256_of(self.bodies[name]))


@contextmanager
def served(**bodies: bytes) -> Iterator[Files]:
    files = Files(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            files.asked.append(name)
            body = files.bodies.get(name)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def order(files: Files, *steps: dict[str, Any], **more: Any) -> BuildOrder:
    """Return an order over served files: `model`, and `data` and `golden` where they are."""
    given: dict[str, Any] = {
        "job": "int8",
        "key": KEY,
        "origin": files.ordered("model"),
        "steps": steps or ({"quantize": {"mode": "Static"}},),
        "store": OrderedStore(uri="oci://registry.example/models/ns/digits"),
    }
    if "data" in files.bodies:
        given["data"] = files.ordered("data")
    if "golden" in files.bodies:
        given["golden"] = OrderedExam(**files.ordered("golden").model_dump())
    return BuildOrder(**{**given, **more})


@dataclass
class Told:
    """What a job said."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, event: str, **figures: object) -> None:
        self.events.append((event, figures))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def workplace(folder: Path, told: Told) -> Workplace:
    return Workplace(folder / "work", TUNING, told, pause_s=0.0)
