"""Scores a model's answers against what the golden file expects; no IO."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_runtime.contract import GoldenMetric

LABELS_KEY = "labels"

Array = npt.NDArray[Any]


class InvalidExam(Exception):  # noqa: N818 (the reason's name in the contract)
    """The golden file cannot be used with this model; the text names the key."""


def has_nan(array: Array) -> bool:
    """Tell whether any number is none."""
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


Marks = Mapping[str, float]
"""By answer: how many samples met it, or for MaxAbsError the largest error."""


def mark(metric: GoldenMetric, answers: Mapping[str, Array], given: Mapping[str, Array]) -> Marks:
    """Mark some of the samples.

    Args:
        metric: how to score.
        answers: LABELS_KEY -> labels, or an output's name -> its expected values.
        given: what the model answered to these samples, by output.

    Raises:
        InvalidExam: the outputs cannot be held against the answers.
    """
    if metric is GoldenMetric.ACCURACY:
        labels = answers[LABELS_KEY]
        return {LABELS_KEY: float(np.sum(_predicted(given, labels) == labels))}
    judge = _agreeing if metric is GoldenMetric.AGREEMENT else _largest_error
    return {name: judge(_output(given, name), wanted, name) for name, wanted in answers.items()}


def joined(metric: GoldenMetric, some: Marks, more: Marks) -> Marks:
    """Return the marks of both groups of samples together."""
    add = max if metric is GoldenMetric.MAX_ABS_ERROR else _sum
    return {name: add(some.get(name, 0.0), value) for name, value in more.items()}


def score(metric: GoldenMetric, marks: Marks, samples: int) -> float:
    """Return the value of the metric over all samples: that of the worst answer."""
    if metric is GoldenMetric.MAX_ABS_ERROR:
        return max(marks.values())
    return min(marks.values()) / samples


def _sum(one: float, other: float) -> float:
    return one + other


def _output(given: Mapping[str, Array], name: str) -> Array:
    if name not in given:
        raise InvalidExam(f"the model has no output '{name}'")
    return given[name]


def _predicted(given: Mapping[str, Array], labels: Array) -> Array:
    """Return the class per sample: an output that holds classes, else the largest score."""
    is_text = labels.dtype.kind in "US"
    classes = [a for a in given.values() if a.dtype.kind in ("OSU" if is_text else "iu")]
    flat = next((a.reshape(-1) for a in classes if a.size == labels.size), None)
    if flat is not None:
        return _texts(flat, labels) if is_text else flat
    # Quantised scores are as good: one scale for all classes keeps their order.
    tables = [a for kinds in ("f", "iu") for a in given.values() if a.dtype.kind in kinds]
    scores = next((a for a in tables if a.ndim == 2 and len(a) == labels.size), None)
    if is_text or scores is None:
        raise InvalidExam(f"no output can be held against '{LABELS_KEY}'")
    classes_of: Array = np.argmax(scores, axis=1)
    return classes_of


def _texts(array: Array, like: Array) -> Array:
    decoded = [t.decode() if isinstance(t, bytes) else str(t) for t in array]
    return np.array(decoded).astype(like.dtype)


def _agreeing(given: Array, wanted: Array, name: str) -> float:
    return float(np.sum(_choice(given, name) == _choice(wanted, name)))


def _choice(array: Array, name: str) -> Array:
    """Return one class per sample."""
    if array.ndim > 1 and array.size != array.shape[0]:
        classes: Array = np.argmax(array.reshape(array.shape[0], -1), axis=1)
        return classes
    if array.dtype.kind == "f":
        raise InvalidExam(
            f"'{name}' holds one number per sample: Agreement needs scores or classes"
        )
    return array.reshape(-1)


def _largest_error(given: Array, wanted: Array, name: str) -> float:
    if given.shape != wanted.shape:
        raise InvalidExam(
            f"output '{name}' has shape {list(given.shape)}, expected is {list(wanted.shape)}"
        )
    if given.dtype.kind not in "fiub" or wanted.dtype.kind not in "fiub":
        raise InvalidExam(f"output '{name}' does not hold numbers")
    with np.errstate(invalid="ignore"):
        error = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    worst = float(np.max(error, initial=0.0))
    return worst if math.isfinite(worst) else sys.float_info.max
