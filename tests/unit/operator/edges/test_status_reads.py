"""Reads of pods' /status against a real server that behaves and misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from builders import make_report
from skerry_operator.decide.observed import Pod
from skerry_operator.metricsource.base import PodAddress, ReadError, ReadResult
from skerry_operator.metricsource.runtime_status import BODY_LIMIT, HttpFetch, RuntimeStatus, parse
from skerry_operator.telemetry import Telemetry

TIMEOUT_S = 0.5
REPORT = make_report("node-7", deployment="edge/digits").model_dump_json(by_alias=True).encode()


def address(unit: str = "node-7", ip: str = "127.0.0.1") -> PodAddress:
    return PodAddress("edge", "digits", Pod(f"pod-{unit}", unit, "cell", "t", ip=ip))


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
async def test_an_answer_is_a_report_or_a_counted_absence(
    serve: Callable[[Handler], Awaitable[HttpFetch]], handler: Handler, result: ReadResult
) -> None:
    telemetry = Telemetry()
    source = RuntimeStatus(await serve(handler), telemetry, concurrency=4)
    reports = await source.read([address()])
    assert set(reports) == ({"node-7"} if result is ReadResult.OK else set())
    assert telemetry.pod_status_reads.labels(result)._value.get() == 1


async def test_a_pod_that_is_not_there_does_not_hide_the_others(
    serve: Callable[[Handler], Awaitable[HttpFetch]],
) -> None:
    source = RuntimeStatus(await serve(good), Telemetry(), concurrency=4)
    reports = await source.read([address("node-9", ip="127.0.0.2"), address()])
    assert set(reports) == {"node-7"}


async def test_no_more_pods_than_set_are_asked_at_one_time() -> None:
    now = most = 0
    release = asyncio.Event()

    async def fetch(_: PodAddress) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await release.wait()
        now -= 1
        raise ReadError(ReadResult.UNREACHABLE, "")

    source = RuntimeStatus(fetch, Telemetry(), concurrency=3)
    reading = asyncio.create_task(source.read([address(str(unit)) for unit in range(10)]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert most == 3
    release.set()
    assert await reading == {}
    assert most == 3


def test_an_answer_for_another_deployment_is_refused() -> None:
    body = make_report("node-7", deployment="edge/other").model_dump_json(by_alias=True).encode()
    with pytest.raises(ReadError, match="edge/other"):
        parse(body, address())


def test_a_pod_that_read_no_assignment_yet_is_believed() -> None:
    body = make_report("node-7").model_dump_json(by_alias=True).encode()
    assert parse(body, address()).deployment is None
