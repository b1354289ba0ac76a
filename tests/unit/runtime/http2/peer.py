"""A client of the core, as bytes: frames written by hand, and what comes back read again."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import hpack

from skerry_runtime.http2 import frames
from skerry_runtime.http2.connection import ServerCore
from skerry_runtime.http2.errors import ErrorCode
from skerry_runtime.http2.events import Event
from skerry_runtime.http2.limits import Http2Limits

POST = ((":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "here"))


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    body: bytes

    @property
    def number(self) -> int:
        """The 32-bit number at its front."""
        return int.from_bytes(self.body[:4], "big")


def cut(data: bytes) -> list[Frame]:
    found = []
    while data:
        high, low, kind, flags, stream_id = frames.unpack_head(data)
        end = frames.HEAD_BYTES + (high << 16 | low)
        found.append(Frame(kind, flags, stream_id, data[frames.HEAD_BYTES : end]))
        data = data[end:]
    return found


@dataclass
class Peer:
    """A client that has greeted the server, and a clock that only tests turn."""

    limits: Http2Limits = field(default_factory=Http2Limits)
    now: float = 1000.0
    core: ServerCore = field(init=False)
    encoder: hpack.Encoder = field(default_factory=hpack.Encoder)

    def __post_init__(self) -> None:
        self.core = ServerCore(self.limits, lambda: self.now)
        self.send(frames.PREFACE, frames.settings(()))
        self.said()

    def send(self, *data: bytes) -> list[Event]:
        return self.core.receive(b"".join(data))

    def said(self) -> list[Frame]:
        """What the server has said since it was asked last."""
        return cut(b"".join(self.core.take()))

    def block(self, fields: Iterable[tuple[str, str]] = POST) -> bytes:
        return self.encoder.encode(list(fields))

    def ask(self, stream_id: int, *, is_end: bool = False, **more: str) -> list[Event]:
        fields = (*POST, *((name.replace("_", "-"), value) for name, value in more.items()))
        return self.send(headers(stream_id, self.block(fields), is_end=is_end))

    def ending(self) -> ErrorCode | None:
        """The code with which the server ended the connection."""
        codes = [frame.body[4:8] for frame in self.said() if frame.kind == frames.GOAWAY]
        return ErrorCode(int.from_bytes(codes[-1], "big")) if codes else None

    def resets(self) -> dict[int, ErrorCode]:
        """Stream -> the code with which the server cut it short."""
        resets = [frame for frame in self.said() if frame.kind == frames.RST_STREAM]
        return {frame.stream_id: ErrorCode(frame.number) for frame in resets}


def frame(kind: int, body: bytes = b"", flags: int = 0, stream_id: int = 0) -> bytes:
    return frames.head(len(body), kind, flags, stream_id) + body


def headers(stream_id: int, block: bytes, *, is_end: bool = False, is_whole: bool = True) -> bytes:
    flags = (frames.END_STREAM if is_end else 0) | (frames.END_HEADERS if is_whole else 0)
    return frame(frames.HEADERS, block, flags, stream_id)


def data(stream_id: int, body: bytes, *, is_end: bool = False) -> bytes:
    return frame(frames.DATA, body, frames.END_STREAM if is_end else 0, stream_id)


def window(stream_id: int, count: int) -> bytes:
    return frame(frames.WINDOW_UPDATE, struct.pack(">L", count), 0, stream_id)


def reset(stream_id: int) -> bytes:
    return frame(frames.RST_STREAM, struct.pack(">L", ErrorCode.CANCEL), 0, stream_id)
