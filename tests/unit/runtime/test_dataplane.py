"""The data plane: what it refuses, how it runs and what it counts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving import models
from serving.fakes import FakeModel, Gate, load, serving
from skerry_runtime.contract import Batching, BatchingMode
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import (
    InferenceFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    UnknownModel,
)
from skerry_runtime.lane import INLINE_LIMIT_S, Pace
from skerry_runtime.metrics import Metrics
from skerry_runtime.protocol.types import InferRequest, Tensor
from skerry_runtime.registry import Registry

X = Tensor("x", "FP32", np.ones((1, 4), np.float32))


class Plane:
    """A data plane with its surroundings."""

    def __init__(self, queue_limit: int = 8) -> None:
        self.registry, self.metrics = Registry(), Metrics()
        self.dataplane = Dataplane(
            "digits", self.registry, self.metrics, workers=2, queue_limit=queue_limit
        )

    async def infer(self, *inputs: Tensor, **changes: object) -> list[Tensor]:
        request = InferRequest("digits", None, inputs, None, "", time.perf_counter())
        response = await self.dataplane.infer(replace(request, **changes))  # type: ignore[arg-type]
        return list(response.outputs)

    def counts(self, revision: str = "r1") -> tuple[int, dict[str, int], int]:
        total = self.metrics.of(revision).counters().total
        return total.requests, dict(total.failures), total.rejected


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.dataplane.close()


async def test_nothing_serves_is_not_ready_and_is_counted(plane: Plane) -> None:
    with pytest.raises(NotReady):
        await plane.infer(X)
    assert plane.metrics.unserved == 1


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        pytest.param((), "input 'x' is missing", id="an input is missing"),
        pytest.param((X, X), "given twice", id="an input is given twice"),
        pytest.param((replace(X, name="z"),), "unknown input 'z'", id="an input is unknown"),
        pytest.param((replace(X, datatype="FP64"),), "is FP32", id="the datatype differs"),
        pytest.param(
            (replace(X, array=np.ones((1, 5), np.float32)),), "has shape", id="a fixed axis differs"
        ),
        pytest.param(
            (replace(X, array=np.ones(4, np.float32)),), "has shape", id="an axis is missing"
        ),
    ],
)
async def test_a_request_is_refused_and_counted_as_rejected_when(
    plane: Plane, inputs: tuple[Tensor, ...], text: str
) -> None:
    plane.registry.switch(serving(FakeModel()))
    with pytest.raises(InvalidRequest, match=text):
        await plane.infer(*inputs)
    assert plane.counts() == (0, {}, 1)


async def test_an_unknown_output_is_refused(plane: Plane) -> None:
    plane.registry.switch(serving(FakeModel()))
    with pytest.raises(InvalidRequest, match="unknown output"):
        await plane.infer(X, outputs=("nope",))


async def test_outputs_come_in_the_order_asked_for(plane: Plane, tmp_path: Path) -> None:
    plane.registry.switch(serving(load(models.product(tmp_path / "m.onnx"))))
    assert [t.name for t in await plane.infer(X)] == ["y", "z"]
    assert [t.name for t in await plane.infer(X, outputs=("z", "y", "z"))] == ["z", "y"]


async def test_another_model_s_name_or_version_is_not_found(plane: Plane) -> None:
    plane.registry.switch(serving(FakeModel(), "r1", "1.0.0"))
    assert await plane.infer(X, version="1.0.0")
    assert await plane.infer(X, version="r1")
    with pytest.raises(UnknownModel, match=r"'1\.0\.0' does"):
        await plane.infer(X, version="2.0.0")
    with pytest.raises(UnknownModel, match="'digits'"):
        await plane.infer(X, model="letters")


async def test_a_failing_model_is_counted_as_a_failure(plane: Plane) -> None:
    def fail() -> None:
        raise InferenceFailed("the model failed: the device is gone")

    plane.registry.switch(serving(FakeModel(fail)))
    with pytest.raises(InferenceFailed):
        await plane.infer(X)
    assert plane.counts() == (1, {"InferenceFailed": 1}, 0)


async def test_an_input_that_the_engine_names_is_the_client_s_mistake(
    plane: Plane, tmp_path: Path
) -> None:
    plane.registry.switch(serving(load(models.gather(tmp_path / "m.onnx"))))
    with pytest.raises(InvalidRequest, match="out of data bounds"):
        await plane.infer(Tensor("index", "INT64", np.array([9], np.int64)))
    assert plane.counts() == (0, {}, 1)


async def test_a_defect_is_told_without_its_text(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise RuntimeError("secret")

    plane.registry.switch(serving(FakeModel(break_down)))
    with pytest.raises(InferenceFailed) as failed:
        await plane.infer(X)
    assert "secret" not in str(failed.value)
    assert "secret" in caplog.text
    assert plane.counts() == (1, {"Internal": 1}, 0)


async def test_a_full_queue_refuses_the_next_request_and_recovers() -> None:
    plane, gate = Plane(queue_limit=2), Gate()
    plane.registry.switch(serving(FakeModel(gate)))
    running = [asyncio.create_task(plane.infer(X)) for _ in range(2)]
    await asyncio.to_thread(gate.wait_entered, 2)
    with pytest.raises(Overloaded):
        await plane.infer(X)
    gate.open.set()
    await asyncio.gather(*running)
    assert await plane.infer(X)
    assert plane.counts() == (4, {"Overloaded": 1}, 0)
    plane.dataplane.close()


async def test_a_client_that_leaves_does_not_pull_the_model_away(plane: Plane) -> None:
    gate = Gate()
    model = FakeModel(gate)
    plane.registry.switch(serving(model))
    leaving = asyncio.create_task(plane.infer(X))
    await asyncio.to_thread(gate.wait_entered)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    retired = plane.registry.switch(None)
    assert retired is not None
    assert not plane.registry.close_when_drained(retired, 0), "its thread is still running"
    gate.open.set()
    assert await asyncio.to_thread(plane.registry.close_when_drained, retired, 30)


async def test_requests_before_and_after_a_switch_are_counted_apart(plane: Plane) -> None:
    plane.registry.switch(serving(FakeModel(), "r1"))
    await plane.infer(X)
    plane.registry.switch(serving(FakeModel(), "r2"))
    await plane.infer(X)
    await plane.infer(X)
    assert (plane.counts("r1")[0], plane.counts("r2")[0]) == (1, 2)


async def test_a_small_model_ends_up_on_the_event_loop_and_a_slow_one_does_not(
    plane: Plane,
) -> None:
    names: list[str] = []

    def note_thread() -> None:
        names.append(threading.current_thread().name)

    plane.registry.switch(serving(FakeModel(note_thread)))
    await plane.infer(X)
    assert names[0].startswith("infer"), "an unknown model must not block the loop"
    here = threading.current_thread().name
    async with asyncio.timeout(30):
        while names[-1] != here:
            await plane.infer(X)


def test_a_pace_is_learnt_per_size() -> None:
    pace = Pace()
    assert not pace.is_quick(64)
    pace.note(64, INLINE_LIMIT_S / 10)
    assert pace.is_quick(64)
    assert not pace.is_quick(64_000)


def test_one_slow_run_is_an_accident_and_many_are_a_pace() -> None:
    pace = Pace()
    pace.note(64, INLINE_LIMIT_S / 10)
    pace.note(64, INLINE_LIMIT_S * 5)
    assert pace.is_quick(64)
    for _ in range(100):
        pace.note(64, INLINE_LIMIT_S * 5)
    assert not pace.is_quick(64)
    pace.note(64, INLINE_LIMIT_S / 10)
    assert pace.is_quick(64)


async def test_readiness_needs_a_model_and_ends_with_the_draining(plane: Plane) -> None:
    assert not plane.dataplane.is_ready()
    assert plane.dataplane.repository_index()[0].state == "UNAVAILABLE"
    plane.registry.switch(serving(FakeModel()))
    assert plane.dataplane.is_ready()
    plane.dataplane.drain()
    assert not plane.dataplane.is_ready()
    assert await plane.infer(X), "a draining server still answers"


async def test_a_run_that_no_thread_takes_leaves_its_place_in_the_queue() -> None:
    plane, model = Plane(queue_limit=1), FakeModel()
    plane.registry.switch(serving(model))
    plane.dataplane.close()
    for _ in range(3):
        with pytest.raises(InferenceFailed):
            await plane.infer(X)
    assert plane.counts() == (3, {"Internal": 3}, 0)
    old = plane.registry.switch(None)
    assert old
    assert plane.registry.close_when_drained(old, 0)


async def test_an_answer_that_came_after_its_client_left_is_counted_all_the_same(
    plane: Plane,
) -> None:
    gate = Gate()
    plane.registry.switch(serving(FakeModel(gate)))
    call = asyncio.create_task(plane.infer(X))
    await asyncio.to_thread(gate.wait_entered)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.open.set()
    async with asyncio.timeout(30):
        while plane.counts() != (1, {}, 0):  # noqa: ASYNC110 (a count has no event)
            await asyncio.sleep(0.005)


async def test_a_failure_that_came_after_its_client_left_is_counted_all_the_same(
    plane: Plane,
) -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise InferenceFailed("the accelerator is gone")

    plane.registry.switch(serving(FakeModel(fail)))
    call = asyncio.create_task(plane.infer(X))
    await asyncio.to_thread(gate.wait_entered)
    call.cancel()
    gate.open.set()
    async with asyncio.timeout(30):
        while plane.counts() != (1, {"InferenceFailed": 1}, 0):  # noqa: ASYNC110 (same)
            await asyncio.sleep(0.005)


class Weights:
    """Work whose cost is the run's, not the rows': what batching is for."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        time.sleep(0.005)


