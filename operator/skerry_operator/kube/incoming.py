"""Reads lists and watches as they come in, object by object, and cuts the large ones down. Pure.

A page of a list can hold hundreds of objects of 1.5 MB: read whole, as text and then as objects,
it takes several times that. Here no more than the largest object is held beside what is kept.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from skerry_operator.kube.raw import Raw
from skerry_operator.kube.slim import LARGE, slim

OBJECT_LIMIT = 16 * 1024 * 1024
"""Longest text of one object: far above what a datastore of Kubernetes takes."""

_ITEMS = '"items":['
_TRIM = 256 * 1024
"""How much text that was read may stand before what is still to be read."""
_GROWTH = 1.5
"""An object that is not whole is tried again when its text has grown so much: so that a large
one, which comes in many pieces, is not read once for each of them."""


class TooLong(ValueError):  # noqa: N818 (it says what is wrong)
    """An answer that is no list of objects of Kubernetes, or one with an impossibly long object."""


class ListReader:
    """A list of one kind. `feed` takes bytes as they come; `result` is the list, cut down."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._head: str | None = None
        self._is_ended = False
        self._wanted = 0.0
        self._items: list[Raw] = []

    def feed(self, data: bytes) -> Iterator[bool]:
        """Take bytes. Yields after every object, so that the caller can let others run.

        Raises:
            TooLong: this is no list.
        """
        self._text += self._utf8.decode(data)
        if self._head is None:
            self._find_items()
        while self._head is not None and not self._is_ended and self._read_one():
            yield True
        if self._at > _TRIM:
            self._text, self._at = self._text[self._at :], 0
        if len(self._text) - self._at > OBJECT_LIMIT:
            raise TooLong(f"an object of more than {OBJECT_LIMIT} characters")

    def hurry(self) -> None:
        """Say that no more bytes come: what is there is whole."""
        self._wanted = 0.0

    def result(self) -> Raw:
        """Return the list.

        Raises:
            ValueError: it did not come to its end.
        """
        if self._head is None:
            whole: Raw = json.loads(self._text)
            return whole
        if not self._is_ended:
            raise TooLong("the list breaks off")
        answer: Raw = json.loads(f"{self._head}{_ITEMS}]{self._text[self._at :]}")
        return {**answer, "items": self._items}

    def _find_items(self) -> None:
        start = self._text.find(_ITEMS)
        if start >= 0:
            self._head, self._at = self._text[:start], start + len(_ITEMS)

    def _read_one(self) -> bool:
        """Read the next object, or the end; return whether there was one."""
        while self._text[self._at : self._at + 1] in {",", " ", "\n"}:
            self._at += 1
        if self._text[self._at : self._at + 1] == "]":
            self._at += 1
            self._is_ended = True
            return False
        if len(self._text) - self._at < self._wanted:
            return False
        try:
            item, end = self._decode(self._text, self._at)
        except ValueError:  # not whole yet
            self._wanted = _GROWTH * (len(self._text) - self._at)
            return False
        self._items.append(slim(self._kind, item) if end - self._at > LARGE else item)
        self._at, self._wanted = end, 0.0
        return True


class LineReader:
    """The lines of a watch, each an event; those of large objects are cut down."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; yield the lines that are whole.

        Raises:
            TooLong: a line does not end.
        """
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > OBJECT_LIMIT:
                raise TooLong(f"an event of more than {OBJECT_LIMIT} bytes")
            return
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            yield bytes(self._cut(line)) + b"\n"

    def _cut(self, line: bytearray) -> bytes | bytearray:
        if len(line) <= LARGE:
            return line
        event: dict[str, Any] = json.loads(line)
        if event.get("type") == "ERROR":
            return line
        return json.dumps({**event, "object": slim(self._kind, event["object"])}).encode()
