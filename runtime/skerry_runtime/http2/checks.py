"""Checks of frames that need nothing but the frame (RFC 9113, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from skerry_runtime.http2 import frames
from skerry_runtime.http2.errors import BrokenConnection, BrokenStream, ErrorCode
from skerry_runtime.http2.fields import Field
from skerry_runtime.http2.heads import Malformed, check_fields

STREAM_ID = 0x7FFF_FFFF
"""The bits of a number that name a stream."""
PRIORITY_BYTES = 5


def other_length(stream_id: int) -> BrokenStream:
    """Return the end of a stream whose body is not as long as its head says."""
    text = "the body is not as long as content-length says"
    return BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, text)


def without_padding(flags: int, payload: memoryview) -> memoryview:
    """Return what a payload holds besides its padding.

    Raises:
        BrokenConnection: the padding is longer than its frame.
    """
    if not flags & frames.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def check_dependency(stream_id: int, payload: memoryview) -> None:
    """Raise BrokenStream where a stream depends on itself; priorities are not heeded else."""
    if frames.unpack_number(payload)[0] & STREAM_ID == stream_id:
        raise BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")


def check_trailers(stream_id: int, trailers: Sequence[Field]) -> None:
    """Raise BrokenStream where a field may not stand behind a body."""
    try:
        check_fields(trailers)
    except Malformed as err:
        raise BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, str(err)) from err


def check_setting(name: int, value: int) -> None:
    """Raise BrokenConnection for a setting that is out of its range."""
    if name == frames.ENABLE_PUSH and value > 1:
        raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
    if name == frames.INITIAL_WINDOW_SIZE and value > frames.MOST_WINDOW:
        raise BrokenConnection(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
    is_size = frames.LEAST_FRAME_SIZE <= value <= frames.MOST_FRAME_SIZE
    if name == frames.MAX_FRAME_SIZE and not is_size:
        raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")


def require_connection(stream_id: int) -> None:
    """Raise BrokenConnection unless a frame is of the connection itself."""
    if stream_id:
        raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream")


def require_size(payload: memoryview, size: int) -> None:
    """Raise BrokenConnection unless a payload has the size of its type."""
    if len(payload) != size:
        raise BrokenConnection(ErrorCode.FRAME_SIZE_ERROR, "a frame has not the size of its type")
