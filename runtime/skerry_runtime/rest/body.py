"""Reads request bodies within bounds: one body's size, all bodies' memory, time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from skerry_runtime.rest.asgi import Receive
from skerry_runtime.rest.statuses import HttpError

WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
"""Content encodings that are taken, and zlib's parameter for each."""


class ClientGone(Exception):  # noqa: N818 (an event, no error)
    """The client left before its request was complete."""


class BodyReader:
    """Reads bodies of one server. Lives on one event loop."""

    def __init__(self, max_bytes: int, max_buffered_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._timeout_s = timeout_s
        self._buffered_bytes = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the body, decompressed. The caller gives its length back to `release`.

        Raises:
            ClientGone: nobody waits for an answer any more.
            HttpError: too large, too slow, too many at once, or encoded in an unknown way.
        """
        self._check_declared(headers)
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._collect(receive)
        except TimeoutError as error:
            raise HttpError.unread(408, "the body came too slowly") from error
        encoding = headers.get(b"content-encoding", b"identity").lower()
        return body if encoding == b"identity" else await self._decompressed(body, encoding)

    def release(self, length: int) -> None:
        """Note that a body of so many bytes is no longer held."""
        self._buffered_bytes -= length

    def _check_declared(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse by the headers alone what would be refused after reading."""
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:
            raise self._too_large()
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity" and encoding not in WINDOW_BITS:
            raise HttpError.unread(415, "content-encoding must be gzip, deflate or identity")

    async def _collect(self, receive: Receive) -> bytes:
        """Read all chunks; what was held is released when the reading fails."""
        chunks: list[bytes] = []
        length, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
                length += len(chunk)
                self._hold(len(chunk))
                chunks.append(chunk)
                if length > self._max_bytes:
                    raise self._too_large()
        except BaseException:
            self.release(length)
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, length: int) -> None:
        self._buffered_bytes += length
        if self._buffered_bytes > self._max_buffered_bytes:
            raise HttpError.unread(429, "too many requests are being read")

    async def _decompressed(self, body: bytes, encoding: bytes) -> bytes:
        """Decompress in a thread, for zlib drops the GIL; never more than the limit."""
        try:
            plain = await asyncio.to_thread(inflate, body, encoding, self._max_bytes)
        except BaseException as error:
            self.release(len(body))
            if isinstance(error, ValueError):
                raise HttpError(400, str(error)) from error
            raise
        if plain is None:
            self.release(len(body))
            raise self._too_large()
        self.release(len(body) - len(plain))
        return plain

    def _too_large(self) -> HttpError:
        return HttpError.unread(413, f"the body is larger than {self._max_bytes} bytes")


def inflate(body: bytes, encoding: bytes, max_bytes: int) -> bytes | None:
    """Return the decompressed body, or None when it is larger than `max_bytes`.

    Raises:
        ValueError: the body is not what the encoding says, or is cut short.
    """
    stream = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"the body is not valid {encoding.decode()}") from error
    if len(plain) > max_bytes:
        return None
    if not stream.eof:
        raise ValueError(f"the {encoding.decode()} body is cut short")
    return plain
