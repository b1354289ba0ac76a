"""Servers that note who asked for what, and with which credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """One host; every request is noted before it is answered."""

    answer: Answer
    address: str = ""
    requests: list[web.Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def shown(self) -> list[str]:
        """The credentials that it was shown, in any header."""
        names = ("Authorization", "Proxy-Authorization", "Cookie", "x-amz-security-token")
        return [one.headers[name] for one in self.requests for name in names if name in one.headers]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answer(request)


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Start a server; it ends with the block."""
    found = Server(answer)
    app = web.Application()
    app.router.add_get("/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    found.address = f"{host}:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


def body(content: bytes, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, headers=headers)

    return answer


def status(code: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, headers=named)

    return answer


def wants(authorization: str, content: bytes) -> Answer:
    """Give the content to who shows this, and a 401 to all others."""

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != authorization:
            return web.Response(status=401)
        return web.Response(body=content)

    return answer
