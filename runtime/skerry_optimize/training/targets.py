"""What a student is to say: the teacher's answers to all samples, and labels where there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from skerry_optimize.calibration import EVERY_SAMPLE, Feeds, feeds_of
from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.graphs import first_line
from skerry_runtime.agent.npz import Arrays

Floats = np.ndarray[Any, np.dtype[np.float32]]
LABELS = "labels"
MAX_DATA_BYTES = 2 * 1024**3
"""Of inputs and of answers, each."""
AT_ONCE = 64
"""Samples of one run of the teacher."""


class AnswerKind(StrEnum):
    """How an output tells classes."""

    LOGITS = "Logits"
    SHARES = "Shares"
    LOG_SHARES = "LogShares"


@dataclass(frozen=True)
class Targets:
    """What there is to learn from; rows belong together."""

    inputs: dict[str, np.ndarray[Any, Any]]
    answers: tuple[Floats, ...]
    """The teacher's, by the place among its outputs of floats."""
    labels: np.ndarray[Any, Any] | None

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.answers[0])


def kinds_of_answers(model: onnx.ModelProto) -> dict[str, AnswerKind]:
    """Return output -> what its last operator makes of logits."""
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    kinds = {"Softmax": AnswerKind.SHARES, "LogSoftmax": AnswerKind.LOG_SHARES}
    return {
        one.name: kinds.get(made_by.get(one.name, ""), AnswerKind.LOGITS)
        for one in model.graph.output
        if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def targets_of(step: str, teacher: onnx.ModelProto, data: Arrays) -> Targets:
    """Put all data to the teacher.

    Raises:
        BadPlan: the data does not fit, or is too much.
        StepRefused: the teacher has no output of floats, or fails.
    """
    feeds = feeds_of(data, teacher, EVERY_SAMPLE)
    _require_few(step, "inputs", sum(one.nbytes for one in feeds.arrays.values()))
    names = list(kinds_of_answers(teacher))
    if not names:
        raise StepRefused(f"{step}: the teacher has no output of 32-bit floats to learn from")
    inputs = {name: array[: feeds.count] for name, array in feeds.arrays.items()}
    parts: list[list[Floats]] = []
    for answers in _asked(step, teacher, names, feeds):
        parts.append(answers)
        share = sum(one.nbytes for one in parts[0]) * feeds.count // max(1, len(parts[0][0]))
        _require_few(step, "the teacher's answers", share)
    whole = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    if bad := [n for n, one in zip(names, whole, strict=True) if not np.isfinite(one).all()]:
        raise StepRefused(f"{step}: the teacher's output {bad[0]!r} holds what is no number")
    if any(len(one) != feeds.count for one in whole):
        raise StepRefused(f"{step}: an output of the teacher has no row for each sample")
    return Targets(inputs, whole, _labels(data, feeds.count))


def _require_few(step: str, what: str, size: int) -> None:
    if size > MAX_DATA_BYTES:
        raise BadPlan(
            f"data: {what} would take {size} bytes in {step}, at most {MAX_DATA_BYTES}: give fewer "
            "samples"
        )


def _asked(
    step: str, teacher: onnx.ModelProto, names: list[str], feeds: Feeds
) -> Iterator[list[Floats]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    each = feeds.rows if feeds.rows > 1 else AT_ONCE
    try:
        session = ort.InferenceSession(
            teacher.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for start in range(0, feeds.count, each):
            part = {name: array[start : start + each] for name, array in feeds.arrays.items()}
            part = {name: array[: feeds.count - start] for name, array in part.items()}
            yield [np.asarray(one) for one in session.run(names, part)]
    except Exception as err:  # ONNX Runtime has no base of its own for what it raises
        raise StepRefused(f"{step}: the teacher does not run: {first_line(err)}") from err


def _labels(data: Arrays, count: int) -> np.ndarray[Any, Any] | None:
    found = data.get(LABELS)
    if found is None:
        return None
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) < count:
        raise BadPlan(
            f"data: array {LABELS!r} has shape {list(found.shape)} of {found.dtype}: it is one "
            f"whole number for each of the {count} samples"
        )
    return np.asarray(found[:count], np.int32)
