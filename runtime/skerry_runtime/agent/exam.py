"""The golden exam: the same questions for every copy of a model, before it may answer anyone."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np

from skerry_runtime.agent.npz import Arrays
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.sample import DTYPES
from skerry_runtime.agent.score import (
    LABELS_KEY,
    Array,
    InvalidExam,
    Marks,
    has_nan,
    joined,
    mark,
    score,
)
from skerry_runtime.backends.base import Model, ModelMetadata, Tensors, TensorSpec
from skerry_runtime.contract import ExamResult, GoldenExam, GoldenMetric, is_known

BATCH = 64
BATCH_BYTES = 4 * MIB
"""Samples that reach a model at one time: few large ones, because the probe tried a single one."""
SOLE_INPUT_KEY = "inputs"
EXPECTED_KEY = "expected"


@dataclass(frozen=True)
class Exam:
    """Questions that fit a model, and what the answers are held against."""

    questions: Mapping[str, Array]
    answers: Mapping[str, Array]
    """LABELS_KEY -> labels, or an output's name -> its expected values."""
    metric: GoldenMetric
    threshold: float
    samples: int
    batch: int
    is_batch_fixed: bool


@dataclass(frozen=True)
class Grade:
    """A result and the words for it."""

    result: ExamResult
    message: str


def prepare(golden: GoldenExam, arrays: Arrays, metadata: ModelMetadata) -> Exam:
    """Fit the golden file to the model.

    Raises:
        InvalidExam: a key is missing, its shape, type or length does not fit, or the metric is
            one that this runtime does not know.
    """
    if not is_known(golden.metric):
        raise InvalidExam(f"this runtime knows no metric '{golden.metric}': it needs a newer image")
    questions = {spec.name: _question(spec, arrays, metadata) for spec in metadata.inputs}
    answers = _answers(golden.metric, arrays, metadata)
    samples = _common_length({**questions, **answers})
    batch = _fixed_batch(metadata)
    return Exam(
        questions,
        answers,
        golden.metric,
        parse_threshold(golden.threshold),
        samples,
        batch or _fitting(questions, samples),
        batch is not None,
    )


def run(exam: Exam, model: Model) -> Grade:
    """Put every question to the model and mark the answers batch by batch. Blocking.

    No answer is kept: a few samples may have large ones.

    Raises:
        InvalidExam: the outputs cannot be held against what the file expects.
        InferenceFailed: the model failed on a question.
    """
    marks: Marks = {}
    for start, outputs, count in _batches(exam, model):
        given = {name: _rows(name, np.asarray(a), count, exam) for name, a in outputs.items()}
        if any(has_nan(array) for array in given.values()):
            return _failed_by_nan(exam)
        answers = {name: array[start : start + count] for name, array in exam.answers.items()}
        marks = joined(exam.metric, marks, mark(exam.metric, answers, given))
    return _judged(exam, score(exam.metric, marks, exam.samples))


def first_questions(arrays: Arrays, metadata: ModelMetadata) -> Tensors:
    """Return the first sample of the golden file, or the first batch where its size is fixed.

    Raises:
        InvalidExam: the file does not fit the model.
    """
    questions = {spec.name: _question(spec, arrays, metadata) for spec in metadata.inputs}
    _common_length(questions)
    size = _fixed_batch(metadata) or 1
    return {name: _padded(array[:size], size) for name, array in questions.items()}


def parse_threshold(text: str) -> float:
    """Return the threshold as a number.

    Raises:
        InvalidExam: it is none, or not finite.
    """
    try:
        value = float(Decimal(text))
    except (InvalidOperation, OverflowError, ValueError) as err:  # ValueError: a signalling NaN
        raise InvalidExam(f"the threshold {text!r} is no decimal number") from err
    if not math.isfinite(value):
        raise InvalidExam(f"the threshold {text!r} is not finite")
    return value


def _question(spec: TensorSpec, arrays: Arrays, metadata: ModelMetadata) -> Array:
    is_sole = len(metadata.inputs) == 1
    array = arrays.get(spec.name, arrays.get(SOLE_INPUT_KEY) if is_sole else None)
    if array is None:
        hint = f" or '{SOLE_INPUT_KEY}'" if is_sole else ""
        raise InvalidExam(f"the golden file has no array '{spec.name}'{hint}")
    _require_shape(spec, array)
    return _as_datatype(spec, array)


def _require_shape(spec: TensorSpec, array: Array) -> None:
    if not spec.shape:
        raise InvalidExam(f"input '{spec.name}' has no batch axis: it cannot be examined")
    wanted, found = spec.shape[1:], array.shape[1:]
    fits = len(wanted) == len(found) and all(
        w in (-1, f) for w, f in zip(wanted, found, strict=True)
    )
    if array.ndim == 0 or not fits:
        raise InvalidExam(
            f"array '{spec.name}' has shape {list(array.shape)}, the model takes {list(spec.shape)}"
        )