async def settled(plane: Plane) -> str:
    """Ask until the trial of batching has ended; return its reason."""
    async with asyncio.timeout(30):
        while True:
            await plane.infer(X)
            batching = plane.dataplane.statistics("digits", None).batching
            if batching.alone_us is not None:
                assert batching.batched_us is not None
                return batching.reason


async def test_a_model_with_a_dear_run_ends_up_sharing_it(plane: Plane) -> None:
    weights = Weights()
    model = serving(FakeModel(weights))
    model.batching = Batching(max_size=8)
    plane.registry.switch(model)
    assert await settled(plane) == "a batch is cheaper"
    before = plane.dataplane.statistics("digits", None)
    weights.runs = 0
    answers = await asyncio.gather(
        *(plane.infer(replace(X, array=np.full((1, 4), i, np.float32))) for i in range(8))
    )
    assert [set(answer[0].array.flat) for answer in answers] == [{i} for i in range(8)]
    assert weights.runs < 8
    after = plane.dataplane.statistics("digits", None)
    assert after.successes - before.successes == 8
    assert after.runs - before.runs == weights.runs
    assert sum(batch.rows * batch.runs for batch in after.batches) >= 8
    assert after.waits == after.successes


async def test_a_model_with_cheap_runs_keeps_them_apart_and_stays_on_the_loop(
    plane: Plane,
) -> None:
    names: list[str] = []
    model = serving(FakeModel(lambda: names.append(threading.current_thread().name)))
    model.batching = Batching(max_size=8)
    plane.registry.switch(model)
    assert await settled(plane) == "a batch saves too little"
    here = threading.current_thread().name
    async with asyncio.timeout(30):
        while names[-1] != here:
            await plane.infer(X)


