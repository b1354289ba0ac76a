"""How far the sequences that a model answers are the expected ones; no IO."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from skerry_runtime.agent.score import (
    EXPECTED_KEY,
    LABELS_KEY,
    Array,
    InvalidExam,
    Mark,
    Marks,
    Share,
    output_of,
)

MAX_LENGTH = 10_000
"""Most elements of a sequence that are compared; more count as edits."""
OPTIONS = ("sequence_axis", "sequence_blank", "sequence_padding")


@dataclass(frozen=True)
class SequenceReading:
    """What a sequence is in the outputs."""

    axis: int | None = None
    """Of the steps, among an output's axes without that of the scores; None: the last."""
    blank: int | None = None
    """Class of CTC's blank: the outputs are frames, to be merged."""
    padding: int | None = None
    """Element that fills up the end of a sequence."""


def read_sequences(arrays: Mapping[str, Array]) -> SequenceReading:
    """Read the options of the golden file.

    Raises:
        InvalidExam: one is no whole number.
    """
    found: dict[str, int | None] = {}
    for key in OPTIONS:
        value = arrays.get(key)
        if value is not None and (value.ndim or value.dtype.kind not in "iu"):
            raise InvalidExam(f"'{key}' must be one whole number")
        found[key] = None if value is None else int(value)
    return SequenceReading(*(found[key] for key in OPTIONS))


@dataclass(frozen=True)
class SequenceAgreement(Share):
    """One less the edit distance by the longer length, the mean of all sequences."""

    reading: SequenceReading = field(default_factory=SequenceReading)

    def mark(
        self, answers: Mapping[str, Array], given: Mapping[str, Array], *, rows: bool
    ) -> Marks:
        """Compare sequence by sequence."""
        marks = {}
        for key, array in answers.items():
            found = list(self._given(key, given, rows=rows))
            wanted = list(self._wanted(key, array, rows=rows))
            if len(found) != len(wanted):
                text = f"'{key}' holds {len(wanted)} sequences, the model answered {len(found)}"
                raise InvalidExam(text)
            met = sum(agreement(w, f) for w, f in zip(wanted, found, strict=True))
            marks[key] = Mark(met, len(wanted))
        return marks

    def _given(self, key: str, given: Mapping[str, Array], *, rows: bool) -> Iterator[Array]:
        if key != LABELS_KEY:
            return self._frames(output_of(given, key), rows=rows)
        if not given:
            raise InvalidExam(f"the model has no output to hold against '{LABELS_KEY}'")
        return self._frames(next(iter(given.values())), rows=rows)

    def _wanted(self, key: str, array: Array, *, rows: bool) -> Iterator[Array]:
        """Read what is expected: an answer as the model gives it, or labels as they are read."""
        if key.startswith(EXPECTED_KEY):
            return self._frames(array, rows=rows)
        if array.dtype.kind == "f":
            raise InvalidExam(f"array '{LABELS_KEY}' must hold whole numbers or texts")
        return (self._stripped(one) for one in _split(array, None, rows=rows))

    def _frames(self, array: Array, *, rows: bool) -> Iterator[Array]:
        """Return sequences; scores become the class with the largest, frames are merged."""
        ids = np.argmax(array, axis=-1) if array.dtype.kind == "f" and array.size else array
        if ids.dtype.kind == "f":
            ids = np.zeros(array.shape[:-1], dtype=np.int64)
        for one in _split(ids, self.reading.axis, rows=rows):
            yield self._stripped(one if self.reading.blank is None else self._merged(one))

    def _merged(self, frames: Array) -> Array:
        """Merge repeats and drop blanks: best path decoding."""
        is_new = np.append(True, frames[1:] != frames[:-1])[: len(frames)]
        merged: Array = frames[is_new & (frames != self.reading.blank)]
        return merged

    def _stripped(self, sequence: Array) -> Array:
        if self.reading.padding is None:
            return sequence
        kept = np.flatnonzero(sequence != self.reading.padding)
        return sequence[: kept[-1] + 1] if kept.size else sequence[:0]


def agreement(one: Array, other: Array) -> float:
    """Return 1 - edits / length of the longer sequence; 1 for two that are empty.

    Example: kitten and sitting are 3 edits apart -> 1 - 3 / 7 = 0.571.
    """
    longer = max(len(one), len(other))
    return 1.0 - edit_distance(one, other) / longer if longer else 1.0


def edit_distance(one: Array, other: Array) -> int:
    """Return the fewest insertions, deletions and substitutions that make one the other.

    Wagner and Fischer (1974), a row of the table at a time: with d the row so far, where an
    insertion may follow any other, d[j] = min over k <= j of d[k] + (j - k).
    """
    beyond = max(0, len(one) - MAX_LENGTH, len(other) - MAX_LENGTH)
    one, other = one[:MAX_LENGTH], other[:MAX_LENGTH]
    places = np.arange(len(other) + 1)
    row = places
    for element in one:
        changed = np.minimum(row[1:] + 1, row[:-1] + (other != element))
        row = np.minimum.accumulate(np.append(row[0] + 1, changed) - places) + places
    return int(row[-1]) + beyond


def _split(ids: Array, axis: int | None, *, rows: bool) -> Iterator[Array]:
    """Return one sequence for each row, or for each place on the axes beside the sequence's."""
    if ids.dtype.kind in "OUS":
        return (_letters(text) for text in ids.flat)
    if axis is not None and ids.ndim:
        ids = np.moveaxis(ids, _within(axis, ids.ndim), -1)
    elif not rows:
        ids = ids.reshape([length for length in ids.shape if length != 1])
    ids = np.atleast_1d(ids)
    count = len(ids) if rows else math.prod(ids.shape[:-1])
    return iter(ids.reshape(count, ids.size // count if count else 0))


def _letters(text: object) -> Array:
    word = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return np.array([ord(letter) for letter in word], dtype=np.int64)


def _within(axis: int, axes: int) -> int:
    if not -axes <= axis < axes:
        raise InvalidExam(f"'sequence_axis' is {axis}: the output has {axes} axes of steps")
    return axis