def _as_datatype(spec: TensorSpec, array: Array) -> Array:
    """Convert within a kind, as numpy's float64 to the model's FP32; never float to integer."""
    if spec.datatype == "BYTES":
        return _as_texts(array)
    dtype = np.dtype(DTYPES.get(spec.datatype, np.float32))
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise InvalidExam(f"array '{spec.name}' is {array.dtype}, the model takes {spec.datatype}")
    return np.ascontiguousarray(array, dtype=dtype)


def _as_texts(array: Array) -> Array:
    texts = np.empty(array.shape, dtype=object)
    texts[...] = np.char.encode(array.astype(str), "utf-8")
    return texts


def _answers(metric: GoldenMetric, arrays: Arrays, metadata: ModelMetadata) -> dict[str, Array]:
    if metric is GoldenMetric.ACCURACY:
        return {LABELS_KEY: _flat_labels(arrays)}
    named = {
        spec.name: arrays[f"{EXPECTED_KEY}_{spec.name}"]
        for spec in metadata.outputs
        if f"{EXPECTED_KEY}_{spec.name}" in arrays
    }
    if named:
        return named
    if EXPECTED_KEY not in arrays:
        raise InvalidExam(f"the golden file has no array '{EXPECTED_KEY}', which {metric} needs")
    return {metadata.outputs[0].name: arrays[EXPECTED_KEY]}


def _flat_labels(arrays: Arrays) -> Array:
    labels = arrays.get(LABELS_KEY)
    if labels is None:
        raise InvalidExam(f"the golden file has no array '{LABELS_KEY}', which Accuracy needs")
    if labels.ndim == 0 or labels.size != labels.shape[0]:
        raise InvalidExam(f"array '{LABELS_KEY}' must hold one label per sample")
    return labels.reshape(-1)


def _common_length(arrays: Mapping[str, Array]) -> int:
    lengths = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    first = next(iter(lengths.values()), 0)
    other = next((name for name, length in lengths.items() if length != first), None)
    if other is not None:
        raise InvalidExam(f"array '{other}' holds {lengths[other]} samples, others hold {first}")
    if first == 0:
        raise InvalidExam("the golden file holds no sample")
    return first


def _fixed_batch(metadata: ModelMetadata) -> int | None:
    sizes = [spec.shape[0] for spec in metadata.inputs if spec.shape and spec.shape[0] > 0]
    return sizes[0] if sizes else None


def _fitting(questions: Mapping[str, Array], samples: int) -> int:
    """Return how many samples go into one batch of a free size."""
    sample_bytes = max(1, sum(array.nbytes for array in questions.values()) // samples)
    return max(1, min(BATCH, BATCH_BYTES // sample_bytes))


def _batches(exam: Exam, model: Model) -> Iterator[tuple[int, Tensors, int]]:
    """Yield where a batch begins, its outputs, and how many samples it had."""
    for start in range(0, exam.samples, exam.batch):
        rows = {name: array[start : start + exam.batch] for name, array in exam.questions.items()}
        count = min(exam.batch, exam.samples - start)
        fed = {n: _padded(a, exam.batch) for n, a in rows.items()} if exam.is_batch_fixed else rows
        yield start, model.infer(fed), count


def _padded(array: Array, size: int) -> Array:
    """Repeat the last sample up to the size that the model wants."""
    short = size - array.shape[0]
    return array if short <= 0 else np.concatenate([array, np.repeat(array[-1:], short, axis=0)])


def _rows(name: str, array: Array, count: int, exam: Exam) -> Array:
    fed = exam.batch if exam.is_batch_fixed else count
    if array.ndim == 0 or array.shape[0] != fed:
        raise InvalidExam(f"output '{name}' does not have one row per sample")
    return array[:count]


def _judged(exam: Exam, value: float) -> Grade:
    higher = exam.metric.higher_is_better
    passed = value >= exam.threshold if higher else value <= exam.threshold
    side = "under" if higher else "over"
    message = (
        f"{exam.metric} {value:.4g} is {side} the threshold {exam.threshold:g} "
        f"({exam.samples} samples)"
    )
    return Grade(_result(exam, value, passed=passed), "" if passed else message)


def _failed_by_nan(exam: Exam) -> Grade:
    """Report the worst value there is: NaN has no place in JSON."""
    worst = 0.0 if exam.metric.higher_is_better else sys.float_info.max
    message = f"the model's outputs hold NaN ({exam.samples} samples)"
    return Grade(_result(exam, worst, passed=False), message)


def _result(exam: Exam, value: float, *, passed: bool) -> ExamResult:
    return ExamResult(
        metric=exam.metric,
        value=value,
        threshold=exam.threshold,
        passed=passed,
        samples=exam.samples,
    )
