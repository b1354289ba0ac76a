"""HTTP's requests and answers as values; no socket."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import orjson

Buffer = bytes | bytearray | memoryview

JSON = b"content-type: application/json\r\n"
"""Headers are whole lines, as they go out: most are the same for every answer."""

HEAD_LENGTH = b"inference-header-content-length"
"""Header of the binary tensor extension: length of the JSON in front of the raw data."""

JOINED_BYTES = 16 * 1024
"""Answers up to this size go out as one piece; copying them costs less than a second piece."""

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_KEEP = b"\r\n\r\n"
_KEEP_ANNOUNCED = b"\r\nconnection: keep-alive\r\n\r\n"
_CLOSE = b"\r\nconnection: close\r\n\r\n"


@dataclass(slots=True)
class Request:
    """A request; the body is empty until all of it has come."""

    method: str
    target: bytes
    """Path and query as they were sent."""
    headers: dict[bytes, bytes]
    """By lower-case name; of a repeated one the last."""
    body: Buffer = b""
    received: float = 0.0
    """Monotonic seconds at which the body was complete."""


@dataclass(slots=True)
class Reply:
    """A whole answer: the body is `body`, then `blobs`."""

    status: int
    body: bytes = b""
    headers: bytes = b""
    blobs: Sequence[Buffer] = ()


Answer = Reply | Coroutine[Any, Any, Reply]
"""An answer that is at hand, or one to wait for."""

Handler = Callable[[Request], Answer]
"""Answers a complete request; what it raises becomes the answer."""


class App(Protocol):
    """What a port serves."""

    def open(self, request: Request) -> Handler:
        """Return what will answer, seen from the head alone; the body has not been read.

        Raises:
            HttpError, ServingError: the request is refused, and its body not read.
        """
        ...

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        ...


def json_reply(value: object, status: int = 200, headers: bytes = b"") -> Reply:
    """Return a JSON answer; arrays in `value` are encoded without a detour over lists."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Reply(status, body, JSON + headers)


def encode(
    reply: Reply, *, keep: bool, is_head: bool = False, announces: bool = False
) -> list[Buffer]:
    """Return the answer's bytes, in few pieces and without copying large ones.

    Args:
        reply: the answer.
        keep: the connection takes another request afterwards.
        is_head: answer to HEAD, so without its body.
        announces: say that the connection is kept: who speaks HTTP/1.0 expects its end otherwise.
    """
    length = len(reply.body)
    for blob in reply.blobs:
        length += len(blob)
    end = (_KEEP_ANNOUNCED if announces else _KEEP) if keep else _CLOSE
    head = b"%scontent-length: %d%s" % (_STATUS_LINES[reply.status] + reply.headers, length, end)
    if is_head:
        return [head]
    if length <= JOINED_BYTES:
        return [b"".join((head, reply.body, *reply.blobs))]
    return [head + reply.body, *reply.blobs]
