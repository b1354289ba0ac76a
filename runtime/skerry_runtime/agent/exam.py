"""The golden exam: the same questions for every copy of a model, before it may answer anyone."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np

from skerry_runtime.agent.boxes import MeanIoU, read_boxes
from skerry_runtime.agent.convert import bf16_numbers
from skerry_runtime.agent.golden import GoldenForm, Portion, SampleRows
from skerry_runtime.agent.goldenkeys import GoldenKeys, read_form, sort_keys
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.agent.score import (
    EXPECTED_KEY,
    LABELS_KEY,
    Accuracy,
    Array,
    ChoiceAgreement,
    InvalidExam,
    LargestError,
    Marks,
    Scoring,
    is_free_of_nan,
    joined_marks,
    output_name,
)
from skerry_runtime.agent.sequences import SequenceAgreement, read_sequences
from skerry_runtime.backends.base import Model, ModelMetadata, Stateful, Tensors, on_fresh_state
from skerry_runtime.contract import ExamResult, GoldenExam, GoldenMetric, is_known


@dataclass(frozen=True)
class Exam:
    """Questions that fit a model, and how its answers are scored."""

    form: GoldenForm
    scoring: Scoring
    metric: GoldenMetric
    threshold: float

    @property
    def size(self) -> str:
        """How much is asked, in words."""
        kind = "sample" if isinstance(self.form, SampleRows) else "request"
        return f"{self.form.count} {kind}{'s' * (self.form.count != 1)}"


@dataclass(frozen=True)
class Grade:
    """A result and the words for it."""

    result: ExamResult
    message: str


class _NoRows(Exception):  # noqa: N818 (says what the output has)
    """An output has no row per sample."""


_METRICS: Mapping[GoldenMetric, Callable[[Arrays], Scoring]] = {
    GoldenMetric.ACCURACY: lambda _: Accuracy(),
    GoldenMetric.AGREEMENT: lambda _: ChoiceAgreement(),
    GoldenMetric.MAX_ABS_ERROR: lambda _: LargestError(),
    GoldenMetric.MEAN_IOU: lambda arrays: MeanIoU(read_boxes(arrays)),
    GoldenMetric.SEQUENCE_AGREEMENT: lambda arrays: SequenceAgreement(read_sequences(arrays)),
}


def prepare(golden: GoldenExam, arrays: Arrays, metadata: ModelMetadata) -> Exam:
    """Fit the golden file to the model.

    Raises:
        InvalidExam: a key is missing, its shape, type or length does not fit, or the metric is
            one that this runtime does not know.
    """
    if not is_known(golden.metric):
        raise InvalidExam(f"this runtime knows no metric '{golden.metric}': it needs a newer image")
    keys = sort_keys(arrays, metadata)
    form = read_form(keys, _wanted(golden.metric, keys))
    if golden.metric is GoldenMetric.ACCURACY:
        _require_one_label_each(form)
    scoring = _METRICS[golden.metric](arrays)
    return Exam(form, scoring, golden.metric, parse_threshold(golden.threshold))


def run(exam: Exam, model: Model) -> Grade:
    """Put every question to the model and mark the answers, portion by portion. Blocking.

    No answer is kept: a few samples may have large ones.

    Raises:
        InvalidExam: the outputs cannot be held against what the file expects.
        InferenceFailed: the model failed on a question.
    """
    marks: Marks | None
    form: GoldenForm | None = exam.form
    if isinstance(model, Stateful):  # a state has its order: one sample after another
        form = exam.form.by_request()
    try:
        marks = _marked(exam, form or exam.form, model)
    except _NoRows as err:
        form = exam.form.by_request()
        if form is None:
            raise InvalidExam(str(err)) from err
        marks = _marked(exam, form, model)
    if marks is None:
        return _failed_by_nan(exam)
    note = next((mark.note for mark in marks.values() if mark.note), "")
    return _judged(exam, exam.scoring.score(marks), note)


def largest_questions(
    arrays: Arrays, metadata: ModelMetadata, metric: GoldenMetric | None
) -> Tensors:
    """Return the questions of the largest portion: what they take, the exam takes.

    Raises:
        InvalidExam: the file does not fit the model.
    """
    keys = sort_keys(arrays, metadata)
    wanted = keys.answers if metric is None else _wanted(metric, keys)
    return read_form(keys, wanted).largest()


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


def _wanted(metric: GoldenMetric, keys: GoldenKeys) -> tuple[str, ...]:
    """Return the keys of what the metric holds answers against."""
    expected = tuple(key for key in keys.answers if key != LABELS_KEY)
    labels = tuple(key for key in keys.answers if key == LABELS_KEY)
    found = {
        GoldenMetric.ACCURACY: labels,
        GoldenMetric.SEQUENCE_AGREEMENT: expected or labels,
    }.get(metric, expected)
    if found:
        return found
    key = LABELS_KEY if metric is GoldenMetric.ACCURACY else EXPECTED_KEY
    raise InvalidExam(f"the golden file has no array '{key}', which {metric} needs")


def _require_one_label_each(form: GoldenForm) -> None:
    if isinstance(form, SampleRows) and form.answers[LABELS_KEY].size != form.count:
        raise InvalidExam(f"array '{LABELS_KEY}' must hold one label per sample")


def _marked(exam: Exam, form: GoldenForm, model: Model) -> Marks | None:
    """Mark every portion; None when an answer holds NaN."""
    bfloats = {spec.name for spec in model.metadata.outputs if spec.datatype == "BF16"}
    marks: Marks = {}
    with on_fresh_state(model) as asked:
        for portion in form.portions():
            new = _marks_of(exam, portion, asked, bfloats)
            if new is None:
                return None
            marks = joined_marks(exam.scoring, marks, new)
    return marks


def _marks_of(exam: Exam, portion: Portion, model: Model, bfloats: set[str]) -> Marks | None:
    outputs = model.infer(portion.questions)
    arrays = {
        name: bf16_numbers(array) if name in bfloats else np.asarray(array)
        for name, array in outputs.items()
    }
    given = arrays if portion.rows is None else _rows(arrays, portion)
    expected = {output_name(key): array for key, array in portion.answers.items()}
    if not all(is_free_of_nan(array, expected.get(name)) for name, array in given.items()):
        return None
    return exam.scoring.mark(portion.answers, given, rows=portion.rows is not None)


def _rows(arrays: Mapping[str, Array], portion: Portion) -> dict[str, Array]:
    """Return the rows of the samples, of every output that has some.

    Raises:
        _NoRows: one that is needed has none.
    """
    given = {n: a[: portion.rows] for n, a in arrays.items() if a.ndim and len(a) == portion.fed}
    needed = {output_name(key) for key in portion.answers if key != LABELS_KEY}
    lost = next((name for name in arrays if name not in given and name in needed), None)
    if lost is None and not given:
        lost = next(iter(arrays), None)
    if lost is not None:
        raise _NoRows(
            f"output '{lost}' does not have one row per sample: write whole requests into the "
            "golden file, as docs/exam.md shows"
        )
    return given


def _judged(exam: Exam, value: float, note: str) -> Grade:
    higher = exam.metric.higher_is_better
    if value >= exam.threshold if higher else value <= exam.threshold:
        return Grade(_result(exam, value, passed=True), "")
    side = "under" if higher else "over"
    verdict = f"{exam.metric} {value:.4g} is {side} the threshold {exam.threshold:g} ({exam.size})"
    return Grade(_result(exam, value, passed=False), f"{verdict}: {note}" if note else verdict)


def _failed_by_nan(exam: Exam) -> Grade:
    """Report the worst value there is: NaN has no place in JSON."""
    worst = 0.0 if exam.metric.higher_is_better else sys.float_info.max
    message = f"the model's outputs hold NaN ({exam.size})"
    return Grade(_result(exam, worst, passed=False), message)


def _result(exam: Exam, value: float, *, passed: bool) -> ExamResult:
    return ExamResult(
        metric=exam.metric,
        value=value,
        threshold=exam.threshold,
        passed=passed,
        samples=exam.form.count,
    )
