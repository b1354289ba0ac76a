"""Requests that share a run: who may, when it starts, and what each gets back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.fakes import CPU
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.batching import (
    Batcher,
    Feed,
    Figures,
    decide,
    measure,
    merge,
    obstacle,
    rows_of,
    split,
)
from skerry_runtime.contract import Batching, BatchingMode
from skerry_runtime.errors import InferenceFailed

ROWS = ModelMetadata(
    "fake", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),)
)


class Doubler:
    """y = 2 x; refuses negative numbers, waits when it is told to, and notes every run's rows."""

    def __init__(self, metadata: ModelMetadata = ROWS) -> None:
        self.metadata = metadata
        self.acceleration = CPU
        self.runs: list[int] = []
        self.work: Callable[[int], None] = lambda rows: None
        self.drops_rows = False

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        x = np.asarray(inputs["x"])
        self.runs.append(len(x))
        self.work(len(x))
        if (x < 0).any():
            raise InferenceFailed("a negative number")
        return {"y": 2 * x[:1] if self.drops_rows else 2 * x}

    def close(self) -> None:
        return None


def feed(value: float, rows: int = 1, width: int = 2) -> Feed:
    array = np.full((rows, width), value, np.float32)
    return Feed({"x": array}, ("y",), array.nbytes)


class Busy:
    """A batcher whose only thread is held until the test lets it go."""

    def __init__(self, batching: Batching) -> None:
        self.model = Doubler()
        self.go = threading.Event()
        self.held = threading.Event()
        self.pool = ThreadPoolExecutor(1)
        self.batcher = Batcher(self.model, batching, self.pool, 1)
        self.model.work = self._hold

    def _hold(self, _: int) -> None:
        self.held.set()
        assert self.go.wait(30)

    async def occupy(self) -> asyncio.Future[Tensors]:
        """Start a run that lasts until `go`."""
        first = self.submit(feed(0))
        await asyncio.to_thread(self.held.wait, 30)
        return first

    def submit(self, one: Feed) -> asyncio.Future[Tensors]:
        return asyncio.wrap_future(self.batcher.submit(one, time.perf_counter()))


@pytest.fixture
def close() -> Iterator[list[Busy]]:
    opened: list[Busy] = []
    yield opened
    for busy in opened:
        busy.go.set()
        busy.pool.shutdown()


def busy(close: list[Busy], size: int = 4, delay_s: float = 0.0) -> Busy:
    close.append(Busy(Batching(max_size=size, max_delay_s=delay_s, mode=BatchingMode.ON)))
    return close[-1]


async def values(*futures: asyncio.Future[Tensors]) -> list[list[float]]:
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*futures)
    return [sorted(set(answer["y"].flat)) for answer in answers]


async def test_what_comes_while_the_thread_is_busy_shares_the_next_run(close: list[Busy]) -> None:
    it = busy(close)
    first = await it.occupy()
    others = [it.submit(feed(value)) for value in (1, 2, 3)]
    it.go.set()
    assert await values(first, *others) == [[0], [2], [4], [6]]
    assert it.model.runs == [1, 3]
    assert it.batcher.saved == 2
    assert [count[:2] for count in it.batcher.counts()] == [(1, 1), (3, 1)]


async def test_a_batch_has_at_most_its_size_in_rows(close: list[Busy]) -> None:
    it = busy(close, size=4)
    first = await it.occupy()
    others = [it.submit(feed(value, rows)) for value, rows in ((1, 2), (2, 1), (3, 3), (4, 9))]
    it.go.set()
    assert await values(first, *others) == [[0], [2], [4], [6], [8]]
    assert sorted(it.model.runs) == [1, 3, 3, 9]


async def test_a_request_that_fails_takes_none_of_its_batch_along(close: list[Busy]) -> None:
    it = busy(close)
    first = await it.occupy()
    good, bad, other = (it.submit(feed(value)) for value in (1, -1, 2))
    it.go.set()
    assert await values(first, good, other) == [[0], [2], [4]]
    with pytest.raises(InferenceFailed, match="negative"):
        await bad


async def test_requests_of_other_shapes_or_outputs_share_no_run(close: list[Busy]) -> None:
    it = busy(close)
    first = await it.occupy()
    wide = it.submit(feed(1, width=3))
    usual = it.submit(feed(2))
    it.go.set()
    assert await values(first, wide, usual) == [[0], [2], [4]]
    assert it.model.runs == [1, 1, 1]


async def test_a_request_given_up_before_its_run_is_not_run(close: list[Busy]) -> None:
    it = busy(close)
    first = await it.occupy()
    left, stayed = it.submit(feed(1)), it.submit(feed(2))
    left.cancel()
    await asyncio.sleep(0)
    it.go.set()
    assert await values(first, stayed) == [[0], [4]]
    assert it.model.runs == [1, 1]


