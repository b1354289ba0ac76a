"""Lets a prepared model answer a sample of live requests in the shadow, and compares the answers.

Clients never wait for it: a request is passed on only after its own answer is there, one at a time,
to a thread of its own, and so seldom that the shadow runs for at most `SHARE` of the time.
Whatever the prepared model does is counted here and goes no further.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skerry_runtime.backends.base import Model, Tensors
from skerry_runtime.contract import Agreement

SHARE = 0.1
"""Share of the time for which the shadow may run."""
LEAST_GAP_S = 0.005
"""Least time between two shadow runs: waking a thread costs a small model more than its run."""
RELATIVE_TOLERANCE = 0.01
ABSOLUTE_TOLERANCE = 1e-3
"""Numbers a (stable's) and b agree when |a - b| <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * |a|:
what another precision of the same model differs by, and another model does not keep to."""

Array = npt.NDArray[np.generic]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """One request in the shadow."""

    items: int
    agreed: int
    max_abs_error: float = 0.0
    error: str = ""
    """How the prepared model failed; empty: it answered."""


Compare = Callable[[Tensors], Comparison]
"""Runs the prepared model on a request's inputs and compares."""


class Mirror:
    """Compares a prepared model with the one that serves. Safe from any thread."""

    def __init__(
        self, model: Model, wanted: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._wanted = wanted
        self._clock = clock
        self._idle = threading.Lock()  # held while a request is in the shadow, and after `close`
        self._not_before = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="skerry-shadow")
        self._tally = Agreement()
        self._runs = 0
        self._run_s = 0.0

    @property
    def is_full(self) -> bool:
        """Tell whether as many answers as wanted were compared."""
        return self._tally.compared >= self._wanted

    @property
    def agreement(self) -> Agreement:
        """What was found so far."""
        return self._tally

    def offer(self, inputs: Tensors, answers: Tensors) -> None:
        """Pass on a request that was answered, or let it go by: never waits, never raises."""
        self._offer(inputs, lambda own: self._answered(own, answers))

    def offer_failed(self, inputs: Tensors, outputs: Sequence[str] | None) -> None:
        """Pass on a request on which the serving model failed; as `offer`."""
        self._offer(inputs, lambda own: self._failed(own, outputs))

    def _offer(self, inputs: Tensors, compare_on: Compare) -> None:
        if self.is_full or self._clock() < self._not_before:
            return
        if not self._idle.acquire(blocking=False):
            return
        try:
            # what only looks into a connection's buffer is another request's a moment later
            own = {name: a if a.flags.owndata else a.copy() for name, a in inputs.items()}
            self._thread.submit(self._compare, own, compare_on)
        except (RuntimeError, MemoryError):  # no thread or no memory to be had: this one goes by
            self._idle.release()

    def close(self) -> None:
        """Take no more requests; blocks until the one in the shadow is done."""
        self._idle.acquire()
        self._thread.shutdown(wait=False)

    def _compare(self, inputs: Tensors, compare_on: Compare) -> None:
        try:
            began = self._clock()
            comparison = compare_on(inputs)
            ended = self._clock()
            self._count(comparison, ended - began)
            self._not_before = ended + max(LEAST_GAP_S, (ended - began) * (1 / SHARE - 1))
        finally:
            self._idle.release()

    def _answered(self, inputs: Tensors, answers: Tensors) -> Comparison:
        items = items_of(inputs, answers)
        try:
            return compare(answers, self._model.infer(inputs, tuple(answers)), items)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the prepared model's)
            return Comparison(items, 0, error=f"{type(error).__name__}: {error}")

    def _failed(self, inputs: Tensors, outputs: Sequence[str] | None) -> Comparison:
        """Agree where both fail; where only the serving model does, there is nothing to compare.

        It is one item, however many rows: which of them it fails on is not known.
        """
        try:
            self._model.infer(inputs, outputs)
        except Exception:  # noqa: BLE001 (any failure is one)
            return Comparison(1, 1)
        return Comparison(0, 0)

    def _count(self, comparison: Comparison, seconds: float) -> None:
        self._runs += 1
        self._run_s += seconds
        before = self._tally
        failed = comparison.items if comparison.error else 0
        self._tally = Agreement(
            compared=before.compared + comparison.items,
            agreed=before.agreed + comparison.agreed,
            errors=before.errors + failed,
            max_abs_error=max(before.max_abs_error, comparison.max_abs_error),
            mean_ms=round(1000 * self._run_s / self._runs, 3),
            message=clipped(comparison.error) or before.message,
        )


def items_of(inputs: Tensors, answers: Tensors) -> int:
    """Return the length of the batch: the first axis, where all tensors have the same; else 1."""
    lengths = {a.shape[0] if a.ndim else 0 for a in (*inputs.values(), *answers.values())}
    (length, *others) = lengths or {0}
    return length if not others and length > 0 else 1


def compare(answers: Tensors, shadow: Tensors, items: int) -> Comparison:
    """Return how many items of a batch agree: in every output.

    An output agrees where both models name the same class (floats with a last axis of several:
    equal argmax), else where all numbers are within the tolerance, else where all are equal
    (also BF16, which numpy has no type for).
    """
    agree: Bools = np.ones(items, np.bool_)
    worst = 0.0
    for name, answer in answers.items():
        other = shadow[name]
        if other.shape != answer.shape or other.dtype != answer.dtype:
            return Comparison(items, 0, worst)
        agree &= _agree(answer, other, items)
        worst = max(worst, _max_abs_error(answer, other))
    return Comparison(items, int(agree.sum()), worst)


def _agree(answer: Array, other: Array, items: int) -> Bools:
    """Return for each item whether the output agrees."""
    if answer.size == 0:
        return np.ones(items, np.bool_)
    if not np.issubdtype(answer.dtype, np.floating):
        same = np.asarray(answer == other)
    elif _has_classes(answer, items):
        same = np.asarray(np.argmax(answer, axis=-1) == np.argmax(other, axis=-1))
        same &= np.isnan(answer).any(axis=-1) == np.isnan(other).any(axis=-1)
    else:
        same = np.isclose(other, answer, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True)
    return np.asarray(same.reshape(items, -1).all(axis=1))


def _has_classes(answer: Array, items: int) -> bool:
    """Tell whether the last axis is one of scores, and not that of the batch."""
    is_batch = answer.ndim == 1 and items > 1
    return answer.ndim >= 1 and answer.shape[-1] > 1 and not is_batch


def _max_abs_error(answer: Array, other: Array) -> float:
    """Return the largest difference of two finite numbers; 0 for what are no numbers."""
    if not np.issubdtype(answer.dtype, np.floating):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(other.astype(np.float64) - answer.astype(np.float64))
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0))


def clipped(text: str) -> str:
    """Return the text in one line that a report takes."""
    return "".join(c if c.isprintable() else " " for c in text)[:256]
