"""Request bodies within bounds: the size of one, the memory of all, and decompression."""

from __future__ import annotations

import zlib

import numpy as np

from skerry_runtime.protocol.tensors import view
from skerry_runtime.rest.http import Buffer
from skerry_runtime.rest.statuses import RETRY_AFTER, HttpError

WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
"""Content encodings that are taken, and zlib's parameter for each."""

ALIGNMENT = 16
"""Of the first tensor behind a body's JSON head: engines read it where it lies."""


class BodyBudget:
    """Counts the bytes of all bodies of one server. Lives on one event loop."""

    def __init__(self, max_body_bytes: int, max_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._max_bytes = max_bytes
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    def check_length(self, length: int) -> None:
        """Raise HttpError when one body would be as long as this and may not be."""
        if length > self.max_body_bytes:
            raise HttpError(413, f"the body is larger than {self.max_body_bytes} bytes")

    def hold(self, length: int) -> None:
        """Note that so many more bytes are held; give them back with `release`.

        Raises:
            HttpError: too many at once, and none of these was noted.
        """
        if self._held + length > self._max_bytes:
            raise HttpError(429, "too many requests are being read", RETRY_AFTER)
        self._held += length

    def release(self, length: int) -> None:
        """Note that so many bytes are no longer held."""
        self._held -= length


class SizedBody:
    """A body of a declared length: the socket writes into it, and tensors point into it.

    Memory is asked for at once, but the system gives it page by page as data arrives.
    """

    def __init__(self, length: int, head_length: int) -> None:
        offset = -head_length % ALIGNMENT
        self._view = view(np.empty(length + offset, np.uint8))[offset:]
        self._filled = 0

    @property
    def missing(self) -> int:
        """Bytes that have not come yet."""
        return len(self._view) - self._filled

    @property
    def rest(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._filled :]

    @property
    def whole(self) -> memoryview:
        """The complete body."""
        return self._view

    def put(self, data: memoryview) -> int:
        """Write what belongs here into `rest`; return how much that was."""
        count = min(len(data), self.missing)
        self._view[self._filled : self._filled + count] = data[:count]
        return count

    def grow(self, count: int) -> None:
        """Note that so many bytes were written into `rest`."""
        self._filled += count


def inflate(body: Buffer, encoding: bytes, max_bytes: int) -> bytes | None:
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