async def test_a_delay_lets_the_first_wait_for_company(close: list[Busy]) -> None:
    """The delay is long; a full batch ends it."""
    it = busy(close, size=2, delay_s=1.0)
    it.go.set()
    both = it.submit(feed(1)), it.submit(feed(2))
    assert await values(*both) == [[2], [4]]
    assert it.model.runs == [2]


async def test_a_request_without_company_goes_alone_after_the_delay(close: list[Busy]) -> None:
    it = busy(close, delay_s=0.02)
    it.go.set()
    assert await values(it.submit(feed(1))) == [[2]]


async def test_a_model_that_mixes_rows_answers_each_request_alone(close: list[Busy]) -> None:
    it = busy(close)
    it.model.drops_rows = True
    first = await it.occupy()
    others = [it.submit(feed(value)) for value in (1, 2)]
    it.go.set()
    assert await values(first, *others) == [[0], [2], [4]]
    assert it.model.runs == [1, 2, 1, 1]


async def test_full_piles_of_one_shape_let_a_request_of_another_by(close: list[Busy]) -> None:
    it = busy(close, size=4)
    order: list[int] = []
    first = await it.occupy()
    lone = it.submit(feed(1, width=3))
    lone.add_done_callback(lambda _: order.append(3))
    crowd = [it.submit(feed(2, rows=2)) for _ in range(40)]
    for one in crowd:
        one.add_done_callback(lambda _: order.append(2))
    it.go.set()
    await values(first, lone, *crowd)
    assert order[0] == 3


async def test_a_crowd_that_never_ends_keeps_no_other_shape_waiting(close: list[Busy]) -> None:
    """Each turn brings a new full pile, as busy clients of one shape do."""
    it = busy(close, size=2)
    first = await it.occupy()
    crowd = [it.submit(feed(2)), it.submit(feed(2))]
    lone = it.submit(feed(1, width=3))
    it.go.set()
    turns = 0
    while not lone.done():
        crowd += [it.submit(feed(2)), it.submit(feed(2))]
        await crowd[-1]
        turns += 1
        assert turns < 10, "the crowd goes first for ever"
    await values(first, lone, *crowd)


async def test_a_closed_pool_fails_the_request_and_does_not_leave_it_waiting(
    close: list[Busy],
) -> None:
    it = busy(close)
    it.pool.shutdown()
    with pytest.raises(RuntimeError):
        await it.submit(feed(1))


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        pytest.param(ROWS, None, id="every first axis is dynamic"),
        pytest.param(
            ModelMetadata("fake", (TensorSpec("x", "FP32", (1, 2)),), ROWS.outputs),
            "input 'x' has no dynamic first axis",
            id="a fixed input",
        ),
        pytest.param(
            ModelMetadata("fake", ROWS.inputs, (TensorSpec("y", "FP32", ()),)),
            "output 'y' has no dynamic first axis",
            id="a scalar output",
        ),
    ],
)
def test_a_model_shares_runs_only_when(metadata: ModelMetadata, text: str | None) -> None:
    assert obstacle(metadata) == text
    decision = decide(Batching(max_size=4, mode=BatchingMode.ON), Doubler(metadata), feed(1))
    assert decision.is_on == (text is None)


@pytest.mark.parametrize(
    ("alone_us", "batched_us", "helps"),
    [
        pytest.param(5000, 1000, True, id="large weights"),
        pytest.param(5000, 4500, False, id="a compute-bound model"),
        pytest.param(10, 1, False, id="a model quicker than a change of threads"),
    ],
)
def test_a_batch_must_save_more_than_it_costs(
    alone_us: float, batched_us: float, helps: bool
) -> None:
    assert Figures(8, alone_us / 1e6, batched_us / 1e6).helps is helps


def test_mode_auto_measures_one_row_against_many() -> None:
    model = Doubler()
    figures = measure(model, feed(1, rows=3), 8)
    assert set(model.runs) == {1, 8}
    assert figures.size == 8
    decision = decide(Batching(max_size=8), model, feed(1))
    assert decision.figures is not None
    assert not decision.is_on, "doubling two numbers is quicker than any thread"


def test_merged_and_split_rows_are_the_same_rows() -> None:
    feeds = [feed(1, 2), feed(2, 1), feed(3, 4)]
    rows = [rows_of(one) or 0 for one in feeds]
    parts = split(merge(feeds), rows)
    assert parts is not None
    for part, one in zip(parts, feeds, strict=True):
        assert part["x"].tolist() == np.asarray(one.inputs["x"]).tolist()
