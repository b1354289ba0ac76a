"""Recovering what was pruned, and teaching a student: both learn what a teacher says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from skerry_optimize.calibration import EVERY_SAMPLE, feeds_of
from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.graphs import put_weights, shapes_of
from skerry_optimize.jaxgraph.graph import JaxGraph
from skerry_optimize.jaxgraph.registry import UnknownOperator
from skerry_optimize.training.loop import Course, trained
from skerry_optimize.training.losses import LEAST_SHARE, cross_entropy, divergence, squares
from skerry_optimize.training.targets import (
    AnswerKind,
    Targets,
    kinds_of_answers,
    targets_of,
)
from skerry_runtime.agent.npz import Arrays

RECOVER_RATE = 1e-3
DISTIL_RATE = 3e-3
WAY_OUT = (
    "train it where it was made, and give the result as a variant of its own; docs/optimise.md "
    "lists the operators"
)


@dataclass(frozen=True)
class Lesson:
    """How a student learns."""

    epochs: int
    temperature: float = 4.0
    alpha: float = 1.0
    """Share of the teacher's word; the rest is the labels'."""
    classes: bool = True
    """Whether outputs of two axes tell classes; else all are numbers."""


def recover(
    pruned: onnx.ModelProto, origin: onnx.ModelProto, data: Arrays, lesson: Lesson
) -> onnx.ModelProto:
    """Return the pruned model, trained to say what its origin says; zeros in matrices stay.

    Raises:
        StepRefused: a graph cannot be trained, or does not run.
        BadPlan: the data does not fit.
    """
    course = Course("recover", lesson.epochs, RECOVER_RATE)
    return _taught(course, pruned, origin, data, lesson)


def distil(
    student: onnx.ModelProto, teacher: onnx.ModelProto, data: Arrays, lesson: Lesson
) -> onnx.ModelProto:
    """Return the student, trained to say what the teacher says.

    Raises:
        StepRefused: a graph cannot be trained, does not run, or does not fit the other.
        BadPlan: the data does not fit, or has no labels where some are asked for.
    """
    course = Course("distil", lesson.epochs, DISTIL_RATE)
    return _taught(course, student, teacher, data, lesson)


def _taught(
    course: Course,
    student: onnx.ModelProto,
    teacher: onnx.ModelProto,
    data: Arrays,
    lesson: Lesson,
) -> onnx.ModelProto:
    graph = _graph(course.step, student)
    _require_free_batch(course.step, student)
    inputs = feeds_of(data, student, EVERY_SAMPLE).arrays
    targets = targets_of(course.step, teacher, data)
    names = list(kinds_of_answers(student))
    loss = LessonLoss(graph, names, _kinds(student), _kinds(teacher), lesson)
    _require_labels(course.step, targets, lesson)
    _require_same_answers(course.step, graph, names, inputs, targets)
    rows = {f"input {name}": array[: targets.count] for name, array in inputs.items()}
    rows |= {f"answer {n}": array for n, array in enumerate(targets.answers)}
    rows |= {} if targets.labels is None else {"labels": targets.labels}
    try:
        found = trained(course, loss, graph.weights, rows, keep_zeros=course.step == "recover")
    except UnknownOperator as err:
        raise StepRefused(f"{course.step}: {err}: {WAY_OUT}") from err
    made = onnx.ModelProto()
    made.CopyFrom(student)
    put_weights(made, found)
    return made


@dataclass(frozen=True)
class LessonLoss:
    """The loss: what a student says of a portion beside what the teacher said."""

    graph: JaxGraph
    names: list[str]
    own: list[AnswerKind]
    teachers: list[AnswerKind]
    lesson: Lesson

    def __call__(
        self, weights: Mapping[str, Any], portion: Mapping[str, Any]
    ) -> tuple[jax.Array, jax.Array]:
        """Return the loss, and the share of samples whose class is right (NaN: no classes)."""
        feed = {n.removeprefix("input "): a for n, a in portion.items() if n.startswith("input ")}
        said = self.graph(weights, feed)
        total, right = jnp.asarray(0.0), jnp.asarray(jnp.nan)
        for n, name in enumerate(self.names):
            own, other = said[name], portion[f"answer {n}"]
            if not self._tells_classes(own):
                total += squares(own, other)
                continue
            own, other = _logits(own, self.own[n]), _logits(other, self.teachers[n])
            total += self._of_classes(own, other, portion.get("labels"))
            truth = portion.get("labels", jnp.argmax(other, axis=-1))
            right = jnp.mean(jnp.argmax(own, axis=-1) == truth)
        return total, right

    def _of_classes(self, own: Any, other: Any, labels: Any) -> jax.Array:
        alpha = self.lesson.alpha
        soft = divergence(own, other, self.lesson.temperature)
        return soft if alpha == 1 else alpha * soft + (1 - alpha) * cross_entropy(own, labels)

    def _tells_classes(self, answer: Any) -> bool:
        return self.lesson.classes and answer.ndim == 2 and answer.shape[-1] > 1


def _logits(answer: Any, kind: AnswerKind) -> Any:
    """Return logits; those of shares are their logarithms, up to a constant that softmax drops."""
    return jnp.log(jnp.maximum(answer, LEAST_SHARE)) if kind is AnswerKind.SHARES else answer


def _kinds(model: onnx.ModelProto) -> list[AnswerKind]:
    return list(kinds_of_answers(model).values())


def _graph(step: str, model: onnx.ModelProto) -> JaxGraph:
    try:
        graph = JaxGraph(model, trains=True)
    except UnknownOperator as err:
        raise StepRefused(f"{step}: {err}: {WAY_OUT}") from err
    if not graph.weights:
        raise StepRefused(f"{step}: the model has no weights of 32-bit floats to train")
    return graph


def _require_free_batch(step: str, model: onnx.ModelProto) -> None:
    shapes, given = shapes_of(model), {one.name for one in model.graph.initializer}
    for one in model.graph.input:
        size = shapes.get(one.name, (-1,))[:1]
        if one.name not in given and size and size[0] > 0:
            raise StepRefused(
                f"{step}: input {one.name!r} has a fixed batch of {size[0]}: export the model with "
                "a dynamic first axis, and fix it afterwards with fixShapes"
            )


def _require_labels(step: str, targets: Targets, lesson: Lesson) -> None:
    if lesson.alpha < 1 and targets.labels is None:
        raise BadPlan(
            f"data: no array 'labels', and {step} has alpha {lesson.alpha:g}: give one whole "
            "number a sample, or alpha 1, which learns from the teacher alone"
        )
    if targets.labels is None or not lesson.classes or targets.answers[0].ndim != 2:
        return
    classes = targets.answers[0].shape[1]
    if (targets.labels < 0).any() or (targets.labels >= classes).any():
        raise BadPlan(
            f"data: array 'labels' goes from {targets.labels.min()} to {targets.labels.max()}, and "
            f"the teacher has {classes} classes: labels count from 0"
        )


def _require_same_answers(
    step: str,
    graph: JaxGraph,
    names: list[str],
    inputs: Mapping[str, np.ndarray[Any, Any]],
    targets: Targets,
) -> None:
    feed = {name: np.zeros((1, *a.shape[1:]), a.dtype) for name, a in inputs.items()}
    try:
        said = jax.eval_shape(graph, graph.weights, feed)
    except UnknownOperator as err:
        raise StepRefused(f"{step}: {err}: {WAY_OUT}") from err
    own = [tuple(said[name].shape[1:]) for name in names]
    other = [tuple(one.shape[1:]) for one in targets.answers]
    if own != other:
        raise StepRefused(
            f"{step}: the outputs of a sample have shapes {_lists(own)}, those of the teacher "
            f"{_lists(other)}: they must be the same"
        )


def _lists(shapes: list[tuple[int, ...]]) -> list[list[int]]:
    return [list(shape) for shape in shapes]
