"""Scores a model's answers against what the golden file expects; no IO.

docs/exam.md, defines each metric and names its source.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

LABELS_KEY = "labels"
EXPECTED_KEY = "expected"

Array = npt.NDArray[Any]


class InvalidExam(Exception):  # noqa: N818 (the reason's name in the contract)
    """The golden file cannot be used with this model; the text names the key."""


@dataclass(frozen=True)
class Mark:
    """How far one answer's values met what was expected, over some of the questions."""

    met: float
    """Of `of`; for MaxAbsError the largest error."""
    of: float
    note: str = ""
    """What there is to say beyond the figures."""


Marks = Mapping[str, Mark]
"""By the answer's key."""


class Scoring(Protocol):
    """One way to hold answers against what is expected."""

    def mark(
        self, answers: Mapping[str, Array], given: Mapping[str, Array], *, rows: bool
    ) -> Marks:
        """Mark some of the questions.

        Args:
            answers: LABELS_KEY -> labels, or `expected_OUTPUT` -> its expected values.
            given: what the model answered, by output.
            rows: each row is a sample; else everything belongs to one request.

        Raises:
            InvalidExam: the outputs cannot be held against the answers.
        """
        ...

    def joined(self, some: Mark, more: Mark) -> Mark:
        """Return the mark of both groups of questions together."""
        ...

    def score(self, marks: Marks) -> float:
        """Return the value over all questions: that of the worst answer."""
        ...


class Share:
    """Base of metrics that are a share of what could be met."""

    def joined(self, some: Mark, more: Mark) -> Mark:
        """Return the mark of both groups of questions together."""
        return Mark(some.met + more.met, some.of + more.of, some.note or more.note)

    def score(self, marks: Marks) -> float:
        """Return the smallest share; 1 where nothing was expected and nothing found."""
        return min((m.met / m.of if m.of else 1.0 for m in marks.values()), default=0.0)


class Accuracy(Share):
    """Share of labels met."""

    def mark(
        self,
        answers: Mapping[str, Array],
        given: Mapping[str, Array],
        *,
        rows: bool,  # noqa: ARG002 (labels are one each in both forms)
    ) -> Marks:
        """Count the labels that the model's classes meet."""
        labels = answers[LABELS_KEY].reshape(-1)
        met = float(np.sum(_predicted(given, labels) == labels))
        return {LABELS_KEY: Mark(met, labels.size)}


class ChoiceAgreement(Share):
    """Share of equal choices: classes, or places of the largest score."""

    def mark(
        self, answers: Mapping[str, Array], given: Mapping[str, Array], *, rows: bool
    ) -> Marks:
        """Count equal choices; answers of another length agree in nothing."""
        marks = {}
        for key, wanted in answers.items():
            choices = _choices(wanted, key, rows=rows)
            found = _choices(as_texts_like(output_of(given, key), wanted), key, rows=rows)
            met = np.sum(found == choices) if found.shape == choices.shape else 0
            marks[key] = Mark(float(met), max(found.size, choices.size))
        return marks


class LargestError:
    """Largest difference of two numbers in the same place."""

    def mark(
        self, answers: Mapping[str, Array], given: Mapping[str, Array], *, rows: bool
    ) -> Marks:
        """Find the largest error of each answer."""
        return {
            key: _largest_error(output_of(given, key), wanted, key, rows=rows)
            for key, wanted in answers.items()
        }

    def joined(self, some: Mark, more: Mark) -> Mark:
        """Return the larger error."""
        return max(some, more, key=lambda mark: mark.met)

    def score(self, marks: Marks) -> float:
        """Return the largest error."""
        return max(mark.met for mark in marks.values())


def joined_marks(scoring: Scoring, some: Marks, more: Marks) -> Marks:
    """Return the marks of both groups of questions together."""
    both = {key: scoring.joined(some[key], mark) for key, mark in more.items() if key in some}
    return {**some, **more, **both}


def output_name(key: str) -> str:
    """Return the output that `expected_OUTPUT` is about."""
    return key.removeprefix(f"{EXPECTED_KEY}_")


