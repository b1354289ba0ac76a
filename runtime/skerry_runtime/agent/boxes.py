"""How well the boxes that a detector finds overlap with the expected ones; no IO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from typing_extensions import override

from skerry_runtime.agent.score import (
    EXPECTED_KEY,
    Array,
    InvalidExam,
    Mark,
    Marks,
    Share,
    output_name,
    output_of,
)

MAX_BOXES = 1000
"""Most boxes of one picture that are matched; more count as found in vain."""
CORNERS, CENTER, SIZE = "corners", "center", "size"
OPTIONS = ("box_columns", "box_format", "box_class", "box_score", "min_score")


@dataclass(frozen=True)
class BoxReading:
    """Where boxes, their classes and their scores stand in the outputs."""

    columns: tuple[int, ...] = (0, 1, 2, 3)
    """Of a box's four numbers along the last axis."""
    form: str = CORNERS
    """What they are: two corners; a centre and the size; or the first corner and the size."""
    classes: int | str | None = None
    """Column, or an output with one class a box; None: all boxes are of one class."""
    scores: int | str | None = None
    min_score: float = -math.inf
    """A box with less is none."""

    @property
    def beside(self) -> frozenset[str]:
        """Outputs that say something about boxes, and hold none."""
        return frozenset(one for one in (self.classes, self.scores) if isinstance(one, str))


def read_boxes(arrays: Mapping[str, Array]) -> BoxReading:
    """Read the options of the golden file.

    Raises:
        InvalidExam: one cannot be understood; the text has its key and value.
    """
    columns = arrays.get("box_columns", np.arange(4))
    if columns.shape != (4,) or columns.dtype.kind not in "iu" or len(set(columns.tolist())) < 4:
        raise InvalidExam("array 'box_columns' must be the places of four numbers, such as 0 1 2 3")
    form = str(arrays.get("box_format", np.array(CORNERS)))
    if form not in (CORNERS, CENTER, SIZE):
        raise InvalidExam(f"'box_format' is {form!r:.80}: write {CORNERS}, {CENTER} or {SIZE}")
    reading = BoxReading(
        tuple(columns.tolist()), form, _place("box_class", arrays), _place("box_score", arrays)
    )
    least = arrays.get("min_score")
    if least is None:
        return reading
    if least.ndim or least.dtype.kind not in "fiu" or reading.scores is None:
        raise InvalidExam("'min_score' must be one number, with 'box_score' beside it")
    return BoxReading(reading.columns, form, reading.classes, reading.scores, float(least))


