"""The forms of a golden file: rows that are samples, or whole requests; and how they are asked.

docs/exam.md, says the same for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from skerry_runtime.agent.convert import as_datatype
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.score import Array
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec

MOST_ROWS = 64
MOST_ELEMENTS = 1024
"""Elements of a batch's questions: a larger sample costs the engine so much more than a call that
company saves nothing, and memory grows with every one."""
MOST_BYTES = 4 * MIB
"""Bytes of a batch's questions and answers."""

NumberedArrays = Mapping[tuple[int, str], Array]
"""(request, input's or answer's name) -> array."""


@dataclass(frozen=True)
class Portion:
    """What reaches the model in one run, and what its answers are held against."""

    questions: Tensors
    answers: Mapping[str, Array]
    """LABELS_KEY -> labels, or an output's name -> its expected values."""
    number: int
    """Of the request, or of the first sample."""
    rows: int | None = None
    """How many rows of the answers are samples, the rest is padding; None: a whole request."""
    fed: int = 0
    """How many rows the questions have."""


class GoldenForm(Protocol):
    """The questions of a golden file, in an order that never changes."""

    @property
    def count(self) -> int:
        """Samples, or whole requests."""
        ...

    def portions(self) -> Iterator[Portion]:
        """Yield what to ask; each portion is made when it is wanted."""
        ...

    def largest(self) -> Tensors:
        """Return the questions of the portion that takes most memory."""
        ...

    def by_request(self) -> GoldenForm | None:
        """Return requests of one sample each; None where the model, or the file, has none."""
        ...


class Spread(Enum):
    """What one request gets of an array."""

    WHOLE = "all of it"
    AXIS = "what lies at its number on an axis before all others"
    ROW = "the row of its number, as a batch of one"


@dataclass(frozen=True)
class SampleRows:
    """Inputs have a row for each sample, or are scalars; answers have a row for each sample."""

    count: int
    inputs: Mapping[str, Array]
    answers: Mapping[str, Array]
    metadata: ModelMetadata

    def portions(self) -> Iterator[Portion]:
        """Yield batches."""
        size = self.batch
        for start in range(0, self.count, size):
            count = min(size, self.count - start)
            wanted = {name: array[start : start + count] for name, array in self.answers.items()}
            fed = self._fixed or count
            yield Portion(self._questions(start, count), wanted, start, rows=count, fed=fed)

    def largest(self) -> Tensors:
        """Return the first batch: no other is larger."""
        return self._questions(0, min(self.batch, self.count))

    def by_request(self) -> GoldenForm | None:
        """Return a request for each sample, unless the model wants several at a time."""
        if (self._fixed or 1) > 1:
            return None
        spread = {
            name: Spread.ROW if array.ndim else Spread.WHOLE for name, array in self.inputs.items()
        }
        arrays = {**self.inputs, **self.answers}
        spread |= dict.fromkeys(self.answers, Spread.AXIS)
        return WholeRequests(self.count, arrays, spread, {}, tuple(self.answers), self.metadata)

    @property
    def _fixed(self) -> int | None:
        """Rows of a batch where the model takes no other number."""
        return fixed_batch(self.metadata)

    @property
    def batch(self) -> int:
        """Samples that reach the model at one time."""
        return self._fixed or fitting_batch(
            [array for array in self.inputs.values() if array.ndim],
            list(self.answers.values()),
            self.metadata,
        )

    def _questions(self, start: int, count: int) -> Tensors:
        size = self._fixed or count
        return {
            spec.name: as_datatype(spec, _rows(self.inputs[spec.name], start, count, size))
            for spec in self.metadata.inputs
        }


@dataclass(frozen=True)
class WholeRequests:
    """Requests as a client sends them; nothing is known of a batch."""

    count: int
    arrays: Mapping[str, Array]
    spread: Mapping[str, Spread]
    numbered: NumberedArrays
    """What only one request has; it goes before `arrays`."""
    wanted: tuple[str, ...]
    """Names of the answers."""
    metadata: ModelMetadata

    def portions(self) -> Iterator[Portion]:
        """Yield requests."""
        for number in range(self.count):
            answers = {name: self._of(name, number) for name in self.wanted}
            yield Portion(self._questions(number), answers, number)

    def largest(self) -> Tensors:
        """Return the request whose questions are largest, the first of several."""
        numbers = range(self.count if self.numbered else 1)
        return self._questions(max(numbers, key=self._size))

    def by_request(self) -> GoldenForm | None:
        """Return nothing: these are requests."""
        return None

    def _size(self, number: int) -> int:
        return sum(self._of(spec.name, number).nbytes for spec in self.metadata.inputs)

    def _questions(self, number: int) -> Tensors:
        return {
            spec.name: as_datatype(spec, self._of(spec.name, number))
            for spec in self.metadata.inputs
        }

    def _of(self, name: str, number: int) -> Array:
        own = self.numbered.get((number, name))
        if own is not None:
            return own
        array = self.arrays[name]
        match self.spread[name]:
            case Spread.WHOLE:
                return array
            case Spread.AXIS:
                return np.asarray(array[number])
            case Spread.ROW:
                return array[number : number + 1]


def fixed_batch(metadata: ModelMetadata) -> int | None:
    """Return the first axis of the inputs where the model fixes it."""
    sizes = [spec.shape[0] for spec in metadata.inputs if spec.shape and spec.shape[0] > 0]
    return sizes[0] if sizes else None


def fitting_batch(questions: list[Array], answers: list[Array], metadata: ModelMetadata) -> int:
    """Return how many samples go into one batch of a free size."""
    elements = sum(_per_row(array, array.size) for array in questions)
    expected = sum(_per_row(array, array.nbytes) for array in answers)
    declared = sum(_declared_bytes(spec) for spec in metadata.outputs)
    taken = sum(_per_row(array, array.nbytes) for array in questions) + max(expected, declared)
    return max(1, min(MOST_ROWS, MOST_ELEMENTS // max(1, elements), MOST_BYTES // max(1, taken)))


def _per_row(array: Array, total: int) -> int:
    return total // max(1, len(array))


def _declared_bytes(spec: TensorSpec) -> int:
    """Return the least that a row of the output takes, at four bytes an element."""
    size = 4
    for axis in spec.shape[1:]:
        size *= max(1, axis)
    return size


def _rows(array: Array, start: int, count: int, size: int) -> Array:
    """Return rows, the last one repeated up to the size that the model wants; a scalar as it is."""
    if array.ndim == 0:
        return array
    rows = array[start : start + count]
    short = size - len(rows)
    return rows if short <= 0 else np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)])
