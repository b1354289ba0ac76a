"""What each step of a plan does to a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from skerry_optimize.calibration import feeds_of
from skerry_optimize.errors import BadPlan
from skerry_optimize.graphs import read_graph
from skerry_optimize.ortformat import to_ort
from skerry_optimize.plan import (
    Action,
    Convert,
    Distil,
    FixShapes,
    Prune,
    PruneMode,
    Quantize,
    QuantizeMode,
    Recover,
    Student,
)
from skerry_optimize.prune.magnitude import prune_magnitude
from skerry_optimize.prune.structured import prune_structured
from skerry_optimize.quantize import quantize_dynamic, quantize_static, to_float16
from skerry_optimize.shapes import fix_shapes
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.contract import Format, GoldenMetric

if TYPE_CHECKING:
    from skerry_optimize.training.distillation import Lesson

_OF_CLASSES = (GoldenMetric.ACCURACY, GoldenMetric.AGREEMENT)


@dataclass(frozen=True)
class Supplies:
    """What steps are given beside the model."""

    origin: onnx.ModelProto
    folder: Path
    """Where files lie that `files` does not know."""
    data: Arrays = field(default_factory=dict)
    metric: GoldenMetric | None = None
    """Of the exam: says whether outputs tell classes."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """File, address or variant that the plan names -> where it lies."""


@dataclass(frozen=True)
class Made:
    """A model in the middle of its steps."""

    model: onnx.ModelProto
    """What the graph is, or was before it was converted."""
    format: Format = Format.ONNX
    converted: bytes = b""

    @property
    def content(self) -> bytes:
        """Return the file."""
        return self.converted or self.model.SerializeToString()


def stepped(made: Made, action: Action, given: Supplies) -> Made:
    """Return what a step makes of a model.

    Raises:
        StepRefused: it cannot be done with this model.
        BadPlan: the data or a file does not fit.
    """
    match action:
        case Convert(format="ORT"):
            return Made(made.model, Format.ORT, to_ort(made.model))
        case Convert():
            return _tflite(made)
        case Quantize() if made.format is Format.TFLITE:
            return _quantized_tflite(made, action, given)
        case _:
            return Made(_changed(made.model, action, given))


def _changed(model: onnx.ModelProto, action: Action, given: Supplies) -> onnx.ModelProto:
    match action:
        case FixShapes(inputs=wanted):
            return fix_shapes(model, wanted)
        case Prune():
            return _pruned(model, action)
        case Recover():
            return _recovered(model, action, given)
        case Distil():
            return _distilled(action, given)
        case Quantize():
            return _quantized(model, action, given)
        case Convert():
            raise AssertionError(action)  # taken by its caller


def _pruned(model: onnx.ModelProto, action: Prune) -> onnx.ModelProto:
    if action.mode is PruneMode.MAGNITUDE:
        return prune_magnitude(model, action.share)
    return prune_structured(model, action.share).model


def _quantized(model: onnx.ModelProto, action: Quantize, given: Supplies) -> onnx.ModelProto:
    match action.mode:
        case QuantizeMode.DYNAMIC:
            return quantize_dynamic(model)
        case QuantizeMode.STATIC:
            return quantize_static(model, feeds_of(given.data, model))
        case QuantizeMode.FLOAT16:
            return to_float16(model)


def _recovered(model: onnx.ModelProto, action: Recover, given: Supplies) -> onnx.ModelProto:
    from skerry_optimize.training.distillation import Lesson, recover  # noqa: PLC0415 (JAX)

    lesson = Lesson(action.epochs, classes=_tells_classes(given))
    return recover(model, given.origin, given.data, lesson)


def _distilled(action: Distil, given: Supplies) -> onnx.ModelProto:
    from skerry_optimize.training.distillation import distil  # noqa: PLC0415 (JAX)

    teacher = given.origin
    if action.teacher is not None and action.teacher in given.files:
        teacher = read_graph(given.files[action.teacher].read_bytes())
    elif action.teacher is not None:
        raise BadPlan(f"distil.teacher: no variant {action.teacher!r}: leave it out for the origin")
    return distil(_student(action.student, given), teacher, given.data, _lesson(action, given))


def _lesson(action: Distil, given: Supplies) -> Lesson:
    from skerry_optimize.training.distillation import Lesson  # noqa: PLC0415 (JAX)

    temperature, alpha = float(action.temperature), float(action.alpha)
    return Lesson(action.epochs, temperature, alpha, _tells_classes(given))


def _student(student: Student, given: Supplies) -> onnx.ModelProto:
    name = student.file or student.uri or ""
    path = given.files.get(name, given.folder / (student.file or "."))
    if not path.is_file():
        raise BadPlan(f"distil.student: {name!r} is not here: fetch it, and name the file")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if student.sha256 is not None and found != student.sha256:
        raise BadPlan(f"distil.student: {name!r} has sha256 {found}, not {student.sha256}")
    return read_graph(content)


def _tells_classes(given: Supplies) -> bool:
    """Tell whether outputs of two axes are classes: the exam, labels or a softmax say so."""
    if given.metric in _OF_CLASSES or "labels" in given.data:
        return True
    made_by = {name: node.op_type for node in given.origin.graph.node for name in node.output}
    kinds = {made_by.get(one.name) for one in given.origin.graph.output}
    return bool(kinds & {"Softmax", "LogSoftmax"})


def _tflite(made: Made) -> Made:
    from skerry_optimize.tflite.convert import to_tflite  # noqa: PLC0415 (JAX, and the converter)

    return Made(made.model, Format.TFLITE, to_tflite(made.model))


def _quantized_tflite(made: Made, action: Quantize, given: Supplies) -> Made:
    from skerry_optimize.tflite.quantize import (  # noqa: PLC0415 (a large library)
        quantize_tflite_dynamic,
        quantize_tflite_static,
    )

    if action.mode is QuantizeMode.DYNAMIC:
        return Made(made.model, Format.TFLITE, quantize_tflite_dynamic(made.content))
    feeds = feeds_of(given.data, made.model)
    return Made(made.model, Format.TFLITE, quantize_tflite_static(made.content, feeds))