def _place(key: str, arrays: Mapping[str, Array]) -> int | str | None:
    value = arrays.get(key)
    if value is None:
        return None
    if value.ndim or value.dtype.kind not in "iuU":
        raise InvalidExam(f"'{key}' must be a column's number or an output's name")
    return str(value) if value.dtype.kind == "U" else int(value)


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture."""

    corners: Array
    """[n, 4]: x1, y1, x2, y2."""
    classes: Array
    surplus: int = 0
    """Boxes beyond those that are matched."""


@dataclass(frozen=True)
class MeanIoU(Share):
    """Overlap of matched boxes, summed and divided by all boxes; see docs/exam.md."""

    reading: BoxReading = field(default_factory=BoxReading)

    def mark(
        self, answers: Mapping[str, Array], given: Mapping[str, Array], *, rows: bool
    ) -> Marks:
        """Match the boxes of every picture."""
        expected = {output_name(key): array for key, array in answers.items()}
        marks = {}
        for key in answers:
            if output_name(key) in self.reading.beside:
                continue
            output_of(given, key)
            wanted = self._pictures(output_name(key), expected, f"{EXPECTED_KEY}_", rows=rows)
            found = self._pictures(output_name(key), given, "", rows=rows)
            if len(wanted) != len(found):
                raise InvalidExam(f"'{key}' has {len(wanted)} pictures, the model {len(found)}")
            pairs = [_overlap(w, f) for w, f in zip(wanted, found, strict=True)]
            marks[key] = Mark(sum(p.met for p in pairs), sum(p.of for p in pairs))
        return marks

    def _pictures(
        self, name: str, arrays: Mapping[str, Array], prefix: str, *, rows: bool
    ) -> list[Boxes]:
        """Return the boxes of every picture, those that are none left out."""
        table = _as_pictures(arrays[name], prefix + name, max(self.reading.columns), rows=rows)
        classes = self._beside(self.reading.classes, table, arrays, prefix)
        scores = self._beside(self.reading.scores, table, arrays, prefix)
        corners = self._corners(table[..., list(self.reading.columns)].astype(np.float64))
        return [
            _kept(corners[at], classes[at], scores[at], self.reading.min_score)
            for at in range(len(table))
        ]

    def _beside(
        self, place: int | str | None, table: Array, arrays: Mapping[str, Array], prefix: str
    ) -> Array:
        """Return one number per box."""
        if place is None:
            return np.zeros(table.shape[:2])
        if isinstance(place, int):
            if not 0 <= place < table.shape[-1]:
                raise InvalidExam(f"there is no column {place} in {table.shape[-1]} columns")
            return table[..., place]
        if place not in arrays:
            raise InvalidExam(f"there is no '{prefix}{place}', which the boxes need")
        values = arrays[place]
        if values.size != math.prod(table.shape[:2]):
            raise InvalidExam(
                f"'{prefix}{place}' has {values.size} values for {math.prod(table.shape[:2])} boxes"
            )
        return values.reshape(table.shape[:2])

    def _corners(self, numbers: Array) -> Array:
        if self.reading.form == CORNERS:
            return numbers
        first, size = numbers[..., :2], numbers[..., 2:]
        if self.reading.form == CENTER:
            first = first - size / 2
        return np.concatenate([first, first + size], axis=-1)

    @override
    def score(self, marks: Marks) -> float:
        """Return the smallest share.

        Raises:
            InvalidExam: no box is expected or found anywhere: everything would pass.
        """
        if not any(mark.of for mark in marks.values()):
            raise InvalidExam("no box is expected in any picture, and none was found")
        return super().score(marks)


def _as_pictures(array: Array, name: str, last_column: int, *, rows: bool) -> Array:
    """Return [picture, box, number]: the last two axes, and all others are pictures."""
    if array.ndim < 1 or array.shape[-1] <= last_column or array.dtype.kind not in "fiu":
        raise InvalidExam(
            f"'{name}' has shape {list(array.shape)}: its last axis must hold a box's numbers; "
            "an output of classes or scores is named in 'box_class' or 'box_score'"
        )
    pictures = len(array) if rows else math.prod(array.shape[:-2])
    boxes = math.prod(array.shape[:-1]) // pictures if pictures else 0
    return array.reshape(pictures, boxes, array.shape[-1])


def _kept(corners: Array, classes: Array, scores: Array, least: float) -> Boxes:
    """Leave out boxes without an area, as padding has none, and those with too small a score."""
    width, height = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    is_box = (width > 0) & (height > 0) & np.isfinite(corners).all(axis=1) & (scores >= least)
    kept = np.flatnonzero(is_box)
    kept = kept[np.argsort(-scores[kept].astype(np.float64), kind="stable")]
    first = kept[:MAX_BOXES]
    return Boxes(corners[first], classes[first], len(kept) - len(first))


def _overlap(wanted: Boxes, found: Boxes) -> Mark:
    """Match the boxes one to one, largest overlap first, and sum the overlaps."""
    overlaps = _ious(wanted.corners, found.corners)
    overlaps[wanted.classes[:, None] != found.classes[None, :]] = 0.0
    matched, total = 0, 0.0
    free_rows, free_columns = np.ones(len(wanted.corners), bool), np.ones(len(found.corners), bool)
    for place in _descending(overlaps):
        row, column = divmod(int(place), overlaps.shape[1])
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            matched, total = matched + 1, total + float(overlaps[row, column])
    lonely = int(free_rows.sum() + free_columns.sum()) + wanted.surplus + found.surplus
    return Mark(total, matched + lonely)


def _descending(overlaps: Array) -> Array:
    places = np.flatnonzero(overlaps > 0)
    order: Array = places[np.argsort(-overlaps.reshape(-1)[places], kind="stable")]
    return order


def _ious(one: Array, other: Array) -> Array:
    """Return intersection over union of all pairs, [len(one), len(other)]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (one, other)]
    union: Array = areas[0][:, None] + areas[1][None, :] - shared
    ious: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious
