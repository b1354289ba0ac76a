"""Reads in a .tflite file what the interpreter does not tell: state, and inputs without a shape.

A reader of FlatBuffers for the few fields that count; field numbers: tensorflow/compiler/mlir/lite/
schema/schema.fbs of github.com/tensorflow/tensorflow, layout: flatbuffers.dev/internals.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CODES, _SUBGRAPHS = 1, 2  # of a model
_OLD_CODE, _CODE = 0, 3  # of an operator code: the first is as wide as a byte
_TENSORS, _INPUTS, _OPERATORS = 0, 1, 3  # of a subgraph
_SHAPE, _IS_VARIABLE, _HAS_RANK = 0, 5, 8  # of a tensor
_CODE_INDEX, _OPTIONS = 0, 4  # of an operator
_INIT_SUBGRAPH = 0  # of the options of CALL_ONCE
_CALL_ONCE, _ASSIGN_VARIABLE = 129, 144

_UINT16, _INT32, _UINT32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_INT8 = struct.Struct("<b")


@dataclass(frozen=True)
class TfliteFacts:
    """What a file says of itself beyond names and types."""

    has_resources: bool
    """Variables that the graph writes, which only a new interpreter has as they were."""
    has_variables: bool
    """Tensors that an operator keeps from one run to the next; the interpreter can clear them."""
    unranked: frozenset[int]
    """Indices of the inputs for which no shape is declared."""


def read_facts(path: Path) -> TfliteFacts:
    """Read a file that the interpreter has opened.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _facts(content)
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError("the file is damaged") from error


def _facts(content: mmap.mmap) -> TfliteFacts:
    model = _Table(content, _UINT32.unpack_from(content, 0)[0])
    codes = [_code(entry) for entry in model.tables(_CODES)]
    subgraphs = list(model.tables(_SUBGRAPHS))
    main = list(subgraphs[0].tables(_TENSORS))
    return TfliteFacts(
        has_resources=_ASSIGN_VARIABLE in codes and _writes(subgraphs, codes),
        has_variables=any(
            tensor.flag(_IS_VARIABLE) for graph in subgraphs for tensor in graph.tables(_TENSORS)
        ),
        unranked=frozenset(
            index
            for index in subgraphs[0].numbers(_INPUTS)
            if not main[index].numbers(_SHAPE) and not main[index].flag(_HAS_RANK)
        ),
    )


def _writes(subgraphs: list[_Table], codes: list[int]) -> bool:
    """Tell whether a variable is written by more than what runs once, to give it its value."""
    inits: set[int] = set()
    writers: set[int] = set()
    for place, graph in enumerate(subgraphs):
        for operator in graph.tables(_OPERATORS):
            code = codes[operator.number(_CODE_INDEX)]
            if code == _CALL_ONCE:
                inits.update(options.number(_INIT_SUBGRAPH) for options in operator.table(_OPTIONS))
            elif code == _ASSIGN_VARIABLE:
                writers.add(place)
    return bool(writers - inits)


def _code(entry: _Table) -> int:
    """Return an operator's code: the larger of two fields, as the schema says."""
    return max(entry.number(_CODE), entry.number(_OLD_CODE, _INT8))


@dataclass(frozen=True)
class _Table:
    """A table of fields, each at a place that the table's own index tells."""

    content: mmap.mmap
    place: int

    def number(self, field: int, form: struct.Struct = _INT32) -> int:
        """Return a number, 0 where there is none."""
        at = self._at(field)
        return int(form.unpack_from(self.content, at)[0]) if at else 0

    def flag(self, field: int) -> bool:
        """Return a truth value, false where there is none."""
        return bool(self.number(field, _INT8))

    def table(self, field: int) -> Iterator[_Table]:
        """Yield the table that a field refers to, or nothing."""
        at = self._at(field)
        if at:
            yield _Table(self.content, self._aim(at))

    def tables(self, field: int) -> Iterator[_Table]:
        """Yield the tables of a list."""
        for at in self._entries(field):
            yield _Table(self.content, self._aim(at))

    def numbers(self, field: int) -> list[int]:
        """Return the numbers of a list."""
        return [_INT32.unpack_from(self.content, at)[0] for at in self._entries(field)]

    def _entries(self, field: int) -> range:
        at = self._at(field)
        if not at:
            return range(0)
        start = self._aim(at)
        count = _UINT32.unpack_from(self.content, start)[0]
        if start + 4 * count > len(self.content):
            raise IndexError
        return range(start + 4, start + 4 + 4 * count, 4)

    def _aim(self, at: int) -> int:
        return int(at + _UINT32.unpack_from(self.content, at)[0])

    def _at(self, field: int) -> int:
        """Return where a field lies, 0 where it is left out."""
        index = self.place - _INT32.unpack_from(self.content, self.place)[0]
        entry = 4 + 2 * field
        if index < 0 or entry >= _UINT16.unpack_from(self.content, index)[0]:
            return 0
        offset = _UINT16.unpack_from(self.content, index + entry)[0]
        return self.place + offset if offset else 0
