"""Tells in an ONNX file a scalar from a tensor without a declared shape, which the engine does not.

Both have no axes for ONNX Runtime. In the file a scalar's type has a shape without dimensions, and
the other has no shape. A walk over protobuf's wire format, past the weights; message numbers:
github.com/onnx/onnx, onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skerry_runtime.contract import Format

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_GRAPH, _INPUT, _OUTPUT = 7, 11, 12
_NAME, _TYPE, _TENSOR_TYPE, _SHAPE = 1, 2, 1, 2

Span = tuple[int, int]
"""Where a message begins and ends."""


def without_shape(path: Path, model_format: Format, nodes: Sequence[Any]) -> set[str]:
    """Return the names of those inputs and outputs for which the file declares no shape.

    Args:
        path: a file that the engine has opened.
        model_format: ONNX or ORT.
        nodes: its inputs and outputs as the session tells them.
    """
    doubtful = {node.name for node in nodes if not node.shape}
    if not doubtful:
        return set()
    if model_format is Format.ORT:
        return doubtful & _undeclared_in_ort(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return doubtful & set(_undeclared(content))


def _undeclared(content: mmap.mmap) -> Iterator[str]:
    for graph in _messages(content, (0, len(content)), _GRAPH):
        for role in (_INPUT, _OUTPUT):
            for value in _messages(content, graph, role):
                if not _has_shape(content, value):
                    start, end = next(_messages(content, value, _NAME))
                    yield content[start:end].decode(errors="replace")


def _has_shape(content: mmap.mmap, value: Span) -> bool:
    return any(
        True
        for kind in _messages(content, value, _TYPE)
        for tensor in _messages(content, kind, _TENSOR_TYPE)
        for _ in _messages(content, tensor, _SHAPE)
    )


def _messages(content: mmap.mmap, span: Span, wanted: int) -> Iterator[Span]:
    """Yield where the fields of this number lie: texts and messages."""
    place, end = span
    while place < end:
        tag, place = _varint(content, place)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, start = _varint(content, place)
            place = start + length
            if number == wanted:
                yield start, place
        elif wire == _VARINT:
            _, place = _varint(content, place)
        else:
            place += _FIXED[wire]


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _undeclared_in_ort(path: Path) -> set[str]:
    # Imported late: few models need it, and it takes time.
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import (  # noqa: PLC0415
        InferenceSession,
        TensorTypeAndShape,
        TypeInfoValue,
    )

    session = InferenceSession.InferenceSession.GetRootAsInferenceSession(path.read_bytes(), 0)
    graph = session.Model().Graph()
    found = set()
    for place in range(graph.NodeArgsLength()):
        info = graph.NodeArgs(place)
        kind = info.Type()
        if kind is None or kind.ValueType() != TypeInfoValue.TypeInfoValue.tensor_type:
            continue
        tensor = TensorTypeAndShape.TensorTypeAndShape()
        tensor.Init(kind.Value().Bytes, kind.Value().Pos)
        if tensor.Shape() is None:
            found.add(info.Name().decode())
    return found