def output_of(given: Mapping[str, Array], key: str) -> Array:
    """Return the model's answer to hold against `expected_OUTPUT`.

    Raises:
        InvalidExam: the model has no such output.
    """
    name = output_name(key)
    if name not in given:
        raise InvalidExam(f"the model has no output '{name}'")
    return given[name]


def is_free_of_nan(given: Array, wanted: Array | None) -> bool:
    """Tell whether every number is one, where one is expected."""
    if given.dtype.kind != "f":
        return True
    missing = np.isnan(given)
    if wanted is not None and wanted.dtype.kind == "f" and wanted.shape == given.shape:
        missing &= ~np.isnan(wanted)
    return not missing.any()


def _predicted(given: Mapping[str, Array], labels: Array) -> Array:
    """Return the class per label: an output that holds classes, else the largest score."""
    is_text = labels.dtype.kind in "US"
    classes = [a for a in given.values() if a.dtype.kind in ("OSU" if is_text else "iu")]
    flat = next((a.reshape(-1) for a in classes if a.size == labels.size), None)
    if flat is not None:
        return as_texts_like(flat, labels)
    # Quantised scores are as good: one scale for all classes keeps their order.
    tables = [a for kinds in ("f", "iu") for a in given.values() if a.dtype.kind in kinds]
    scores = next((a for a in tables if _is_table(a, labels.size)), None)
    if is_text or scores is None:
        raise InvalidExam(f"no output can be held against '{LABELS_KEY}'")
    classes_of: Array = np.argmax(scores.reshape(labels.size, -1), axis=1)
    return classes_of


def _is_table(array: Array, count: int) -> bool:
    """Tell whether the array has one list of scores for each label: its last axis."""
    if array.ndim < 2:
        return array.size > 1 and count == 1
    return math.prod(array.shape[:-1]) == count and array.shape[-1] > 0


def as_texts_like(array: Array, like: Array) -> Array:
    """Return an output's texts as numpy has a golden file's; anything else as it is."""
    if like.dtype.kind not in "US" or array.dtype.kind not in "OUS":
        return array
    decoded = [t.decode() if isinstance(t, bytes) else str(t) for t in array.flat]
    return np.array(decoded, dtype=np.str_).reshape(array.shape)


def _choices(array: Array, key: str, *, rows: bool) -> Array:
    """Return one class per row, or in a whole request one per list along the last axis."""
    lists = np.atleast_1d(array)
    if rows and array.ndim > 1:
        lists = array.reshape(len(array), math.prod(array.shape[1:]))
    has_scores = lists.shape[-1] > 1 and (lists.ndim > 1 or not rows)
    if has_scores and (rows or array.dtype.kind == "f"):
        classes: Array = np.argmax(lists, axis=-1)
        return classes
    if array.dtype.kind == "f":
        raise InvalidExam(
            f"'{output_name(key)}' holds one number per choice: Agreement needs scores or classes"
        )
    return lists.reshape(-1) if rows else lists


def _largest_error(given: Array, wanted: Array, key: str, *, rows: bool) -> Mark:
    name = output_name(key)
    if given.dtype.kind not in "fiub" or wanted.dtype.kind not in "fiub":
        raise InvalidExam(f"output '{name}' does not hold numbers")
    if not rows and given.ndim == wanted.ndim + 1 and len(given) == 1:
        given = given[0]  # a request of one sample, of which the file holds the sample
    if given.shape != wanted.shape:
        text = f"output '{name}' has shape {list(given.shape)}, expected is {list(wanted.shape)}"
        if rows or given.ndim != wanted.ndim:
            raise InvalidExam(text)
        return Mark(sys.float_info.max, 1.0, text)  # it found more than it should, or less
    with np.errstate(invalid="ignore"):
        error = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    same = (given == wanted) | (_is_nan(given) & _is_nan(wanted))  # also two equal infinities
    worst = float(np.max(np.where(same, 0.0, error), initial=0.0))
    return Mark(worst if math.isfinite(worst) else sys.float_info.max, 1.0)


def _is_nan(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
