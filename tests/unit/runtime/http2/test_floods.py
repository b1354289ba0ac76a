"""Peers that are a burden: each kind of frame that is free for them ends at a bound.

After the attacks that servers met: rapid reset (CVE-2023-44487), resets that the server is made to
send (CVE-2025-8671), CONTINUATION without an end (CVE-2024-27316), and floods of SETTINGS, PING,
PRIORITY, empty DATA and unknown frames (CVE-2019-9511 to 9518).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from skerry_runtime.http2 import frames
from skerry_runtime.http2.errors import ErrorCode
from skerry_runtime.http2.fields import block_of
from skerry_runtime.http2.limits import Http2Limits
from unit.runtime.http2.peer import Peer, data, frame, headers, reset, window

MANY = 3000
CALM = ErrorCode.ENHANCE_YOUR_CALM
HEAD, END = block_of(((b":status", b"200"),)), block_of(((b"grpc-status", b"0"),))

Sent = Callable[[Peer, int], bytes]
"""What is sent for the n-th time."""


def rapid_reset(peer: Peer, n: int) -> bytes:
    return headers(2 * n + 1, peer.block()) + reset(2 * n + 1)


def made_to_reset(peer: Peer, n: int) -> bytes:
    return headers(2 * n + 1, peer.block()) + window(2 * n + 1, 0)


def made_to_reset_by_priority(peer: Peer, n: int) -> bytes:
    return frame(frames.PRIORITY, struct.pack(">LB", 1, 0), 0, 1)


def malformed(peer: Peer, n: int) -> bytes:
    return headers(2 * n + 1, peer.block(((":method", "POST"),)))


FLOODS: dict[str, Sent] = {
    "rapid reset": rapid_reset,
    "resets by the server, by windows": made_to_reset,
    "resets by the server, by priorities": made_to_reset_by_priority,
    "heads that are none": malformed,
    "settings": lambda _, __: frames.settings(()),
    "settings that move every window": lambda _, n: frames.settings(((4, n), (4, n + 1))),
    "acknowledged settings": lambda _, __: frames.SETTINGS_ACK,
    "pings": lambda _, n: frames.ping(struct.pack(">Q", n)),
    "acknowledged pings": lambda _, n: frames.ping_ack(struct.pack(">Q", n)),
    "priorities": lambda _, n: frame(frames.PRIORITY, b"\0\0\0\0\0", 0, 2 * n + 1),
    "windows": lambda _, __: window(0, 1),
    "unknown frames": lambda _, __: frame(0x55, b"?"),
    "goodbyes": lambda _, __: frames.goaway(0, ErrorCode.NO_ERROR),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_ends_the_connection(flood: Sent) -> None:
    peer = Peer()
    for n in range(MANY):
        for event in peer.send(flood(peer, n)):
            peer.core.release(event.stream_id)  # type: ignore[union-attr] # its work ends at once
        if peer.core.is_over:
            break
    assert peer.ending() is CALM


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_the_same_frames_now_and_then_are_no_flood(flood: Sent) -> None:
    peer = Peer()
    for n in range(MANY):
        peer.now += 0.1
        for event in peer.send(flood(peer, n)):
            peer.core.release(event.stream_id)  # type: ignore[union-attr]
        peer.core.take()
    assert not peer.core.is_over


def test_empty_data_is_a_flood_and_data_is_not() -> None:
    peer = Peer()
    peer.ask(1)
    for _ in range(MANY):
        peer.send(data(1, b"x"))
    assert not peer.core.is_over
    for _ in range(MANY):
        peer.send(data(1, b""))
    assert peer.ending() is CALM


def test_a_peer_that_takes_an_answer_byte_by_byte_is_sent_away() -> None:
    peer = Peer()
    peer.send(frames.settings(((frames.INITIAL_WINDOW_SIZE, 0),)))
    peer.ask(1, is_end=True)
    peer.core.head(1, HEAD)
    peer.core.body(1, b"x" * 100_000)
    for _ in range(MANY):
        peer.send(window(1, 1))
    assert peer.ending() is CALM


def test_a_client_that_works_may_ping_and_widen_as_real_ones_do() -> None:
    peer = Peer()
    for n in range(MANY):
        stream_id = 2 * n + 1
        peer.send(
            headers(stream_id, peer.block()),
            data(stream_id, b"question", is_end=True),
            window(0, 50),
            frames.ping(b"bandwith"),
        )
        peer.core.reply(stream_id, HEAD, b"x" * 50, END)
        peer.core.take()
    assert not peer.core.is_over


def test_a_large_answer_may_be_taken_in_windows_of_a_few_kilobytes() -> None:
    peer = Peer()
    peer.ask(1, is_end=True)
    peer.core.head(1, HEAD)
    peer.core.body(1, b"x" * 20_000_000)
    taken = 0
    for _ in range(20_000):
        sent = sum(len(f.body) for f in peer.said() if f.kind == frames.DATA)
        taken += sent
        if not sent:
            break
        peer.send(window(0, sent), window(1, sent))
    assert taken == 20_000_000
    assert not peer.core.is_over


@pytest.mark.parametrize("fragment", [b"", b"\x00\x01a\x01b" * 200], ids=["empty", "full"])
def test_a_header_block_without_an_end_has_one(fragment: bytes) -> None:
    peer = Peer()
    peer.send(headers(1, peer.block(), is_whole=False))
    for _ in range(200):
        peer.send(frame(frames.CONTINUATION, fragment, 0, 1))
    assert peer.ending() is CALM


def test_frames_for_streams_that_are_gone_are_borne_for_a_while() -> None:
    peer = Peer(Http2Limits(max_streams=10_000))
    for n in range(300):
        peer.ask(2 * n + 1)
        peer.core.reset(2 * n + 1, ErrorCode.CANCEL)
        peer.core.release(2 * n + 1)
    for n in range(300):
        peer.send(data(2 * n + 1, b"late"))
    assert not peer.core.is_over
    for _ in range(MANY):
        peer.send(data(1, b"late"))
    assert peer.ending() is CALM


def test_what_a_connection_remembers_stays_small() -> None:
    peer = Peer()
    for n in range(20_000):
        peer.now += 1
        peer.ask(2 * n + 1, is_end=True, unique=str(n))
        peer.core.reply(2 * n + 1, HEAD, b"x", END)
        peer.core.take()
    assert peer.core.open_streams == 0
    core = peer.core
    heads, books = core._heads, core._books
    kept = (heads._kept, heads._fields._texts, books._gone, books._cut_short)
    assert max(map(len, kept)) <= 1024
