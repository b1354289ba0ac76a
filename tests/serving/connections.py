"""A port on the test's own loop, with an app behind it that answers with what it was asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps

import uvloop

from skerry_runtime.rest.body import BodyBudget
from skerry_runtime.rest.crowd import Places
from skerry_runtime.rest.http import Answer, Handler, Reply, Request
from skerry_runtime.rest.hub import PIECE, ListenerLimits
from skerry_runtime.rest.listener import Listener, bind
from skerry_runtime.rest.statuses import HttpError, reply_of

LIMITS = ListenerLimits(max_header_bytes=1024, places=Places(3), read_timeout_s=30)
MAX_BODY = 8 * PIECE
SIZES = {b"/large": 4 * 1024 * 1024, b"/huge": 64 * 1024 * 1024}
"""Answers of a size."""


def on_uvloop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run a test on the loop that the runtime runs on."""

    @wraps(test)
    def run(**fixtures: object) -> None:
        uvloop.run(test(**fixtures))

    return run


class Echo:
    """Answers with what it was asked; /slow answers later, /large with a lot."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[bytes] = []
        self.refused: list[int] = []
        self.asked = 0
        self.given_up = False

    def open(self, request: Request) -> Handler:
        if request.target == b"/nowhere":
            raise HttpError(404, "no such path")
        return self._slow if request.target == b"/slow" else self._answer

    def refuse(self, request: Request, error: Exception) -> Reply:
        assert isinstance(error, HttpError)
        self.refused.append(error.status)
        return reply_of(error)

    def _answer(self, request: Request) -> Answer:
        if request.target == b"/broken":
            raise RuntimeError("secret")
        self.seen.append(request.target)
        body = bytes(SIZES.get(request.target, 0)) or bytes(request.body)
        return Reply(200, b"[" + request.target, b"", (body, b"]"))

    async def _slow(self, request: Request) -> Reply:
        self.asked += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        self.seen.append(request.target)
        return Reply(200, b"slow")


class Served:
    """A listener and its app on the test's loop."""

    def __init__(self, limits: ListenerLimits = LIMITS, memory: int = 2 * MAX_BODY) -> None:
        self.app = Echo()
        self.loop = asyncio.get_running_loop()
        self._writers: list[asyncio.StreamWriter] = []
        self.budget = BodyBudget(MAX_BODY, memory)
        self.listener = Listener(self.app, bind("127.0.0.1", 0), limits, self.budget)

    async def __aenter__(self) -> Served:
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.app.gate.set()
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.listener.stop(0.01)

    async def connect(
        self, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.listener.port, limit=2**24, local_addr=(source, 0)
        )
        self._writers.append(writer)
        return reader, writer

    async def ask(self, *pieces: bytes) -> bytes:
        """Send pieces one by one and return all that comes until the server closes."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)  # so that they arrive as pieces; no test needs it to
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return answer


def request(target: bytes, body: bytes = b"", *headers: bytes, method: bytes = b"POST") -> bytes:
    lines = [b"%s %s HTTP/1.1" % (method, target), b"host: a", *headers]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CLOSE = b"connection: close"


async def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
