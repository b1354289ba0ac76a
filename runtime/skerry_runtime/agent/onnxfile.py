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


def has_external_data(content: memoryview) -> bool:
    """Tell whether any tensor keeps its data in another file.

    Raises:
        NotOnnx: the file is damaged inside.
    """
    waiting = [(Kind.MODEL, 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        children = _CHILDREN[kind]
        for number, wire, first, last in _fields(content, start, end):
            if kind is Kind.TENSOR and _is_external(number, wire, first):
                return True
            if wire == _BYTES and number in children:
                waiting.append((children[number], first, last))
    return False


def _is_external(number: int, wire: int, value: int) -> bool:
    if number == _EXTERNAL_DATA_FIELD:
        return True
    return number == _DATA_LOCATION_FIELD and wire == _VARINT and value == _EXTERNAL


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
