"""Slow clients are judged by their progress, and who makes none is cut off.

Time is an argument here: a deadline is reached by saying so, never by waiting for it.
"""

from __future__ import annotations

import asyncio
import math
import socket

import pytest

from serving.connections import CLOSE, Served, on_uvloop, request, until
from skerry_runtime.doors import admin_limits, rest_limits
from skerry_runtime.rest.connection import Connection
from skerry_runtime.rest.crowd import Places
from skerry_runtime.rest.hub import PIECE, ListenerLimits
from skerry_runtime.settings import RuntimeSettings

WINDOW_S = 1000
"""No test takes so long."""
MIB = 1024 * 1024


def limits(bytes_per_window: float) -> ListenerLimits:
    return ListenerLimits(
        1024, Places(3), WINDOW_S, WINDOW_S, least_bytes_s=bytes_per_window / WINDOW_S
    )


def only(served: Served) -> Connection:
    (connection,) = served.listener._hub._crowd
    assert isinstance(connection, Connection)
    return connection


def reach_deadline(served: Served) -> None:
    connection = only(served)
    connection.expire(connection.deadline)


SIZED = request(b"/a", b"", b"content-length: %d" % (4 * PIECE), CLOSE)
CHUNKED = request(b"/a", b"", b"transfer-encoding: chunked", CLOSE)


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + bytes(size) + b"\r\n"


@pytest.mark.parametrize(("head", "piece"), [(SIZED, bytes(PIECE)), (CHUNKED, chunk(PIECE))])
@on_uvloop
async def test_a_body_that_moves_fast_enough_has_as_long_again(head: bytes, piece: bytes) -> None:
    async with Served(limits(PIECE)) as served:
        reader, writer = await served.connect()
        writer.write(head)
        for count in range(1, 4):
            writer.write(piece)
            await until(lambda count=count: served.budget.held == count * PIECE)
            reach_deadline(served)
            assert only(served).deadline > served.loop.time() + WINDOW_S / 2
        writer.write(piece + b"0\r\n\r\n" * (head is CHUNKED))
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("head", "piece", "rest"),
    [(SIZED, bytes(PIECE), bytes(PIECE - 1)), (CHUNKED, chunk(PIECE), chunk(PIECE - 1))],
)
@on_uvloop
async def test_a_body_that_was_fast_and_stops_is_cut_at_the_next_deadline(
    head: bytes, piece: bytes, rest: bytes
) -> None:
    """Nobody saves up time: what came before the last deadline counts no more."""
    async with Served(limits(PIECE)) as served:
        reader, writer = await served.connect()
        writer.write(head + 2 * piece)
        await until(lambda: served.budget.held == 2 * PIECE)
        reach_deadline(served)
        writer.write(rest)
        await until(lambda: served.budget.held == 3 * PIECE - 1)
        reach_deadline(served)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert served.budget.held == 0


@on_uvloop
async def test_chunks_that_only_grow_in_ado_are_no_progress() -> None:
    async with Served(limits(64)) as served:
        reader, writer = await served.connect()
        writer.write(CHUNKED + b"1;" + b"x" * 600 + b"\r\na\r\n")
        await until(lambda: served.budget.held == 1)
        reach_deadline(served)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


@on_uvloop
async def test_a_head_has_one_deadline_however_it_moves() -> None:
    async with Served(limits(1)) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /a HTTP/1.1\r\nx: ")
        await until(lambda: only(served)._partial)
        writer.write(b"y" * 500)
        await until(lambda: len(only(served)._partial) > 500)
        reach_deadline(served)
        async with asyncio.timeout(30):
            assert await reader.read() == b""


@on_uvloop
async def test_the_deadline_is_the_end_where_no_rate_is_enough() -> None:
    """As on the admin port."""
    async with Served(ListenerLimits(1024, Places(3), WINDOW_S)) as served:
        reader, writer = await served.connect()
        writer.write(SIZED + bytes(3 * PIECE))
        await until(lambda: served.budget.held == 3 * PIECE)
        reach_deadline(served)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


def test_the_rest_port_has_a_rate_and_the_admin_port_has_none() -> None:
    settings = RuntimeSettings(min_rate_bytes=7)
    assert rest_limits(settings).least_bytes_s == 7
    assert admin_limits(settings).least_bytes_s == math.inf


async def asked(served: Served, *headers: bytes) -> socket.socket:
    """A client that has asked for a large answer, and takes what it is told to."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.setblocking(False)
    await served.loop.sock_connect(client, ("127.0.0.1", served.listener.port))
    await served.loop.sock_sendall(client, request(b"/huge", b"", *headers, method=b"GET"))
    await until(lambda: served.app.seen)
    return client


async def take(served: Served, client: socket.socket, size: int) -> bytes:
    """Return so much of what comes, or what comes until the end."""
    data = bytearray()
    async with asyncio.timeout(30):
        while len(data) < size and (piece := await served.loop.sock_recv(client, MIB)):
            data += piece
    return bytes(data)


@pytest.mark.parametrize("headers", [(), (CLOSE,)], ids=["kept", "the last"])
@on_uvloop
async def test_an_answer_that_is_taken_fast_enough_is_sent_to_its_end(
    headers: tuple[bytes, ...],
) -> None:
    async with Served(limits(MIB)) as served:
        client = await asked(served, *headers)
        data = bytearray()
        for _ in range(3):
            data += await take(served, client, 16 * MIB)  # what the system has taken is far less
            reach_deadline(served)
            assert only(served).deadline > served.loop.time() + WINDOW_S / 2
        async with asyncio.timeout(30):
            while not data.endswith(b"]"):
                data += await take(served, client, 1)
        client.close()
    assert data.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("headers", [(), (CLOSE,)], ids=["kept", "the last"])
@on_uvloop
async def test_an_answer_that_is_no_longer_taken_is_cut_at_the_next_deadline(
    headers: tuple[bytes, ...],
) -> None:
    async with Served(limits(16 * MIB)) as served:  # more than the system takes in by itself
        client = await asked(served, *headers)
        await take(served, client, 40 * MIB)
        reach_deadline(served)
        assert len(served.listener._hub._crowd) == 1
        await take(served, client, 1)
        reach_deadline(served)
        await until(lambda: not served.listener._hub._crowd)
        client.close()