async def test_a_full_queue_refuses_batched_requests_too() -> None:
    plane, gate = Plane(queue_limit=3), Gate()
    model = serving(FakeModel(gate))
    model.batching = Batching(max_size=8, mode=BatchingMode.ON)
    plane.registry.switch(model)
    gate.open.set()
    async with asyncio.timeout(30):
        while not plane.dataplane.statistics("digits", None).batching.is_on:
            await plane.infer(X)
    gate.open.clear()
    running = [asyncio.create_task(plane.infer(X)) for _ in range(3)]
    await asyncio.to_thread(gate.wait_entered)
    with pytest.raises(Overloaded):
        await plane.infer(X)
    gate.open.set()
    await asyncio.gather(*running)
    plane.dataplane.close()


async def test_a_model_whose_trial_fails_is_not_batched(plane: Plane) -> None:
    def fail() -> None:
        raise InferenceFailed("the accelerator is gone")

    model = serving(FakeModel(fail))
    model.batching = Batching(max_size=8)
    plane.registry.switch(model)
    async with asyncio.timeout(30):
        while "not decided" in plane.dataplane.statistics("digits", None).batching.reason:
            with pytest.raises(InferenceFailed):
                await plane.infer(X)
    reason = plane.dataplane.statistics("digits", None).batching.reason
    assert reason == "the trial failed: the accelerator is gone"
