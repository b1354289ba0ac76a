"""Reads and writes header blocks (HPACK, RFC 7541).

Reading is bounded while it goes on, not afterwards: a block of a few bytes may stand for megabytes.
Huffman codes and the static table are those of the library hpack; its decoder takes some 2.5 us a
field, which is more than all the rest of a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from skerry_runtime.http2.errors import BrokenConnection, ErrorCode

Field = tuple[bytes, bytes]

TABLE_BYTES = 4096
"""Most that the dynamic table holds; the peer is told no other size."""
FIELD_OVERHEAD = 32
"""What a field counts beside its bytes (section 4.1)."""

KEPT_TEXTS, KEPT_TEXT_BYTES = 64, 64
"""How many Huffman texts of a connection are kept decoded, and of what length at most."""

_STATIC: tuple[Field, ...] = HeaderTable.STATIC_TABLE
_FIRST_DYNAMIC = len(_STATIC) + 1
_MAX_INTEGER_BYTES = 5
_MUCH = 4  # times the fields that are allowed: nobody has so many by mistake

_INDEXED, _INSERTED, _RESIZED = 0x80, 0x40, 0x20
_HUFFMAN = 0x80


def _broken(text: str) -> BrokenConnection:
    return BrokenConnection(ErrorCode.COMPRESSION_ERROR, text)


class FieldReader:
    """The fields of one connection's blocks, in order. A block that fails ends the connection."""

    def __init__(self, max_list_bytes: int, max_fields: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._max_fields = max_fields
        self._table: deque[Field] = deque()  # the newest first
        self._table_bytes = 0
        self._table_limit = TABLE_BYTES
        self._texts: dict[bytes, bytes] = {}
        self.changes = 0
        """Grows with every change of the table: what a block says holds until the next one."""

    def read(self, block: bytes) -> tuple[list[Field], bool]:
        """Return the fields of a block, and whether they are all; beyond the limits none is kept.

        Raises:
            BrokenConnection: it is no block; the table's state is then unknown.
        """
        fields: list[Field] = []
        at, end, size, read = self._resized(block), len(block), 0, 0
        while at < end:
            read += 1
            field, at = self._field(block, at)
            size += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if size <= self._max_list_bytes and len(fields) < self._max_fields:
                fields.append(field)
            elif read > _MUCH * self._max_fields:
                raise BrokenConnection(ErrorCode.ENHANCE_YOUR_CALM, "a block has too many fields")
            else:
                size = self._max_list_bytes + 1  # read on: the table must be what the peer's is
        return fields, size <= self._max_list_bytes

    def _field(self, block: bytes, at: int) -> tuple[Field, int]:
        first = block[at]
        if first & _INDEXED:
            index, at = _integer(block, at, 0x7F)
            return self._at(index), at
        if first & _INSERTED:
            field, at = self._literal(block, at, 0x3F)
            self._insert(field)
            return field, at
        if first & _RESIZED:
            raise _broken("a change of the table's size stands behind a field")
        return self._literal(block, at, 0x0F)

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._at(index)[0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        return (name, value), at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        if at >= len(block):
            raise _broken("a block ends within a field")
        is_huffman = block[at] & _HUFFMAN
        length, at = _integer(block, at, 0x7F)
        end = at + length
        if end > len(block):
            raise _broken("a text is longer than its block")
        text = block[at:end]
        return (self._plain(text) if is_huffman else text), end

    def _plain(self, text: bytes) -> bytes:
        known = self._texts.get(text)
        if known is not None:
            return known
        try:
            plain = decode_huffman(text)
        except HPACKDecodingError as err:
            raise _broken("a text is no Huffman code") from err
        if len(text) <= KEPT_TEXT_BYTES:
            if len(self._texts) >= KEPT_TEXTS:
                self._texts.clear()
            self._texts[text] = plain
        return plain

    def _at(self, index: int) -> Field:
        if 0 < index < _FIRST_DYNAMIC:
            return _STATIC[index - 1]
        place = index - _FIRST_DYNAMIC
        if not 0 <= place < len(self._table):
            raise _broken("an index stands for no field")
        return self._table[place]

    def _insert(self, field: Field) -> None:
        self.changes += 1
        self._table.appendleft(field)
        self._table_bytes += _size(field)
        self._evict()

    def _resized(self, block: bytes) -> int:
        """Heed changes of the table's size at the front of a block; return where fields begin."""
        at, found = 0, 0
        while at < len(block) and block[at] & 0xE0 == _RESIZED:
            limit, at = _integer(block, at, 0x1F)
            found += 1
            if limit > TABLE_BYTES or found > 2:
                raise _broken("the table's size is changed to more than it may be")
            self._table_limit = limit
            self.changes += 1
            self._evict()
        return at

    def _evict(self) -> None:
        while self._table_bytes > self._table_limit:
            self._table_bytes -= _size(self._table.pop())


def _size(field: Field) -> int:
    return len(field[0]) + len(field[1]) + FIELD_OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return an integer with a prefix of `mask` (section 5.1), and where the next thing begins."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        if at >= len(block):
            raise _broken("a block ends within a number")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _broken("a number is too long")


_KNOWN = {field: index for index, field in reversed(list(enumerate(_STATIC, 1)))}
_KNOWN_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}


def block_of(fields: Iterable[Field]) -> bytes:
    """Return a block that changes no table, so that it may be kept and sent again."""
    return b"".join(map(_written, fields))


def _written(field: Field) -> bytes:
    name, value = field
    if field in _KNOWN:
        return _number(_KNOWN[field], 0x7F, _INDEXED)
    if name in _KNOWN_NAMES:
        return _number(_KNOWN_NAMES[name], 0x0F, 0) + _plain_text(value)
    return b"\x00" + _plain_text(name) + _plain_text(value)


def _plain_text(text: bytes) -> bytes:
    return _number(len(text), 0x7F, 0) + text


def _number(value: int, mask: int, flags: int) -> bytes:
    if value < mask:
        return bytes((flags | value,))
    out, value = bytearray((flags | mask,)), value - mask
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)
