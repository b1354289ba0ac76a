"""Reads the bones of an ONNX file, so that it can be judged before an engine opens it.

A walker over protobuf's wire format: no schema library, no recursion, no copy of the weights.
Message numbers: github.com/onnx/onnx, onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_GRAPH_FIELD = 7
_MAX_TOP_FIELDS = 100_000
_MAX_VARINT_BYTES = 10

Field = tuple[int, int, int, int]
"""Field number, wire type, and for bytes start and end, for a varint value and end."""


class NotOnnx(Exception):  # noqa: N818 (says what the file is)
    """The bytes are no ONNX model, or only the beginning of one."""


class Kind(Enum):
    """Messages in which tensors can be."""

    MODEL = "model"
    TRAINING = "training"
    FUNCTION = "function"
    GRAPH = "graph"
    NODE = "node"
    ATTRIBUTE = "attribute"
    SPARSE = "sparse tensor"
    TENSOR = "tensor"


_CHILDREN: dict[Kind, dict[int, Kind]] = {
    Kind.MODEL: {7: Kind.GRAPH, 20: Kind.TRAINING, 25: Kind.FUNCTION},
    Kind.TRAINING: {1: Kind.GRAPH, 2: Kind.GRAPH},
    Kind.FUNCTION: {7: Kind.NODE, 11: Kind.ATTRIBUTE},
    Kind.GRAPH: {1: Kind.NODE, 5: Kind.TENSOR, 15: Kind.SPARSE},
    Kind.NODE: {5: Kind.ATTRIBUTE},
    Kind.ATTRIBUTE: {
        5: Kind.TENSOR,
        6: Kind.GRAPH,
        10: Kind.TENSOR,
        11: Kind.GRAPH,
        22: Kind.SPARSE,
        23: Kind.SPARSE,
    },
    Kind.SPARSE: {1: Kind.TENSOR, 2: Kind.TENSOR},
    Kind.TENSOR: {},
}
_EXTERNAL_DATA_FIELD, _DATA_LOCATION_FIELD, _EXTERNAL = 13, 14, 1
_ENTRY_KEY, _ENTRY_VALUE, _LOCATION_KEY = 1, 2, b"location"
_ENUM_BITS = 0xFFFFFFFF
"""Of a number on the wire: protobuf cuts what is longer, and so makes 1 of 2**32 + 1."""
_MAX_LOCATION = 4096


def check_outline(content: memoryview) -> None:
    """Check that the outermost message is whole and holds a graph; cheap for any model.

    Raises:
        NotOnnx: it is not.
    """
    has_graph = False
    for count, (number, wire, _, _) in enumerate(_fields(content, 0, len(content))):
        has_graph = has_graph or (number == _GRAPH_FIELD and wire == _BYTES)
        if count > _MAX_TOP_FIELDS:
            raise NotOnnx("the file has too many parts for a model")
    if not has_graph:
        raise NotOnnx("the file holds no graph: it is no ONNX model")


def external_locations(content: memoryview) -> frozenset[str]:
    """Return every place outside the file that it names for a tensor's data.

    Whatever a reader might take for one counts: of a tensor that is not flagged, of a key that is
    given twice. "" stands for data that is outside, and nobody says where.

    Raises:
        NotOnnx: the file is damaged inside.
    """
    found: set[str] = set()
    waiting = [(Kind.MODEL, 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind is Kind.TENSOR:
            found |= _locations(content, start, end)
            continue
        children = _CHILDREN[kind]
        for number, wire, first, last in _fields(content, start, end):
            if wire == _BYTES and number in children:
                waiting.append((children[number], first, last))
    return frozenset(found)


def length_delimited(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of the message's fields that are texts, bytes or messages.

    Raises:
        NotOnnx: it is truncated or damaged.
    """
    for number, wire, first, last in _fields(message, 0, len(message)):
        if wire == _BYTES:
            yield number, message[first:last]


def _locations(content: memoryview, start: int, end: int) -> set[str]:
    """Return where a tensor's data are, if they are not in it."""
    found: set[str] = set()
    is_outside = False
    for number, wire, first, last in _fields(content, start, end):
        if number == _DATA_LOCATION_FIELD and wire == _VARINT:
            is_outside = is_outside or first & _ENUM_BITS == _EXTERNAL
        elif number == _EXTERNAL_DATA_FIELD:
            is_outside = True
            found |= _values(content, first, last) if wire == _BYTES else set()
    return found or ({""} if is_outside else set())


def _values(content: memoryview, start: int, end: int) -> set[str]:
    """Return the values of an entry whose key, or one of whose keys, is that of a place."""
    keys: set[bytes] = set()
    values: set[bytes] = set()
    for number, wire, first, last in _fields(content, start, end):
        if wire == _BYTES and number in (_ENTRY_KEY, _ENTRY_VALUE):
            text = bytes(content[first : min(last, first + _MAX_LOCATION)])
            (keys if number == _ENTRY_KEY else values).add(text)
    if _LOCATION_KEY not in keys:
        return set()
    return {value.decode("utf-8", "backslashreplace") for value in values} or {""}


def _fields(content: memoryview, start: int, end: int) -> Iterator[Field]:
    while start < end:
        tag, start = _varint(content, start, end)
        number, wire = tag >> 3, tag & 7
        first, start = _value(content, wire, start, end)
        if number == 0 or start > end:
            raise NotOnnx("the file is truncated or damaged")
        yield number, wire, first, start


def _value(content: memoryview, wire: int, start: int, end: int) -> tuple[int, int]:
    """Return a varint's value, or where the bytes begin; and where the field ends."""
    if wire == _VARINT:
        return _varint(content, start, end)
    if wire == _BYTES:
        length, start = _varint(content, start, end)
        return start, start + length
    if wire in _FIXED:
        return start, start + _FIXED[wire]
    raise NotOnnx("the file is no ONNX model, or is damaged")


def _varint(content: memoryview, start: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(start, min(end, start + _MAX_VARINT_BYTES)):
        byte = content[index]
        value |= (byte & 0x7F) << (7 * (index - start))
        if byte < 0x80:
            return value, index + 1
    raise NotOnnx("the file is truncated or damaged")
