"""The HTTP connections on real sockets: pieces, order, limits and slow clients."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from serving.connections import CLOSE, LIMITS, MAX_BODY, Served, on_uvloop, request, until
from skerry_runtime.rest.body import SizedBody
from skerry_runtime.rest.connection import SMALL_BODY
from skerry_runtime.rest.crowd import Places
from skerry_runtime.rest.head import Heads
from skerry_runtime.rest.http import Reply, encode
from skerry_runtime.rest.hub import PIECE, ListenerLimits


@on_uvloop
async def test_a_request_may_come_byte_by_byte() -> None:
    async with Served() as served:
        whole = request(b"/a", b"body", CLOSE)
        answer = await served.ask(*(whole[i : i + 1] for i in range(len(whole))))
    assert answer.endswith(b"[/abody]")


@pytest.mark.parametrize("size", [1, SMALL_BODY, SMALL_BODY + 1, PIECE, 3 * PIECE + 5])
@pytest.mark.parametrize("head", [0, 7])
@on_uvloop
async def test_a_body_of_any_size_arrives_as_it_was_sent(size: int, head: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    async with Served() as served:
        length = b"inference-header-content-length: %d" % head
        answer = await served.ask(request(b"/a", body, CLOSE, length))
    assert answer.endswith(b"[/a" + body + b"]")


@on_uvloop
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    """The first one waits, so that the others come while it is under way."""
    large = bytes(2 * PIECE)
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/slow") + request(b"/a", b"1") + request(b"/b", large))
        writer.write(b"\r\n" + request(b"/c", b"3", CLOSE))
        await until(lambda: served.app.asked)
        assert served.app.seen == []
        served.app.gate.set()
        answer = await reader.read()
        writer.close()
        assert served.app.seen == [b"/slow", b"/a", b"/b", b"/c"]
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b"[/c3]")


@on_uvloop
async def test_thousands_of_pipelined_requests_are_answered() -> None:
    async with Served() as served:
        answer = await served.ask(request(b"/a") * 5000 + request(b"/b", b"", CLOSE))
    assert answer.count(b"HTTP/1.1 200 OK") == 5001


@on_uvloop
async def test_a_request_behind_a_chunked_one_costs_the_connection_and_no_answer() -> None:
    """Where the chunks end the parser does not tell; a client asks again on a new connection."""
    chunked = request(b"/a", b"", b"transfer-encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"
    async with Served() as served:
        answer = await served.ask(chunked + request(b"/b"))
        assert served.app.seen == [b"/a"]
    assert answer.endswith(b"[/aabc]")
    assert b"connection: close" in answer


@on_uvloop
async def test_chunks_in_pieces_with_extensions_and_trailers_make_one_body() -> None:
    head = request(b"/a", b"", b"transfer-encoding: chunked")
    pieces = [b"2;x=y\r\na", b"b\r\n1\r", b"\nc\r\n0\r\n", b"t: 1\r\n\r\n"]
    async with Served() as served:
        answer = await served.ask(head, *pieces, request(b"/b", b"", CLOSE))
    assert b"[/aabc]" in answer
    assert answer.endswith(b"[/b]")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, id="TLS on a plain port"),
        pytest.param(b"GET /a HTTP/1.1\r\nbad header\r\n\r\n", 400, id="a header without colon"),
        pytest.param(b"GET\r\n\r\n", 400, id="no target"),
        pytest.param(request(b"/a", b"", b"content-length: -1"), 400, id="a negative length"),
        pytest.param(request(b"/a", b"", b"content-length: 1x"), 400, id="a length with a letter"),
        pytest.param(
            request(b"/a", b"", b"content-length: 1", b"content-length: 2"), 400, id="two lengths"
        ),
        pytest.param(
            request(b"/a", b"abc", b"transfer-encoding: chunked"), 400, id="a length and chunks"
        ),
        pytest.param(
            request(b"/a", b"", b"transfer-encoding: gzip, chunked"), 501, id="gzip as a transfer"
        ),
        pytest.param(
            request(b"/a", b"", b"transfer-encoding: chunked") + b"zz\r\n", 400, id="no chunk"
        ),
        pytest.param(request(b"/a", b"", b"x: " + b"y" * 2000), 431, id="a large head"),
        pytest.param(b"GET /a HTTP/1.1\r\nx: " + b"y" * 2000, 431, id="a head without an end"),
        pytest.param(
            request(b"/a", b"", b"content-length: %d" % (MAX_BODY + 1)), 413, id="a long body"
        ),
        pytest.param(
            request(b"/a", b"", b"transfer-encoding: chunked")
            + (b"%x\r\n" % PIECE + bytes(PIECE) + b"\r\n") * 9,
            413,
            id="chunks without an end",
        ),
        pytest.param(request(b"/nowhere", b"body"), 404, id="a body for nobody"),
    ],
)
@on_uvloop
async def test_what_is_no_request_is_refused_and_the_connection_ends(
    sent: bytes, status: int
) -> None:
    async with Served() as served:
        answer = await served.ask(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:80]
    assert b"connection: close" in answer


@on_uvloop
async def test_trailers_without_an_end_are_refused() -> None:
    head = request(b"/a", b"", b"transfer-encoding: chunked") + b"1\r\na\r\n0\r\n"
    async with Served() as served:
        answer = await served.ask(head, *[b"x: " + b"y" * 500 + b"\r\n"] * 4)
    assert answer.startswith(b"HTTP/1.1 431 ")


@on_uvloop
async def test_a_client_that_sends_too_much_reads_why_before_the_connection_ends() -> None:
    """Closing with unread data would reset the connection, and take the answer away."""
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/a", b"", b"content-length: 99999999"))
        writer.write(bytes(4 * PIECE))
        await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        assert served.app.refused == [413]


@on_uvloop
async def test_refused_and_lost_bodies_give_their_memory_back() -> None:
    async with Served() as served:
        _, writer = await served.connect()
        writer.write(request(b"/a", bytes(2 * PIECE))[:-1])
        await writer.drain()
        await until(lambda: served.budget.held == 2 * PIECE - 1)
        writer.close()
        await until(lambda: served.budget.held == 0)
        await served.ask(request(b"/a", bytes(2 * PIECE), CLOSE))
        assert served.budget.held == 0


@on_uvloop
async def test_too_many_requests_under_way_let_nobody_else_in() -> None:
    async with Served() as served:
        for number in range(LIMITS.places.most):
            _, writer = await served.connect()
            writer.write(request(b"/slow"))
            await until(lambda number=number: served.app.asked == number + 1)
        answer = await served.ask()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in answer
        served.app.gate.set()
        await until_answered(served)


@on_uvloop
async def test_the_longest_idle_connection_makes_room() -> None:
    async with Served() as served:
        clients = [await served.connect() for _ in range(LIMITS.places.most)]
        for reader, writer in reversed(clients):  # the one that came last has waited longest
            writer.write(request(b"/a"))
            await reader.readuntil(b"]")
            answered = served.loop.time()
            await until(lambda answered=answered: served.loop.time() > answered)
        assert (await served.ask(request(b"/b", b"", CLOSE))).endswith(b"[/b]")
        async with asyncio.timeout(30):
            assert await clients[-1][0].read() == b""
        for reader, writer in clients[:-1]:
            writer.write(request(b"/c"))
            assert (await reader.readuntil(b"[/c]")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("half", [request(b"/a", b"body")[:-2], request(b"/a")[:-2]])
@on_uvloop
async def test_half_sent_requests_of_one_client_give_their_memory_and_their_place(
    half: bytes,
) -> None:
    async with Served() as served:
        for _ in range(4 * LIMITS.places.most):
            _, writer = await served.connect()
            writer.write(half)
        reader, writer = await served.connect("127.0.0.9")
        writer.write(request(b"/b", b"", CLOSE))
        async with asyncio.timeout(30):
            assert (await reader.read()).endswith(b"[/b]")
        assert served.budget.held <= LIMITS.places.most * len(b"body")


async def until_answered(served: Served) -> None:
    deadline = time.monotonic() + 30
    while not (await served.ask(request(b"/a", b"", CLOSE))).startswith(b"HTTP/1.1 200 "):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("more", [b"", request(b"/a"), request(b"/slow"), request(b"/a")[:9]])
@on_uvloop
async def test_a_client_that_stops_sending_after_its_request_gets_its_answers(more: bytes) -> None:
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/slow") + more)
        writer.write_eof()
        await until(lambda: served.app.asked)
        await asyncio.sleep(0.01)  # so that the end of the input is seen; the test needs it not
        served.app.gate.set()
        async with asyncio.timeout(30):
            answers = await reader.read()
        assert answers.count(b"HTTP/1.1 200 ") == 1 + more.endswith(b"\r\n\r\n")


@on_uvloop
async def test_half_a_request_before_the_end_of_the_input_ends_the_connection() -> None:
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/a", b"body")[:-2])
        writer.write_eof()
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        assert served.budget.held == 0


@on_uvloop
async def test_a_client_that_stops_sending_is_told_when_its_answer_takes_too_long() -> None:
    limits = ListenerLimits(max_header_bytes=1024, places=Places(3), read_timeout_s=0.1)
    async with Served(limits) as served:
        reader, writer = await served.connect()
        writer.write(request(b"/slow"))
        writer.write_eof()
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await until(lambda: served.app.given_up)


@on_uvloop
async def test_the_work_for_a_client_that_has_left_ends_in_time() -> None:
    limits = ListenerLimits(max_header_bytes=1024, places=Places(3), read_timeout_s=0.1)
    async with Served(limits) as served:
        _, writer = await served.connect()
        writer.write(request(b"/slow"))
        await until(lambda: served.app.asked)
        writer.transport.abort()
        await until(lambda: served.app.given_up)
        served.app.gate.set()
        await until_answered(served)
        assert b"/slow" not in served.app.seen


@on_uvloop
async def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    limits = ListenerLimits(max_header_bytes=1024, places=Places(9), read_timeout_s=0.1)
    async with Served(limits) as served:
        _, writer = await served.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request(b"/large") * 8)
        async with asyncio.timeout(30):
            while not writer.transport.is_closing():
                writer.write(request(b"/a"))
                await asyncio.sleep(0.01)
        assert len(served.app.seen) < 8, "what nobody reads is not worked for"


@on_uvloop
async def test_an_idle_connection_ends_at_once_when_the_port_stops() -> None:
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/a"))
        await reader.readuntil(b"]")
        await served.listener.stop(30)
        assert await reader.read() == b""


@on_uvloop
async def test_a_request_under_way_is_answered_when_the_port_stops_and_is_the_last() -> None:
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/slow"))
        await until(lambda: served.app.asked)
        stopping = asyncio.create_task(served.listener.stop(30))
        await until(lambda: served.listener._hub.is_draining)
        served.app.gate.set()
        answer = await reader.read()
        await stopping
        assert b"connection: close" in answer


@on_uvloop
async def test_a_request_that_never_ends_does_not_keep_the_port_from_stopping() -> None:
    async with Served() as served:
        reader, writer = await served.connect()
        writer.write(request(b"/slow"))
        await until(lambda: served.app.asked)
        async with asyncio.timeout(30):
            await served.listener.stop(0.05)
            assert await reader.read() == b""


@on_uvloop
async def test_an_upgrade_that_is_offered_is_ignored() -> None:
    async with Served() as served:
        upgrade = (b"connection: upgrade, close", b"upgrade: h2c")
        answer = await served.ask(request(b"/a", b"", *upgrade, method=b"GET"))
    assert answer.startswith(b"HTTP/1.1 200 ")


@on_uvloop
async def test_http_1_0_ends_with_the_answer_unless_asked_to_go_on() -> None:
    async with Served() as served:
        assert (await served.ask(b"GET /a HTTP/1.0\r\n\r\n")).endswith(b"[/a]")
        kept = b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
        answer = await served.ask(kept + b"GET /b HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"[/b]")
        first, _, second = answer.partition(b"[/a]")
        assert b"\r\nconnection: keep-alive\r\n" in first, "ab -k waits for the end without it"
        assert b"\r\nconnection: close\r\n" in second


@on_uvloop
async def test_http_1_1_is_kept_without_a_word() -> None:
    async with Served() as served:
        answer = await served.ask(request(b"/a") + request(b"/b", b"", CLOSE))
    assert b"connection" not in answer.partition(b"[/a]")[0]


@pytest.mark.parametrize("target", [b"/a", b"/nowhere", b"/slow", b"/broken"])
@on_uvloop
async def test_no_answer_to_head_has_a_body_and_the_next_one_is_in_its_place(
    target: bytes,
) -> None:
    async with Served() as served:
        served.app.gate.set()
        answer = await served.ask(
            request(target, method=b"HEAD") + request(b"/b", b"", CLOSE, method=b"GET")
        )
    first, second = answer.split(b"\r\n\r\n", 1)
    assert b"content-length: 0" not in first
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"[/b]")


@on_uvloop
async def test_a_defect_is_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async with Served() as served:
        answer = await served.ask(request(b"/broken", b"", CLOSE))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert "secret" in caplog.text


def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    (answer,) = encode(Reply(200, b"body"), keep=True, is_head=True)
    assert b"content-length: 4" in answer
    assert b"body" not in bytes(answer)


def test_data_behind_a_json_head_lies_where_engines_want_it() -> None:
    for head in range(40):
        body = SizedBody(100, head)
        raw = memoryview(body.whole)[head:]
        address = np.frombuffer(raw, np.uint8).ctypes.data
        assert address % 16 == 0


def test_heads_are_parsed_once_and_forgotten_in_time() -> None:
    heads = Heads()
    text = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"
    first = heads.parse(text)
    assert heads.parse(text) is first
    for number in range(100):
        assert heads.parse(b"GET /%d HTTP/1.1\r\n\r\n" % number).target == b"/%d" % number
    assert heads.parse(text) is not first
