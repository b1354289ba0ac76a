"""Dynamic batching: requests that wait at one time share one run of the model.

Pays where a run costs hardly more for several inputs than for one (large weights, an
accelerator), and only costs where it does not. `decide` finds out on the loaded model, with the
first request that comes; in mode Auto it also leaves batching off where answers would change.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from skerry_runtime.backends.base import Model, ModelMetadata, Stateful, Tensors
from skerry_runtime.contract import Batching, BatchingMode
from skerry_runtime.coupling import MAX_OWN_ROWS, find_coupling
from skerry_runtime.errors import ServingError

TRIALS = 5
TRIAL_BUDGET_S = 1.0
"""Runs per size that a measurement takes, fewer when they take longer than this together."""

LEAST_GAIN_S = 50e-6
LEAST_GAIN_SHARE = 0.2
"""What batching must save per input: more than handing over to a thread and back, and a fifth."""


@dataclass(slots=True)
class Feed:
    """A checked request: what the engine gets."""

    inputs: Tensors
    outputs: tuple[str, ...]
    size_bytes: int


class Waits:
    """Adds up the time before runs in threads. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count, self.seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """Add one request's wait."""
        with self._lock:
            self.count += 1
            self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """Run time per input, alone and in a batch."""

    size: int
    alone_s: float
    batched_s: float

    @property
    def helps(self) -> bool:
        """Tell whether a batch saves more than batching costs."""
        return self.alone_s - self.batched_s > max(LEAST_GAIN_S, LEAST_GAIN_SHARE * self.alone_s)


@dataclass(frozen=True, slots=True)
class BatchingDecision:
    """Whether a model's requests are batched, and why."""

    is_on: bool
    reason: str
    figures: Figures | None = None
    warning: str = ""
    """What is wrong with batching although it is on; empty: nothing."""
    is_final: bool = True
    """False: this request could not tell; the next may."""


@dataclass(slots=True)
class Item:
    """A request that waits for its batch."""

    feed: Feed
    rows: int
    received: float
    since: float
    future: Future[Tensors] = field(default_factory=Future)


@dataclass(slots=True)
class BatchCount:
    """Runs with so many rows."""

    runs: int = 0
    seconds: float = 0.0


def obstacle(metadata: ModelMetadata) -> str | None:
    """Return why a model's requests cannot share a run, or None."""
    for role, specs in (("input", metadata.inputs), ("output", metadata.outputs)):
        for spec in specs:
            if spec.any_shape:
                return f"{role} '{spec.name}' has no declared shape"
            if not spec.shape or spec.shape[0] != -1:
                return f"{role} '{spec.name}' has no dynamic first axis"
    return None


def decide(batching: Batching, model: Model, feed: Feed) -> BatchingDecision:
    """Decide for a loaded model by running it; in mode On only to warn.

    Args:
        batching: what was asked for.
        model: the loaded model.
        feed: a request; its arrays must stay as they are.

    Raises:
        ServingError: the model failed on `feed`.
    """
    why_not = obstacle(model.metadata)
    if why_not is None and isinstance(model, Stateful):
        why_not = "the model keeps a state"
    if why_not is not None:
        return BatchingDecision(False, why_not)
    if batching.mode is BatchingMode.ON:
        return _as_asked(batching, model, feed)
    figures = measure(model, feed, batching.max_size)
    if not figures.helps:
        return BatchingDecision(False, "a batch saves too little", figures)
    coupling = find_coupling(model, feed.inputs, feed.outputs, batching.max_size)
    if not coupling.is_known:
        text = "no row unlike those of the requests so far could be made to compare with"
        return BatchingDecision(False, text, figures, is_final=False)
    if coupling.text:
        return BatchingDecision(False, coupling.text, figures)
    return BatchingDecision(True, "a batch is cheaper", figures)


def _as_asked(batching: Batching, model: Model, feed: Feed) -> BatchingDecision:
    try:
        coupling = find_coupling(model, feed.inputs, feed.outputs, batching.max_size)
    except ServingError:  # the request's fault or the model's: its own run will tell
        return BatchingDecision(True, "asked for")
    if not coupling.text:
        return BatchingDecision(True, "asked for")
    return BatchingDecision(True, f"asked for, but {coupling.text}", warning=coupling.text)


def kept(feed: Feed) -> Feed:
    """Return the request's first rows in memory of their own, for a trial in another thread."""
    inputs = {name: array[:MAX_OWN_ROWS].copy() for name, array in feed.inputs.items()}
    return Feed(inputs, feed.outputs, feed.size_bytes)


def measure(model: Model, feed: Feed, size: int) -> Figures:
    """Time the model on one request's input and on a batch of it.

    Raises:
        ServingError: the model failed.
    """
    one = {name: array[:1] for name, array in feed.inputs.items()}
    many = {name: np.repeat(array[:1], size, axis=0) for name, array in feed.inputs.items()}
    return Figures(size, _best(model, one, feed.outputs), _best(model, many, feed.outputs) / size)


def _best(model: Model, inputs: Tensors, outputs: Sequence[str]) -> float:
    """Return the shortest of some runs in seconds: what disturbs a run only makes it longer."""
    times: list[float] = []
    while len(times) < TRIALS and sum(times) < TRIAL_BUDGET_S:
        began = time.perf_counter()
        model.infer(inputs, outputs)
        times.append(time.perf_counter() - began)
    return min(times)


def rows_of(feed: Feed) -> int | None:
    """Return the length of the inputs' first axis, None when they differ."""
    lengths = {array.shape[0] for array in feed.inputs.values()}
    return lengths.pop() if len(lengths) == 1 else None


