"""Questions to pods over HTTP, to a real server that behaves and misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from builders import make_report
from skerry_operator.decide.observed import Pod
from skerry_operator.reports.base import BODY_LIMIT, Question, ReadError, ReadResult
from skerry_operator.reports.door import let_in
from skerry_operator.reports.fetch import KEPT_MOST, KEPT_OPEN_S, HttpFetch, KeptOpen

TIMEOUT_S = 0.5
REPORT = make_report("node-7", deployment="edge/digits").model_dump_json(by_alias=True).encode()


async def ask(fetch: HttpFetch, ip: str = "127.0.0.1") -> ReadResult:
    question = Question(("edge", "digits"), Pod("pod", "node-7", "cell", "t", ip=ip))
    try:
        let_in(await fetch(question), question, 0, with_counters=True)
    except ReadError as error:
        return error.result
    return ReadResult.OK


async def good(_: web.Request) -> web.StreamResponse:
    return web.Response(body=REPORT)


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response(body=REPORT)


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def refusing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data")


async def garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"<html>")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(b"a" * (BODY_LIMIT // 8))
    return response


async def stranger(_: web.Request) -> web.StreamResponse:
    return web.Response(body=make_report("node-8").model_dump_json(by_alias=True).encode())


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[HttpFetch]]]:
    servers: list[TestServer] = []
    fetches: list[HttpFetch] = []

    async def start(handler: Handler) -> HttpFetch:
        app = web.Application()
        app.add_routes([web.get("/status", handler)])
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.1)
        servers.append(server)
        fetches.append(HttpFetch(TIMEOUT_S, port=server.port or 0))
        return fetches[-1]

    yield start
    for fetch in fetches:
        await fetch.close()
    for server in servers:
        await server.close()


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (good, ReadResult.OK),
        (slow, ReadResult.TIMEOUT),
        (dripping, ReadResult.TIMEOUT),
        (refusing, ReadResult.REFUSED),
        (redirecting, ReadResult.REFUSED),
        (garbage, ReadResult.GARBAGE),
        (endless, ReadResult.TOO_LARGE),
        (stranger, ReadResult.STRANGER),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_an_answer_is_a_report_or_has_a_reason(
    serve: Callable[[Handler], Awaitable[HttpFetch]], handler: Handler, result: ReadResult
) -> None:
    assert await ask(await serve(handler)) is result


async def test_a_pod_that_is_not_there_is_unreachable(
    serve: Callable[[Handler], Awaitable[HttpFetch]],
) -> None:
    assert await ask(await serve(good), ip="127.0.0.2") is ReadResult.UNREACHABLE


async def connections_of(pods: int, monkeypatch: pytest.MonkeyPatch, most: int) -> int:
    """Ask so many addresses twice; return how many connections that took."""
    monkeypatch.setattr("skerry_operator.reports.fetch.KEPT_MOST", most)
    seen = set()

    async def counting(request: web.Request) -> web.StreamResponse:
        seen.add(request.transport)
        return await good(request)

    async with TestServer(app_of(counting), host="0.0.0.0") as server:
        assert server.port
        fetch = HttpFetch(TIMEOUT_S * 20, server.port)
        try:
            for _ in range(2):
                for number in range(pods):
                    assert await ask(fetch, f"127.0.0.{number + 1}") is ReadResult.OK
        finally:
            await fetch.close()
    return len(seen)


def app_of(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    app = web.Application()
    app.router.add_get("/status", handler)
    return app


async def test_a_pod_that_is_asked_again_soon_is_not_connected_to_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await connections_of(4, monkeypatch, most=4) == 4


async def test_of_a_large_fleet_few_connections_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await connections_of(4, monkeypatch, most=1) == 1 + 2 * 3


def test_a_place_among_the_kept_is_free_again_when_its_connection_has_ended() -> None:
    kept = KeptOpen()
    assert all(kept.take(f"10.0.0.{number}", 0.0) for number in range(KEPT_MOST))
    assert not kept.take("10.1.0.1", 0.0)
    assert kept.take("10.0.0.0", KEPT_OPEN_S - 1)
    assert kept.take("10.1.0.1", KEPT_OPEN_S)
