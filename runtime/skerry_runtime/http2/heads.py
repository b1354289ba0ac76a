"""Heads of requests: fields that were checked (RFC 9113, section 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skerry_runtime.http2.fields import Field

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUES = re.compile(rb"[\x00\r\n]")
_OF_CONNECTIONS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_NEEDED = (b":method", b":scheme", b":path")
_MAX_LENGTH_DIGITS = 19


class Malformed(ValueError):  # noqa: N818 (says what the head is)
    """The fields are no head of a request."""


@dataclass(frozen=True, slots=True)
class CheckedHead:
    """A checked head; the same block may share it with later requests."""

    method: bytes
    path: bytes
    fields: Mapping[bytes, bytes]
    """The last value of each lower-case name, without those of the pseudo-header."""
    length: int | None
    """Declared length of the body."""

    def get(self, name: bytes) -> bytes | None:
        """Return the last value of a field."""
        return self.fields.get(name)


def head_of(fields: Sequence[Field]) -> CheckedHead:
    """Return the head that fields say.

    Raises:
        Malformed: they are none; nothing of them may be believed.
    """
    pseudo = _pseudo(fields)
    rest = tuple(fields[len(pseudo) :])
    check_fields(rest)
    if not all(pseudo.get(name) for name in _NEEDED):
        raise Malformed("a request needs :method, :scheme and :path")
    return CheckedHead(pseudo[b":method"], pseudo[b":path"], dict(rest), _length(rest))


def check_fields(fields: Iterable[Field]) -> None:
    """Check fields that are no pseudo-header's: the rest of a head, or trailers.

    Raises:
        Malformed: one may not stand there.
    """
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise Malformed("a field's name may not be this, or not here")
        if name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed("a field speaks of the connection, as HTTP/2 does not")
        if _FORBIDDEN_IN_VALUES.search(value):
            raise Malformed("a field's value holds the end of a line")


def _pseudo(fields: Sequence[Field]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO or name in found or _FORBIDDEN_IN_VALUES.search(value):
            raise Malformed("the pseudo-header says what it may not")
        found[name] = value
    return found


def _length(fields: Iterable[Field]) -> int | None:
    said = {value for name, value in fields if name == b"content-length"}
    if not said:
        return None
    text = said.pop()
    if said or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        raise Malformed("content-length is not one number")
    return int(text)
