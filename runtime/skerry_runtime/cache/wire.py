"""As much HTTP/1.1 as the cache speaks: one request a connection, bounded, with an end.

A head that is no request is answered with 400, whatever else is wrong with it. No body is read
here: only the files that are put have one.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_HEAD_BYTES = 8 * 1024
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,512}) HTTP/1\.[01]")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_PUT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_NUMBER = re.compile(r"\d{1,18}")
_REASONS: Mapping[int, str] = {
    200: "OK",
    201: "Created",
    206: "Partial Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class CacheReply(Exception):  # noqa: N818 (what the client is told)
    """Ends a request with an answer."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class RequestHead:
    """The head of a request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def length(self) -> int:
        """Return the size of the body.

        Raises:
            CacheReply: it is not told, or no number.
        """
        if "transfer-encoding" in self.headers:
            raise CacheReply(411, "send Content-Length")
        text = self.headers.get("content-length", "")
        if not _NUMBER.fullmatch(text):
            raise CacheReply(411, "send Content-Length")
        return int(text)

    def put_offset(self, length: int) -> tuple[int, int]:
        """Return where a body of `length` bytes belongs, and how large the file will be.

        Raises:
            CacheReply: the head does not say it, or says two things.
        """
        text = self.headers.get("content-range")
        if text is None:
            return 0, length
        found = _PUT_RANGE.fullmatch(text)
        if not found:
            raise CacheReply(400, "write Content-Range: bytes FIRST-LAST/TOTAL")
        first, last, total = (int(part) for part in found.groups())
        if last - first + 1 != length or last + 1 != total:
            raise CacheReply(
                400, "Content-Range must end with the file, and agree with Content-Length"
            )
        return first, total

    def range(self, total: int) -> tuple[int, int] | None:
        """Return the first byte that is asked for and the one behind the last; None: all.

        Raises:
            CacheReply: there is no such byte.
        """
        text = self.headers.get("range")
        if text is None or not (found := _RANGE.fullmatch(text)):
            return None  # RFC 9110: a range that is not understood is ignored
        first = int(found[1])
        end = min(int(found[2]) + 1, total) if found[2] else total
        if first >= total or end <= first:
            raise CacheReply(416, "no such bytes", {"Content-Range": f"bytes */{total}"})
        return first, end


async def read_request(reader: asyncio.StreamReader) -> RequestHead:
    """Read a head.

    Raises:
        CacheReply: it is none, or too large.
        ConnectionError: the client has gone.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as err:
        raise CacheReply(431, f"the head is larger than {MAX_HEAD_BYTES} bytes") from err
    except asyncio.IncompleteReadError as err:
        raise ConnectionError("the client has gone") from err
    if len(head) > MAX_HEAD_BYTES:
        raise CacheReply(431, f"the head is larger than {MAX_HEAD_BYTES} bytes")
    return parse(head)


def parse(head: bytes) -> RequestHead:
    """Return the request of a head.

    Raises:
        CacheReply: it is none.
    """
    first, *lines = head[:-4].split(b"\r\n")
    found = _LINE.fullmatch(first.decode("latin-1"))
    if not found:
        raise CacheReply(400, "no HTTP/1.1 request")
    path, _, query = found[2].partition("?")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        key = name.decode("latin-1").lower()
        if not colon or not _TOKEN.fullmatch(name) or key in headers:
            raise CacheReply(400, "a header that is none, or comes twice")
        headers[key] = value.decode("latin-1").strip(" \t")
    return RequestHead(found[1], path, query, headers)


def head_of(status: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of an answer."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Length: {length}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def document(status: int, content: Mapping[str, Any]) -> bytes:
    """Return an answer with a JSON document."""
    body = json.dumps(content).encode()
    return head_of(status, len(body), {"Content-Type": "application/json"}) + body


def refusal(answer: CacheReply) -> bytes:
    """Return an answer that says what is wrong."""
    body = f"{answer}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", **answer.headers}
    return head_of(answer.status, len(body), headers) + body
