"""Models that keep a state: stateless answers by default, and sequences for who asks for them."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serving import models, tflite_models
from serving.asked import REFUSED, TRANSPORTS, ask
from serving.fakes import CPU, ONE_TO_ONE, FakeModel, Gate, load, serving
from serving.running import InThread, running
from skerry_runtime.backends.base import LoadRequest, Stateful, Tensors, on_fresh_state
from skerry_runtime.backends.litert import LiteRtBackend, LiteRtModel
from skerry_runtime.batching import Feed, decide
from skerry_runtime.contract import Batching, BatchingMode, Execution, Format
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InferenceFailed, InvalidRequest, Overloaded
from skerry_runtime.metrics import Metrics
from skerry_runtime.protocol.parameters import sequence_step
from skerry_runtime.protocol.types import InferRequest, SequenceStep, Tensor
from skerry_runtime.registry import Registry
from skerry_runtime.sequences import MAX_WAITING, SequenceBounds, Sequences

ONES = {"x": np.ones((1, 2), np.float32)}
STEP = {"x": np.ones((1, 1, 1), np.float32)}


def load_tflite(path: Path) -> LiteRtModel:
    return LiteRtBackend().load(LoadRequest(path, Format.TFLITE, Execution(profile="cpu"), 1, {}))


KINDS = {
    "a variable of the graph": (tflite_models.adder, ONES),
    "a tensor that an operator keeps": (tflite_models.recurrent, STEP),
}


@pytest.fixture(params=KINDS)
def stateful(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LiteRtModel, Tensors]:
    make, inputs = KINDS[request.param]
    return load_tflite(make(tmp_path / "m.tflite")), inputs


def total(answer: Tensors) -> float:
    return float(np.asarray(answer["y"]).flat[0])


# The model


def test_by_itself_every_answer_is_the_first(stateful: tuple[LiteRtModel, Tensors]) -> None:
    model, inputs = stateful
    assert [total(model.infer(inputs)) for _ in range(4)] == [1, 1, 1, 1]


def test_each_memory_counts_for_itself_and_none_reaches_the_model(
    stateful: tuple[LiteRtModel, Tensors],
) -> None:
    model, inputs = stateful
    assert isinstance(model, Stateful)
    one, other = model.begin(), model.begin()
    assert [total(one.infer(inputs)) for _ in range(3)] == [1, 2, 3]
    assert total(model.infer(inputs)) == 1
    assert total(other.infer(inputs)) == 1
    assert total(one.infer(inputs)) == 4


def test_answers_side_by_side_know_nothing_of_each_other(
    stateful: tuple[LiteRtModel, Tensors],
) -> None:
    model, inputs = stateful
    with ThreadPoolExecutor(4) as clients:
        answers = clients.map(lambda _: total(model.infer(inputs)), range(50))
        assert set(answers) == {1}


def test_a_closed_model_closes_its_memories(stateful: tuple[LiteRtModel, Tensors]) -> None:
    model, inputs = stateful
    assert isinstance(model, Stateful)
    memory = model.begin()
    memory.infer(inputs)
    model.close()
    for closed in (model, memory):
        with pytest.raises(InferenceFailed, match="closed"):
            closed.infer(inputs)


def test_a_memory_keeps_the_shapes_of_its_first_request(tmp_path: Path) -> None:
    model = load_tflite(tflite_models.recurrent(tmp_path / "m.tflite"))
    assert isinstance(model, Stateful)
    memory = model.begin()
    memory.infer(STEP)
    with pytest.raises(InvalidRequest, match="shapes of its first request"):
        memory.infer({"x": np.ones((1, 2, 1), np.float32)})
    assert total(memory.infer(STEP)) == 2


def test_models_without_a_state_are_none(tmp_path: Path) -> None:
    tflite = load_tflite(tflite_models.product(tmp_path / "m.tflite"))
    onnx = load(models.product(tmp_path / "m.onnx"))
    for model in (tflite, onnx):
        assert not isinstance(model, Stateful)
        with on_fresh_state(model) as same:
            assert same is model


def test_a_fresh_state_ends_with_its_block(stateful: tuple[LiteRtModel, Tensors]) -> None:
    model, inputs = stateful
    with on_fresh_state(model) as fresh:
        assert [total(fresh.infer(inputs)) for _ in range(2)] == [1, 2]
    with pytest.raises(InferenceFailed):
        fresh.infer(inputs)
    assert total(model.infer(inputs)) == 1


def test_a_model_with_a_state_is_never_batched(tmp_path: Path) -> None:
    model = load_tflite(tflite_models.adder(tmp_path / "m.tflite", (-1, 2)))
    feed = Feed(ONES, ("y",), 8)
    for mode in (BatchingMode.AUTO, BatchingMode.ON):
        decision = decide(Batching(max_size=4, mode=mode), model, feed)
        assert (decision.is_on, decision.reason) == (False, "the model keeps a state")


# What a request says


@pytest.mark.parametrize(
    ("parameters", "step"),
    [
        ({}, None),
        ({"sequence_id": 0, "sequence_start": True}, None),
        ({"sequence_id": ""}, None),
        ({"sequence_id": None, "sequence_end": None}, None),
        ({"sequence_id": 7}, SequenceStep(7, False, False)),
        ({"sequence_id": "a", "sequence_start": True}, SequenceStep("a", True, False)),
        ({"sequence_id": 2**64 - 1, "sequence_end": True}, SequenceStep(2**64 - 1, False, True)),
    ],
)
def test_the_parameters_are_triton_s(
    parameters: dict[str, object], step: SequenceStep | None
) -> None:
    assert sequence_step(parameters) == step


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"sequence_id": -1}, "sequence_id must be"),
        ({"sequence_id": 2**64}, "sequence_id must be"),
        ({"sequence_id": 1.5}, "sequence_id must be"),
        ({"sequence_id": True}, "sequence_id must be"),
        ({"sequence_id": "x" * 257}, "sequence_id must be"),
        ({"sequence_id": [1]}, "sequence_id must be"),
        ({"sequence_id": 1, "sequence_start": 1}, "sequence_start must be true or false"),
        ({"sequence_id": 1, "sequence_end": "yes"}, "sequence_end must be true or false"),
    ],
)
def test_parameters_of_another_kind_are_refused(parameters: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        sequence_step(parameters)


# Which state a request gets


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_ones(clock: Clock) -> Sequences:
    return Sequences(FakeModel, SequenceBounds(most=2, idle_s=60), clock)  # type: ignore[arg-type]


async def state_of(
    sequences: Sequences, name: int, *, start: bool = False, end: bool = False
) -> Any:
    async with sequences.turn(SequenceStep(name, start, end)) as state:
        return state


async def test_a_sequence_has_its_state_until_it_ends(open_ones: Sequences) -> None:
    first = await state_of(open_ones, 1, start=True)
    assert await state_of(open_ones, 1) is first
    assert await state_of(open_ones, 2, start=True) is not first
    assert await state_of(open_ones, 1, end=True) is first
    with pytest.raises(InvalidRequest, match="sequence '1' is not open"):
        await state_of(open_ones, 1)
    assert len(open_ones) == 1


async def test_a_sequence_that_begins_again_has_a_new_state(open_ones: Sequences) -> None:
    first = await state_of(open_ones, 1, start=True)
    again = await state_of(open_ones, 1, start=True)
    assert again is not first
    assert await state_of(open_ones, 1) is again
    assert len(open_ones) == 1


async def test_a_single_request_may_be_a_whole_sequence(open_ones: Sequences) -> None:
    await state_of(open_ones, 1, start=True, end=True)
    assert len(open_ones) == 0


async def test_one_too_many_is_told_to_wait_and_an_idle_one_makes_room(
    open_ones: Sequences, clock: Clock
) -> None:
    await state_of(open_ones, 1, start=True)
    clock.time += 30
    await state_of(open_ones, 2, start=True)
    with pytest.raises(Overloaded, match="2 sequences are open"):
        await state_of(open_ones, 3, start=True)
    clock.time += 31
    await state_of(open_ones, 3, start=True)
    with pytest.raises(InvalidRequest, match="no request for 60 s"):
        await state_of(open_ones, 1)
    await state_of(open_ones, 2)


async def test_idle_sequences_are_dropped_without_a_request() -> None:
    sequences = Sequences(FakeModel, SequenceBounds(2, 0.01), time.monotonic)  # type: ignore[arg-type]
    await state_of(sequences, 1, start=True)
    async with asyncio.timeout(30):
        while len(sequences):  # noqa: ASYNC110 a timer does it
            await asyncio.sleep(0.005)


async def test_a_sequence_in_use_is_not_idle(open_ones: Sequences, clock: Clock) -> None:
    async with open_ones.turn(SequenceStep(1, True, False)):
        clock.time += 1000
        open_ones.drop_idle()
        assert len(open_ones) == 1
    assert await state_of(open_ones, 1)


async def test_requests_of_one_sequence_have_their_turns_in_order(open_ones: Sequences) -> None:
    order: list[int] = []

    async def step(number: int) -> None:
        async with open_ones.turn(SequenceStep(1, number == 0, False)):
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(step(number) for number in range(10)))
    assert order == list(range(10))


async def test_what_waits_behind_the_last_request_is_refused(open_ones: Sequences) -> None:
    async with open_ones.turn(SequenceStep(1, True, True)):
        late = asyncio.create_task(state_of(open_ones, 1))
        await asyncio.sleep(0)
    with pytest.raises(InvalidRequest, match="not open"):
        await late


async def test_a_bounded_number_waits(open_ones: Sequences) -> None:
    async with open_ones.turn(SequenceStep(1, True, False)):
        waiting = [asyncio.create_task(state_of(open_ones, 1)) for _ in range(MAX_WAITING - 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="are waiting"):
            await state_of(open_ones, 1)
    await asyncio.gather(*waiting)


class Remembering:
    """Counts its runs, each of which may be made to wait."""

    def __init__(self) -> None:
        self.metadata, self.acceleration = ONE_TO_ONE, CPU
        self.gate = Gate()
        self.gate.open.set()
        self.runs = 0

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        self.gate()
        self.runs += 1
        return {"y": np.full((1, 4), self.runs, np.float32)}

    def begin(self) -> Remembering:
        fresh = Remembering()
        fresh.gate = self.gate
        return fresh

    def close(self) -> None:
        return None


async def test_a_client_that_leaves_does_not_end_its_sequence() -> None:
    registry, model = Registry(), Remembering()
    plane = Dataplane("digits", registry, Metrics(), workers=2, queue_limit=8)
    registry.switch(serving(model))
    x = Tensor("x", "FP32", np.ones((1, 4), np.float32))

    def step(*, start: bool) -> asyncio.Task[Any]:
        named = SequenceStep(1, start, False)
        request = InferRequest("digits", None, (x,), None, "", time.perf_counter(), named)
        return asyncio.create_task(plane.infer(request))

    try:
        assert (await step(start=True)).outputs[0].array[0, 0] == 1
        model.gate.entered.acquire()
        model.gate.open.clear()
        leaving = step(start=False)
        await asyncio.to_thread(model.gate.wait_entered)
        leaving.cancel()
        model.gate.open.set()
        async with asyncio.timeout(30):
            answer = await step(start=False)
        assert answer.outputs[0].array[0, 0] in (2, 3)
    finally:
        plane.close()


# Over the wire


@pytest.fixture(scope="module")
def server() -> Iterator[InThread]:
    with running(max_sequences=3) as server:
        yield server


@pytest.fixture
def adder(server: InThread, tmp_path: Path) -> InThread:
    model = load_tflite(tflite_models.adder(tmp_path / "m.tflite"))
    server.registry.switch(serving(model, "r1"))
    return server


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clients_that_name_no_sequence_share_nothing(adder: InThread, transport: str) -> None:
    assert [total(ask(transport, adder, ONES)) for _ in range(8)] == [1] * 8


@pytest.mark.parametrize("name", [17, "seventeen"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_triton_s_clients_have_sequences(adder: InThread, transport: str, name: int | str) -> None:
    def step(of: int | str = name, **flags: bool) -> float:
        return total(ask(transport, adder, ONES, sequence_id=of, **flags))

    assert step(sequence_start=True) == 1
    assert [step() for _ in range(3)] == [2, 3, 4]
    assert step(99, sequence_start=True) == 1
    assert total(ask(transport, adder, ONES)) == 1
    assert step(sequence_end=True) == 5
    assert step(99, sequence_end=True) == 2
    with pytest.raises(InferenceServerException, match="is not open") as refused:
        step()
    assert refused.value.status() == REFUSED[transport]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_sequence_outlives_the_model_it_began_on(
    adder: InThread, tmp_path: Path, transport: str
) -> None:
    assert total(ask(transport, adder, ONES, sequence_id=5, sequence_start=True)) == 1
    again = load_tflite(tflite_models.adder(tmp_path / "n.tflite"))
    adder.registry.switch(serving(again, "r2"))
    with pytest.raises(InferenceServerException, match="is not open"):
        ask(transport, adder, ONES, sequence_id=5)
    assert total(ask(transport, adder, ONES, sequence_id=5, sequence_start=True)) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_more_sequences_than_may_be_open_are_told_to_wait(adder: InThread, transport: str) -> None:
    for name in (1, 2, 3):
        ask(transport, adder, ONES, sequence_id=name, sequence_start=True)
    with pytest.raises(InferenceServerException, match="3 sequences are open") as refused:
        ask(transport, adder, ONES, sequence_id=4, sequence_start=True)
    assert refused.value.status() in ("429", "StatusCode.RESOURCE_EXHAUSTED")


def test_a_grpc_stream_is_a_sequence_where_it_says_so(adder: InThread) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client = triton_grpc.InferenceServerClient(adder.grpc)
    entry = triton_grpc.InferInput("x", [1, 2], "FP32")
    entry.set_data_from_numpy(ONES["x"])
    client.start_stream(lambda result, error: answers.put(error or result))
    try:
        for number in range(5):
            client.async_stream_infer(
                "digits",
                [entry],
                sequence_id=3,
                sequence_start=number == 0,
                sequence_end=number == 4,
            )
        given = [answers.get(timeout=60) for _ in range(5)]
    finally:
        client.stop_stream()
        client.close()
    assert [float(one.as_numpy("y").flat[0]) for one in given] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_without_a_state_pays_sequences_no_heed(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    server.registry.switch(serving(load(models.product(tmp_path / "m.onnx"))))
    x = {"x": np.ones((1, 4), np.float32)}
    for _ in range(2):
        assert ask(transport, server, x, sequence_id=8)["y"].tolist() == [[18, 22, 26]]