def merge(feeds: Sequence[Feed]) -> Tensors:
    """Join requests of one shape along the first axis."""
    first = feeds[0].inputs
    return {name: np.concatenate([feed.inputs[name] for feed in feeds]) for name in first}


def split(results: Tensors, rows: Sequence[int]) -> list[Tensors] | None:
    """Give every request its rows; None when the outputs do not have one per input row."""
    if any(array.shape[:1] != (sum(rows),) for array in results.values()):
        return None
    parts: list[Tensors] = []
    start = 0
    for count in rows:
        parts.append({name: array[start : start + count] for name, array in results.items()})
        start += count
    return parts


Key = tuple[object, ...]


def _key(feed: Feed) -> Key:
    """Return what requests must have in common to share a run."""
    shapes = tuple((name, array.dtype, array.shape[1:]) for name, array in feed.inputs.items())
    return (*sorted(shapes, key=lambda shape: shape[0]), feed.outputs)


class Runs(Protocol):
    """What a batch is run on."""

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once, as `Model.infer`."""
        ...


class Batcher:
    """Collects the requests of one model. Lives on one event loop; runs in threads.

    A pile is run when it is full, or when a thread is free and its oldest request has waited
    `max_delay_s`. With a delay of 0 nobody waits for company: what came while the threads were
    busy goes together.
    """

    def __init__(self, model: Runs, batching: Batching, pool: Executor, workers: int) -> None:
        self._model = model
        self._batching = batching
        self._pool = pool
        self._free = workers
        self._loop = asyncio.get_running_loop()
        self._piles: dict[Key, list[Item]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()
        self._counts: dict[int, BatchCount] = {}
        self.waits = Waits()
        self.saved = 0
        """Requests less runs."""

    def submit(self, feed: Feed, received: float) -> Future[Tensors]:
        """Put a request on its pile; its future may be cancelled until it runs."""
        rows = rows_of(feed)
        item = Item(feed, rows or 0, received, self._loop.time())
        key: Key = _key(feed) if rows and rows < self._batching.max_size else (id(item),)
        self._piles.setdefault(key, []).append(item)
        self._start_due()
        return item.future

    def counts(self) -> tuple[tuple[int, int, float], ...]:
        """Return rows, runs and seconds of the runs so far."""
        with self._lock:
            return tuple((rows, c.runs, c.seconds) for rows, c in sorted(self._counts.items()))

    def _start_due(self) -> None:
        """Run what may run now; for the rest set the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        while self._piles and self._free > 0:
            key = min(self._piles, key=self._due_at)
            wait_s = self._due_at(key) - now
            if wait_s > 0:
                self._timer = self._loop.call_later(wait_s, self._start_due)
                return
            self._start(self._take(key))

    def _due_at(self, key: Key) -> float:
        """Return when a pile may run: at once when it is full, else after the delay.

        Both count from its oldest request, so that full piles of one shape let others by.
        """
        pile = self._piles[key]
        is_full = sum(item.rows for item in pile) >= self._batching.max_size or len(key) == 1
        return pile[0].since + (0.0 if is_full else self._batching.max_delay_s)

    def _take(self, key: Key) -> list[Item]:
        """Take from a pile what fits into one run, oldest first."""
        pile, taken, rows = self._piles[key], 0, 0
        while taken < len(pile) and (not taken or rows + pile[taken].rows <= self._max_size):
            rows += pile[taken].rows
            taken += 1
        items, self._piles[key] = pile[:taken], pile[taken:]
        if not self._piles[key]:
            del self._piles[key]
        return items

    @property
    def _max_size(self) -> int:
        return self._batching.max_size

    def _start(self, items: list[Item]) -> None:
        self._free -= 1
        try:
            self._pool.submit(self._run, items)
        except RuntimeError as error:  # the pool is closed, or the system has no thread left
            self._free += 1
            for item in items:
                item.future.set_exception(error)

    def _run(self, items: list[Item]) -> None:
        """Run in a thread; whatever happens, the thread's place is given back."""
        now = time.perf_counter()
        try:
            for item in items:
                self.waits.add(now - item.received)
            self._answer([i for i in items if i.future.set_running_or_notify_cancel()])
        finally:
            self._loop.call_soon_threadsafe(self._freed)

    def _freed(self) -> None:
        self._free += 1
        self._start_due()

    def _answer(self, items: list[Item]) -> None:
        if len(items) > 1 and self._answer_together(items):
            return
        for item in items:
            try:
                item.future.set_result(self._timed(item.feed.inputs, item))
            except Exception as error:  # noqa: BLE001 the client is told, whatever it is
                item.future.set_exception(error)

    def _answer_together(self, items: list[Item]) -> bool:
        """Answer with one run; False when that failed, so that only the guilty one suffers."""
        try:
            results = self._timed(merge([item.feed for item in items]), *items)
        except Exception:  # noqa: BLE001 each alone will tell
            return False
        parts = split(results, [item.rows for item in items])
        if parts is None:
            return False
        for item, part in zip(items, parts, strict=True):
            item.future.set_result(part)
        return True

    def _timed(self, inputs: Tensors, *items: Item) -> Tensors:
        began = time.perf_counter()
        results = self._model.infer(inputs, items[0].feed.outputs)
        self._count(items, time.perf_counter() - began)
        return results

    def _count(self, items: Sequence[Item], seconds: float) -> None:
        with self._lock:
            count = self._counts.setdefault(sum(item.rows for item in items), BatchCount())
            count.runs += 1
            count.seconds += seconds
            self.saved += len(items) - 1
