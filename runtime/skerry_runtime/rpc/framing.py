"""gRPC's own framing over HTTP/2, as values: messages, deadlines, statuses.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from struct import Struct
from urllib.parse import quote

import grpc

from skerry_runtime.http2.fields import Field, block_of
from skerry_runtime.rpc.statuses import RefusedCall

PREFIX_BYTES = 5
CONTENT_TYPE = b"application/grpc"

ENCODINGS = {b"gzip": 31, b"deflate": zlib.MAX_WBITS}
"""Name -> zlib's window; `identity` needs none."""
ACCEPTED = b"identity, deflate, gzip"

_prefix = Struct(">BL")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
MAX_TEXT_CHARS = 2048


class MessageReader:
    """Cuts a body into messages; no more is kept than one message may have."""

    def __init__(self, max_bytes: int, encoding: bytes | None) -> None:
        """`encoding`: what grpc-encoding says, if anything."""
        self._max_bytes = max_bytes
        self._encoding = None if encoding == b"identity" else encoding
        self._pieces: list[memoryview | bytes] = []
        self._held = 0
        self._missing = PREFIX_BYTES
        self._prefix = b""

    @property
    def held_bytes(self) -> int:
        """Bytes of a message that is not whole."""
        return self._held

    def feed(self, piece: memoryview) -> list[bytes]:
        """Take a piece; return the messages that it completes.

        Raises:
            RefusedCall: a message is too long, or compressed as nobody said.
        """
        found: list[bytes] = []
        while len(piece) >= self._missing:
            part, piece = piece[: self._missing], piece[self._missing :]
            self._keep(part)
            whole = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            if self._prefix:
                found.append(self._plain(whole))
                self._prefix, self._missing = b"", PREFIX_BYTES
            else:
                self._begin(whole)
        if piece:
            self._keep(piece)
            self._missing -= len(piece)
        return found

    def check_end(self) -> None:
        """Raise RefusedCall where a message has begun and will not end."""
        if self._held or self._prefix:
            raise RefusedCall(grpc.StatusCode.INTERNAL, "the body ends within a message")

    def _keep(self, piece: memoryview) -> None:
        is_most_of_read = 2 * len(piece) > _whole_size(piece)  # else it would keep all of it alive
        self._pieces.append(piece if is_most_of_read else bytes(piece))
        self._held += len(piece)

    def _begin(self, prefix: bytes) -> None:
        flag, length = _prefix.unpack(prefix)
        if flag > 1 or (flag and self._encoding is None):
            text = "a message says that it is compressed, and grpc-encoding does not say how"
            raise RefusedCall(grpc.StatusCode.INTERNAL, text)
        self._check(length)
        self._prefix, self._missing = prefix, length

    def _check(self, length: int) -> None:
        if length > self._max_bytes:
            text = f"a message of {length} bytes: this server takes {self._max_bytes}"
            raise RefusedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def _plain(self, message: bytes) -> bytes:
        if not self._prefix[0]:
            return message
        assert self._encoding is not None  # noqa: S101 (checked when the message began)
        inflate = zlib.decompressobj(ENCODINGS[self._encoding])
        try:
            plain = inflate.decompress(message, self._max_bytes + 1)
        except zlib.error as err:
            name = self._encoding.decode()
            raise RefusedCall(grpc.StatusCode.INTERNAL, f"a message is no {name}") from err
        self._check(len(plain))
        return plain


def _whole_size(view: memoryview) -> int:
    """Return the bytes of what a view looks at."""
    return len(view.obj) if isinstance(view.obj, bytes) else 0


def whole_message(body: memoryview, max_bytes: int) -> bytes | None:
    """Return the one message that a body is, where it is plain and so; None: read it in order."""
    if len(body) < PREFIX_BYTES or body[0]:
        return None
    length = len(body) - PREFIX_BYTES
    if length > max_bytes or _prefix.unpack_from(body)[1] != length:
        return None
    return bytes(body[PREFIX_BYTES:])


def framed(message: bytes) -> bytes:
    """Return a message with its prefix."""
    return _prefix.pack(0, len(message)) + message


def timeout_of(text: bytes) -> float:
    """Return the seconds that grpc-timeout says.

    Raises:
        RefusedCall: it says no time.
    """
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        told = text[:32].decode("latin-1")
        raise RefusedCall(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"grpc-timeout '{told}' is not up to eight digits and one of H, M, S, m, u, n",
        )
    return int(found[1]) * _UNITS_S[found[2]]


def check_encoding(encoding: bytes | None) -> None:
    """Raise RefusedCall for messages that are compressed in a way that is not known here."""
    if encoding is not None and encoding not in ENCODINGS and encoding != b"identity":
        told = encoding[:32].decode("latin-1")
        text = f"grpc-encoding '{told}' is not known here: use {ACCEPTED.decode()}"
        raise RefusedCall(grpc.StatusCode.UNIMPLEMENTED, text)


_HEAD_FIELDS: tuple[Field, ...] = (
    (b":status", b"200"),
    (b"content-type", CONTENT_TYPE),
    (b"grpc-accept-encoding", ACCEPTED),
)
HEAD = block_of(_HEAD_FIELDS)
"""Block of every answer's head."""
OK = block_of(((b"grpc-status", b"0"),))
"""Block of the trailers of an answer that went well."""


def trailers(
    status: grpc.StatusCode, text: str = "", more: Iterable[Field] = (), *, is_all: bool = False
) -> bytes:
    """Return the block that ends a call; `is_all`: there was no head before it."""
    fields = list(_HEAD_FIELDS) if is_all else []
    fields.append((b"grpc-status", b"%d" % status.value[0]))
    if text:
        fields.append((b"grpc-message", quote(text[:MAX_TEXT_CHARS], safe=_PLAIN).encode()))
    return block_of((*fields, *more))
