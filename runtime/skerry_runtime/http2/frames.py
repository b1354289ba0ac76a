"""Frames as bytes (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from skerry_runtime.http2.errors import ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Types and flags are plain numbers: an enum's members cost more to compare.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)

END_STREAM, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x4, 0x8, 0x20
ACK = 0x1

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

HEAD_BYTES = 9
LEAST_FRAME_SIZE, MOST_FRAME_SIZE = 1 << 14, (1 << 24) - 1
MOST_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = (1 << 16) - 1

_HEAD = Struct(">BHBBL")
_SETTING = Struct(">HL")
_NUMBER = Struct(">L")
_TWO_NUMBERS = Struct(">LL")

unpack_head = _HEAD.unpack_from
unpack_setting = _SETTING.iter_unpack
unpack_number = _NUMBER.unpack_from
unpack_two_numbers = _TWO_NUMBERS.unpack_from


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the nine bytes in front of a payload."""
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    body = b"".join(_SETTING.pack(*value) for value in values)
    return head(len(body), SETTINGS, 0, 0) + body


SETTINGS_ACK = head(0, SETTINGS, ACK, 0)


def ping_ack(body: bytes) -> bytes:
    """Return the answer to a PING."""
    return head(8, PING, ACK, 0) + body


GOODBYE = b"good-bye"
"""Of the PING behind a GOAWAY: its answer tells that the peer has read that."""


def ping(body: bytes) -> bytes:
    """Return a PING of eight bytes."""
    return head(8, PING, 0, 0) + body


def window_update(stream_id: int, count: int) -> bytes:
    """Return a WINDOW_UPDATE; stream 0 is the connection."""
    return head(4, WINDOW_UPDATE, 0, stream_id) + _NUMBER.pack(count)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM."""
    return head(4, RST_STREAM, 0, stream_id) + _NUMBER.pack(code)


def goaway(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Return a GOAWAY; the text is for whoever debugs the peer."""
    body = _TWO_NUMBERS.pack(last_stream_id, code) + text.encode()[:256]
    return head(len(body), GOAWAY, 0, 0) + body
