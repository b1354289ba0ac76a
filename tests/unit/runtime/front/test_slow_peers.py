"""Clients that are slow, or silent, on our own HTTP/2: each has an end, and keeps nobody out."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from serving import models
from serving.fakes import load, serving
from serving.running import WITHIN_S, InThread, running
from skerry_runtime.http2 import frames
from skerry_runtime.http2.errors import ErrorCode
from skerry_runtime.http2.fields import block_of
from unit.runtime.http2.peer import Frame, cut, data, headers

GREETING = frames.PREFACE + frames.settings(())
CALL = block_of(
    (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.product(tmp_path_factory.mktemp("models") / "m.onnx")


@contextmanager
def impatient(model: Path, **settings: object) -> Iterator[InThread]:
    limits = {"read_timeout_s": 1.0, "min_rate_bytes": 1024, **settings}
    with running(grpc_server="http2", **limits) as server:
        server.registry.switch(serving(load(model)))
        yield server


@contextmanager
def peer(server: InThread, *says: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.ports.grpc), WITHIN_S) as connection:
        connection.sendall(b"".join(says))
        yield connection


def heard(connection: socket.socket) -> list[Frame]:
    """All that the server says until it ends the connection."""
    seen = b""
    try:
        while piece := connection.recv(1 << 16):
            seen += piece
    except ConnectionError:
        pass
    return cut(seen)


def is_served(server: InThread) -> bool:
    with grpc.insecure_channel(server.grpc) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        return bool(live(b"", timeout=WITHIN_S, wait_for_ready=True))


@pytest.mark.parametrize(
    "says",
    [
        b"",
        frames.PREFACE[:10],
        frames.PREFACE,
        GREETING + headers(1, CALL[:20], is_whole=False),
    ],
    ids=["nothing", "half a preface", "no settings", "half a head"],
)
def test_what_is_begun_and_does_not_come_is_ended(model: Path, says: bytes) -> None:
    with impatient(model) as server, peer(server, says) as connection:
        last = heard(connection)[-1]
        assert last.kind == frames.GOAWAY
        assert is_served(server)


def test_a_message_that_drips_ends_its_call_alone(model: Path) -> None:
    asks = headers(1, CALL) + data(1, b"\0\0\0\x10\0") + data(1, b"x")
    with impatient(model) as server, peer(server, GREETING, asks) as connection:
        seen, stream_ended = b"", False
        while not stream_ended:
            seen += connection.recv(1 << 16)
            resets = [f for f in cut(seen) if f.kind == frames.RST_STREAM] if whole(seen) else []
            stream_ended = bool(resets)
        assert resets[0].number == ErrorCode.NO_ERROR
        assert b"too slowly" in seen
        connection.sendall(frames.ping(b"12345678"))
        assert frames.ping_ack(b"12345678") in receive(connection, frames.ping_ack(b"12345678"))


def whole(seen: bytes) -> bool:
    """Whether no frame is cut off at the end."""
    while len(seen) >= frames.HEAD_BYTES:
        high, low, *_ = frames.unpack_head(seen)
        end = frames.HEAD_BYTES + (high << 16 | low)
        if end > len(seen):
            return False
        seen = seen[end:]
    return not seen


def receive(connection: socket.socket, until: bytes) -> bytes:
    seen = b""
    while until not in seen:
        piece = connection.recv(1 << 16)
        assert piece, seen
        seen += piece
    return seen


def test_messages_that_wait_for_their_end_count_all_calls_together(model: Path) -> None:
    size = 400_000
    message = b"\0" + size.to_bytes(4, "big") + bytes(size)
    pieces = [message[at : at + 16_000] for at in range(0, len(message), 16_000)]
    asks = [headers(n, CALL) + b"".join(data(n, piece) for piece in pieces) for n in (1, 3, 5)]
    limits = {"max_body_bytes": 500_000, "max_buffered_bytes": 1_000_000, "read_timeout_s": 30.0}
    with impatient(model, **limits) as server, peer(server, GREETING, *asks) as connection:
        seen = receive(connection, b"grpc-status\x018")  # RESOURCE_EXHAUSTED
        refused = {f.stream_id for f in cut(seen) if f.kind == frames.RST_STREAM}
        assert refused <= {5}
        assert is_served(server)


def test_a_frame_that_drips_ends_the_connection_where_nothing_else_goes_on(model: Path) -> None:
    with impatient(model) as server, peer(server, GREETING) as connection:
        connection.settimeout(0.02)
        said, deadline = b"", time.monotonic() + WITHIN_S
        for byte in headers(1, CALL * 20):
            assert time.monotonic() < deadline
            try:
                connection.sendall(bytes((byte,)))
                said += connection.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if b"too slowly" in said:
                break
        assert b"too slowly" in said


def test_a_connection_without_calls_is_ended_in_time_and_told(model: Path) -> None:
    with impatient(model, keep_alive_s=0.3) as server, peer(server, GREETING) as connection:
        last = heard(connection)[-1]
        assert (last.kind, last.body[4:8]) == (frames.GOAWAY, bytes(4))


def test_a_peer_that_reads_nothing_is_ended_while_others_are_served(model: Path) -> None:
    with impatient(model) as server, peer(server, GREETING) as deaf:
        deaf.settimeout(0.2)
        deadline, is_over = time.monotonic() + WITHIN_S, False
        pings = frames.ping(b"12345678") * 20
        while not is_over:
            assert time.monotonic() < deadline
            try:
                deaf.sendall(pings)
            except TimeoutError:
                assert is_served(server)
            except ConnectionError:
                is_over = True
        assert is_served(server)


def test_idle_connections_make_room(model: Path) -> None:
    with impatient(model, max_connections=3, read_timeout_s=30) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.ports.grpc)) for _ in range(10)]
        for connection in crowd:
            connection.sendall(GREETING)
            connection.settimeout(WITHIN_S)
        assert is_served(server)
        for connection in crowd:
            connection.close()


def test_another_protocol_is_told_which_is_spoken_here(model: Path) -> None:
    with impatient(model) as server, peer(server, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") as old:
        last = heard(old)[-1]
        assert last.kind == frames.GOAWAY
        assert b"this port speaks HTTP/2" in last.body
