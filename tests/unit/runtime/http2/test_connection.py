"""The core by itself: bytes in, events and bytes out."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from skerry_runtime.http2 import frames
from skerry_runtime.http2.connection import ServerCore
from skerry_runtime.http2.errors import ErrorCode
from skerry_runtime.http2.events import (
    AnswerTaken,
    GivenUp,
    GoodbyeHeard,
    PieceCame,
    RequestCame,
    RequestEnded,
)
from skerry_runtime.http2.fields import block_of
from skerry_runtime.http2.limits import Http2Limits
from unit.runtime.http2.peer import POST, Peer, cut, data, frame, headers, reset, window

HEAD = block_of(((b":status", b"200"),))
END = block_of(((b"grpc-status", b"0"),))
KIND = {frames.HEADERS: "HEADERS", frames.DATA: "DATA", frames.RST_STREAM: "RST"}


@pytest.fixture
def peer() -> Peer:
    return Peer()


def kinds(peer: Peer) -> list[str]:
    return [KIND.get(frame.kind, str(frame.kind)) for frame in peer.said()]


def test_a_request_and_its_answer(peer: Peer) -> None:
    events = peer.send(headers(1, peer.block()), data(1, b"question", is_end=True))
    asked, came = events
    assert isinstance(asked, RequestCame)
    assert (asked.head.method, asked.head.path, asked.is_whole) == (b"POST", b"/a", False)
    assert isinstance(came, PieceCame)
    assert (bytes(came.piece), came.is_last) == (b"question", True)
    peer.core.reply(1, HEAD, b"answer", END)
    head, body, trailers = peer.said()
    assert (head.kind, body.kind, trailers.kind) == (frames.HEADERS, frames.DATA, frames.HEADERS)
    assert body.body == b"answer"
    assert trailers.flags & frames.END_STREAM
    assert peer.core.open_streams == 0


@pytest.mark.parametrize("size", [1, 7, 9, 23, 24, 25, 4096])
def test_bytes_may_come_in_pieces_of_any_size(size: int) -> None:
    other = Peer()
    sent = frames.PREFACE + frames.settings(()) + headers(1, other.block())
    sent += data(1, b"x" * 3000) + data(1, b"y" * 2000, is_end=True)
    core = ServerCore(Http2Limits(), lambda: 0.0)
    events = [
        event for at in range(0, len(sent), size) for event in core.receive(sent[at : at + size])
    ]
    assert isinstance(events[0], RequestCame)
    bodies = [bytes(event.piece) for event in events if isinstance(event, PieceCame)]
    assert bodies == [b"x" * 3000, b"y" * 2000]


def test_the_same_head_is_read_once_and_another_is_not_taken_for_it(peer: Peer) -> None:
    peer.ask(1, a="1")  # into the table
    first = peer.ask(3, a="1")[0]
    again = peer.ask(5, a="1")[0]
    other = peer.ask(7, a="2")[0]
    after = peer.ask(9, a="1")[0]
    assert isinstance(first, RequestCame)
    assert isinstance(again, RequestCame)
    assert isinstance(other, RequestCame)
    assert isinstance(after, RequestCame)
    assert again.head is first.head
    assert (first.head.get(b"a"), other.head.get(b"a"), after.head.get(b"a")) == (b"1", b"2", b"1")


def test_an_answer_waits_for_the_stream_s_window_and_says_when_all_is_taken(peer: Peer) -> None:
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 10),)))
    peer.ask(1, is_end=True)
    peer.said()
    peer.core.head(1, HEAD)
    assert peer.core.body(1, b"0123456789abcde")
    peer.core.finish(1, END)
    assert [f.body for f in peer.said() if f.kind == frames.DATA] == [b"0123456789"]
    assert peer.send(window(1, 3)) == []
    assert [f.body for f in peer.said()] == [b"abc"]
    assert peer.send(window(1, 100)) == [AnswerTaken(1)]
    last, trailers = peer.said()
    assert last.body == b"de"
    assert trailers.flags & frames.END_STREAM


def test_an_answer_waits_for_the_connection_s_window_first_come_first_served(peer: Peer) -> None:
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 1 << 20),)))
    for stream_id in (1, 3):
        peer.ask(stream_id, is_end=True)
        peer.core.head(stream_id, HEAD)
        peer.core.body(stream_id, bytes([stream_id]) * 60_000)
    sent = [len(f.body) for f in peer.said() if f.kind == frames.DATA]
    assert sum(sent) == frames.DEFAULT_WINDOW
    peer.send(window(0, 54_465))
    rest = [f for f in peer.said() if f.kind == frames.DATA]
    assert {f.stream_id for f in rest} == {3}
    assert sum(len(f.body) for f in rest) == 54_465


def test_settings_are_acknowledged_before_what_they_let_out(peer: Peer) -> None:
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 0),)))
    peer.ask(1, is_end=True)
    peer.core.head(1, HEAD)
    peer.core.body(1, b"answer")
    peer.said()
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 1),)))
    assert [(f.kind, f.flags, f.body) for f in peer.said()] == [
        (frames.SETTINGS, frames.ACK, b""),
        (frames.DATA, 0, b"a"),
    ]


def test_a_window_below_zero_holds_until_it_is_above(peer: Peer) -> None:
    peer.ask(1, is_end=True)
    peer.core.head(1, HEAD)
    peer.core.body(1, b"x" * 60_000)
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 0),)))
    peer.core.body(1, b"y")
    peer.said()
    peer.send(window(1, 60_000))
    assert not [f for f in peer.said() if f.kind == frames.DATA]
    assert peer.send(window(1, 1)) == [AnswerTaken(1)]


def test_no_frame_is_longer_than_the_peer_takes(peer: Peer) -> None:
    peer.ask(1, is_end=True)
    peer.core.head(1, block_of(((b"long", b"v" * 40_000),)))
    peer.core.body(1, b"x" * 40_000)
    said = peer.said()
    assert max(len(f.body) for f in said) <= frames.LEAST_FRAME_SIZE
    assert [f.kind for f in said[:3]] == [1, 9, 9]
    assert [bool(f.flags & frames.END_HEADERS) for f in said[:3]] == [False, False, True]


def test_used_up_bytes_are_given_back_in_few_frames(peer: Peer) -> None:
    peer.ask(1)
    half = peer.limits.window_bytes // 2
    sent = 0
    while sent < half:
        peer.send(data(1, b"x" * 16_000))
        peer.core.credit(1, 16_000)
        sent += 16_000
    given = [f for f in peer.said() if f.kind == frames.WINDOW_UPDATE]
    assert [(f.stream_id, f.number) for f in given] == [(1, sent)]


def test_data_beyond_the_window_ends_the_stream_and_then_the_connection() -> None:
    peer = Peer(Http2Limits(window_bytes=100, connection_window_bytes=70_000))
    peer.ask(1)
    assert peer.send(data(1, b"x" * 101)) == [GivenUp(1)]
    assert peer.resets() == {1: ErrorCode.FLOW_CONTROL_ERROR}
    peer = Peer(Http2Limits(window_bytes=1 << 20, connection_window_bytes=65_535))
    for stream_id in (1, 3, 5, 7, 9):
        peer.ask(stream_id)
        peer.send(data(stream_id, b"x" * 16_000))
    assert peer.ending() is ErrorCode.FLOW_CONTROL_ERROR


def test_a_stream_counts_until_its_work_has_ended_not_until_it_is_given_up() -> None:
    peer = Peer(Http2Limits(max_streams=2))
    peer.ask(1)
    peer.ask(3)
    assert peer.send(reset(1)) == [GivenUp(1)]
    peer.ask(5)
    assert peer.resets() == {5: ErrorCode.REFUSED_STREAM}
    peer.core.release(1)
    assert isinstance(peer.ask(7)[0], RequestCame)


def test_a_head_that_is_too_large_is_answered_and_the_connection_goes_on(peer: Peer) -> None:
    block = peer.block((*POST, ("x", "v" * 17_000)))
    first, rest = block[:16_000], block[16_000:]
    sent = headers(1, first, is_end=True, is_whole=False)
    sent += frame(frames.CONTINUATION, rest, frames.END_HEADERS, 1)
    assert peer.send(sent) == []
    assert [f.flags & frames.END_STREAM for f in peer.said()] == [frames.END_STREAM]
    assert isinstance(peer.ask(3)[0], RequestCame)


@pytest.mark.parametrize(
    "fields",
    [
        ((":method", "POST"), (":scheme", "http")),
        (*POST, (":path", "/b")),
        (*POST, ("x", "y"), (":late", "z")),
        (*POST, (":unknown", "z")),
        (*POST, ("Upper", "z")),
        (*POST, ("a b", "z")),
        (*POST, ("connection", "close")),
        (*POST, ("te", "gzip")),
        (*POST, ("x", "a\r\nb: c")),
        (*POST, ("content-length", "-1")),
        (*POST, ("content-length", "1"), ("content-length", "2")),
        (*POST, ("content-length", "9" * 5000)),
    ],
    ids=str,
)
def test_a_malformed_head_ends_its_stream_alone(
    peer: Peer, fields: tuple[tuple[str, str], ...]
) -> None:
    assert peer.send(headers(1, peer.block(fields))) == []
    assert peer.resets() == {1: ErrorCode.PROTOCOL_ERROR}
    assert isinstance(peer.ask(3)[0], RequestCame)


@pytest.mark.parametrize("body", [b"", b"ab", b"abcd"])
def test_a_body_is_as_long_as_its_head_says(peer: Peer, body: bytes) -> None:
    peer.ask(1, content_length="3")
    assert peer.send(data(1, body, is_end=True)) == [GivenUp(1)]
    assert peer.resets() == {1: ErrorCode.PROTOCOL_ERROR}


def test_trailers_end_a_request(peer: Peer) -> None:
    peer.ask(1)
    assert peer.send(headers(1, peer.block((("x", "y"),)), is_end=True)) == [RequestEnded(1)]
    assert peer.send(data(1, b"more")) == [GivenUp(1)]
    assert peer.resets() == {1: ErrorCode.STREAM_CLOSED}


def test_the_end_is_said_twice_so_that_no_request_under_way_is_lost(peer: Peer) -> None:
    peer.core.retire(is_final=False)
    goaway, ping = peer.said()
    assert goaway.number == frames.MOST_WINDOW
    assert isinstance(peer.ask(1)[0], RequestCame)  # was on its way
    assert peer.send(frame(frames.PING, ping.body, frames.ACK)) == [GoodbyeHeard()]
    peer.core.retire(is_final=True)
    assert [f.number for f in peer.said()] == [1]
    assert peer.ask(3) == []
    peer.core.reply(1, HEAD, b"answer", END)
    assert kinds(peer) == ["HEADERS", "DATA", "HEADERS", "RST"]


def test_a_stream_whose_peer_takes_nothing_is_cut_short(peer: Peer) -> None:
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 1),)))
    for stream_id in (1, 3):
        peer.ask(stream_id, is_end=True)
        peer.core.head(stream_id, HEAD)
        peer.core.body(stream_id, b"answer")
    peer.now += 20
    peer.send(window(3, 1))
    peer.now += 20
    assert peer.core.reset_stalled(peer.now - 30) == [1]


ANSWERS: tuple[Callable[[ServerCore, int], object], ...] = (
    lambda core, number: core.reply(number, HEAD, b"x" * 100_000, END),
    lambda core, number: core.credit(number, 100),
    lambda core, number: core.release(number),
    lambda core, number: core.reset(number, ErrorCode.CANCEL),
    lambda _, __: None,
)


def test_random_orders_of_frames_never_raise() -> None:
    for seed in range(300):
        rng, peer = random.Random(seed), Peer()
        for _ in range(60):
            kind, stream_id = rng.randrange(12), rng.choice((0, 1, 2, 3, 5, 7, 2**31 - 1))
            size = rng.choice((0, 1, 4, 5, 6, 8, 9, 12, 100))
            body = rng.choice(
                (
                    rng.randbytes(size),
                    peer.block(),
                    struct.pack(">L", rng.choice((0, 1, 2**31 - 1))),
                )
            )
            peer.send(frame(kind, body, rng.randrange(256), stream_id))
            for number in (1, 3, 5, 7):
                rng.choice(ANSWERS)(peer.core, number)
        cut(b"".join(peer.core.take()))
        assert peer.core.open_streams <= 4
