"""The loop: Adam over shuffled portions, the same numbers in every run."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import Weights

PROGRESS = logging.getLogger("skerry_optimize.progress")
"""A line of JSON for each epoch."""
PORTION = 32
SEED = 0
MAX_SECONDS = 6 * 3600
"""Of one training."""
MAX_NORM = 1.0
"""Gradients longer than this are shortened: one odd portion must not undo what was learnt."""
Loss = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Any, Any]]
"""Takes weights and a portion; returns the loss, and the share of samples that are right."""


@dataclass(frozen=True)
class Course:
    """How it is learnt."""

    step: str
    """For people: recover or distil."""
    epochs: int
    rate: float
    """Of Adam at the beginning; it falls to nothing along half a cosine."""


def trained(
    course: Course,
    loss: Loss,
    weights: Mapping[str, Weights],
    data: Mapping[str, np.ndarray[Any, Any]],
    *,
    keep_zeros: bool,
) -> dict[str, Weights]:
    """Return weights that make the loss small; `keep_zeros`: what is zero in matrices stays so.

    Raises:
        StepRefused: the loss is no number any more, or time is over.
    """
    count = len(next(iter(data.values())))
    each = min(PORTION, count)
    steps = course.epochs * (count // each)
    optimizer = optax.chain(
        optax.clip_by_global_norm(MAX_NORM),
        optax.adam(optax.cosine_decay_schedule(course.rate, max(1, steps))),
    )
    masks = {n: (a != 0) | (a.ndim < 2 or not keep_zeros) for n, a in weights.items()}
    now = {name: jax.numpy.asarray(array) for name, array in weights.items()}
    state, update = optimizer.init(now), _update(optimizer, loss, masks)
    random, began = np.random.default_rng(SEED), time.monotonic()
    for epoch in range(1, course.epochs + 1):
        order, told = random.permutation(count), []
        for start in range(0, count - each + 1, each):
            rows = np.sort(order[start : start + each])
            portion = {name: array[rows] for name, array in data.items()}
            now, state, *figures = update(now, state, portion)
            told.append(figures)
        _say(course, epoch, told, time.monotonic() - began)
    return {name: np.asarray(array) for name, array in now.items()}


def _update(optimizer: Any, loss: Loss, masks: Mapping[str, Weights]) -> Callable[..., Any]:
    def update(now: Any, state: Any, portion: Any) -> Any:
        (value, right), slope = jax.value_and_grad(loss, has_aux=True)(now, portion)
        change, state = optimizer.update(slope, state, now)
        moved = optax.apply_updates(now, change)
        return {n: moved[n] * masks[n] for n in moved}, state, value, right

    return jax.jit(update)


def _say(course: Course, epoch: int, told: list[Any], seconds: float) -> None:
    loss, right = (float(np.mean([float(one[n]) for one in told])) for n in (0, 1))
    if not math.isfinite(loss):
        raise StepRefused(
            f"{course.step}: the loss is no number in epoch {epoch}: give inputs in the range "
            "that the model was made for, and a student whose weights are of ordinary size"
        )
    line: dict[str, Any] = {"step": course.step, "epoch": epoch, "epochs": course.epochs}
    line |= {"loss": round(loss, 6), "seconds": round(seconds, 1)}
    line |= {"accuracy": round(right, 4)} if math.isfinite(right) else {}
    PROGRESS.info(json.dumps(line))
    if seconds > MAX_SECONDS and epoch < course.epochs:
        raise StepRefused(
            f"{course.step}: {epoch} of {course.epochs} epochs took {seconds:.0f} s, at most "
            f"{MAX_SECONDS}: ask for fewer, or give fewer samples"
        )
