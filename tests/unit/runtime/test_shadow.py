"""A prepared model in the shadow: what agrees, what is counted, and what clients never feel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from serving.fakes import FakeModel, Gate, serving
from skerry_runtime.backends.base import Tensors
from skerry_runtime.contract import Agreement
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InferenceFailed, InvalidRequest
from skerry_runtime.metrics import Metrics
from skerry_runtime.protocol.types import InferRequest, Tensor
from skerry_runtime.registry import Registry
from skerry_runtime.shadow import LEAST_GAP_S, SHARE, Mirror, compare, items_of

NAN = float("nan")


def floats(*rows: object) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("answer", "shadow", "items", "agreed"),
    [
        (floats([0.1, 0.9], [0.8, 0.2]), floats([0.4, 0.6], [0.7, 0.3]), 2, 2),
        (floats([0.1, 0.9], [0.8, 0.2]), floats([0.4, 0.6], [0.3, 0.7]), 2, 1),
        (floats([NAN, 0.9]), floats([0.4, 0.6]), 1, 0),
        (floats([NAN, 0.9]), floats([NAN, 0.6]), 1, 1),
        (floats([10.0], [10.0]), floats([10.05], [10.2]), 2, 1),
        (floats([0.0]), floats([0.0005]), 1, 1),
        (floats([NAN], [1.0]), floats([NAN], [NAN]), 2, 1),
        (floats(1.0, 2.0), floats(1.0, 9.0), 2, 1),
        (floats(1.0, 2.0), floats(1.5, 9.0), 1, 1),
        (np.array([[3], [4]]), np.array([[3], [5]]), 2, 1),
        (np.array([b"cat"], object), np.array([b"dog"], object), 1, 0),
        (floats([1.0, 2.0]), floats([1.0, 2.0, 3.0]), 1, 0),
        (floats([1.0, 2.0]), np.array([[1.0, 2.0]]), 1, 0),
        (np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), 1, 1),
    ],
    ids=[
        "the same class from other scores",
        "one item of two names another class",
        "NaN where stable has a number",
        "NaN where stable has it too",
        "a number within and one beyond the relative tolerance",
        "a number within the absolute tolerance",
        "single numbers that are NaN",
        "an axis of the batch holds no classes",
        "scores without a batch",
        "whole numbers must be equal",
        "texts must be equal",
        "another shape",
        "another datatype",
        "an empty output",
    ],
)
def test_what_agrees(answer: np.ndarray, shadow: np.ndarray, items: int, agreed: int) -> None:
    comparison = compare({"y": answer}, {"y": shadow}, items)
    assert (comparison.items, comparison.agreed) == (items, agreed)


def test_an_item_agrees_only_when_all_its_outputs_do() -> None:
    answer = {"a": floats([1.0], [1.0]), "b": floats([1.0], [1.0])}
    shadow = {"a": floats([1.0], [5.0]), "b": floats([1.0], [1.0])}
    assert compare(answer, shadow, 2).agreed == 1


def test_the_largest_difference_is_always_a_number() -> None:
    shadow = floats([NAN], [np.inf], [2.5])
    comparison = compare({"y": floats([1.0], [1.0], [1.0])}, {"y": shadow}, 3)
    assert comparison.max_abs_error == 1.5


@pytest.mark.parametrize(
    ("shapes", "items"),
    [
        (([8, 4], [8, 10]), 8),
        (([8, 4], [8, 10], [3, 6]), 1),
        (([8, 4], []), 1),
        (([0, 4], [0, 2]), 1),
    ],
    ids=["a batch", "an output with an axis of its own", "an output without axes", "empty"],
)
def test_items_are_counted_only_where_every_tensor_has_the_same_first_axis(
    shapes: tuple[list[int], ...], items: int
) -> None:
    first, *others = (np.zeros(shape, np.float32) for shape in shapes)
    assert items_of({"x": first}, dict(zip("abc", others, strict=False))) == items


class Scored:
    """A model that answers what it is told to, or fails."""

    def __init__(self, work: Callable[[], np.ndarray]) -> None:
        self._work = work

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        return dict.fromkeys(outputs or (), self._work())


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


X = {"x": np.ones((1, 4), np.float32)}
Y = {"y": floats([0.1, 0.9])}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.002)


def offered(mirror: Mirror, clock: Clock, times: int) -> Agreement:
    """Offer a request so many times, each when its turn has come."""
    for number in range(times):
        clock.time += 1
        mirror.offer(X, Y)
        wait_for(lambda wanted=number + 1: mirror.agreement.compared >= wanted)
    return mirror.agreement


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(clock: Clock) -> Iterator[Callable[..., Mirror]]:
    made: list[Mirror] = []

    def make(work: Callable[[], np.ndarray], wanted: int = 3) -> Mirror:
        made.append(Mirror(Scored(work), wanted, clock))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        if one._idle.acquire(timeout=30):
            one._idle.release()
            one.close()


def test_answers_are_compared_until_there_are_enough(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    one = mirror(lambda: floats([0.2, 0.8]))
    assert not one.is_full
    found = offered(one, clock, 3)
    assert (found.compared, found.agreed, found.errors, one.is_full) == (3, 3, 0, True)


def test_a_model_that_fails_in_the_shadow_is_counted_and_says_how(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    def fail() -> np.ndarray:
        raise InferenceFailed("no such\nkernel")

    found = offered(mirror(fail), clock, 2)
    assert (found.compared, found.agreed, found.errors) == (2, 0, 2)
    assert found.message == "InferenceFailed: no such kernel"


def test_an_input_on_which_both_models_fail_agrees_and_is_one_item(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    def fail() -> np.ndarray:
        raise InvalidRequest("no such token")

    one = mirror(fail)
    for number in range(3):
        clock.time += 1
        one.offer_failed({"x": np.ones((4, 4), np.float32)}, ("y",))
        wait_for(lambda wanted=number + 1: one.agreement.compared >= wanted)
    found = one.agreement
    assert (found.compared, found.agreed, found.errors, found.message) == (3, 3, 0, "")


def test_an_input_on_which_only_the_serving_model_fails_is_not_compared(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    gate = Gate()

    def answer() -> np.ndarray:
        gate()
        return Y["y"]

    one = mirror(answer)
    one.offer_failed(X, ("y",))
    gate.wait_entered()
    gate.open.set()
    wait_for(lambda: not one._idle.locked())
    found = offered(one, clock, 1)
    assert (found.compared, found.agreed, found.errors) == (1, 1, 0)


async def test_a_request_that_fails_reaches_the_shadow() -> None:
    def fail() -> None:
        raise InvalidRequest("no such token")

    registry = Registry()
    plane = Dataplane("digits", registry, Metrics(), workers=1, queue_limit=8)
    stable, mirror = serving(FakeModel(fail)), Mirror(FakeModel(fail), wanted=1)
    stable.shadow = mirror
    registry.switch(stable)
    x = Tensor("x", "FP32", X["x"])
    try:
        with pytest.raises(InvalidRequest):
            await plane.infer(InferRequest("digits", None, (x,), None, "", time.perf_counter()))
    finally:
        mirror.close()
        plane.close()
    assert (mirror.agreement.compared, mirror.agreement.agreed) == (1, 1)


def test_a_model_without_the_output_disagrees(mirror: Callable[..., Mirror], clock: Clock) -> None:
    one = mirror(lambda: floats([0.0, 1.0]))
    one._model.infer = lambda *_: {}  # type: ignore[method-assign]
    assert offered(one, clock, 1).errors == 1


def test_a_request_goes_by_while_another_is_in_the_shadow(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    gate = Gate()

    def slow() -> np.ndarray:
        gate()
        return Y["y"]

    one = mirror(slow)
    one.offer(X, Y)
    gate.wait_entered()
    for _ in range(50):
        one.offer(X, Y)  # would block for ever if it waited
    gate.open.set()
    wait_for(lambda: one.agreement.compared)
    assert one.agreement.compared == 1


def test_the_shadow_runs_for_a_bounded_share_of_the_time(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    took = 0.2

    def slow() -> np.ndarray:
        clock.time += took
        return Y["y"]

    one = mirror(slow)
    offered(one, clock, 1)
    rest = took * (1 / SHARE - 1)
    clock.time += rest - 0.01
    one.offer(X, Y)
    assert one.agreement.compared == 1
    offered_again = clock.time = clock.time + 0.02
    one.offer(X, Y)
    wait_for(lambda: one.agreement.compared == 2)
    assert took / (offered_again - 101.0) <= SHARE + 1e-6


def test_a_quick_model_is_not_woken_for_each_request(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    one = mirror(lambda: Y["y"])
    offered(one, clock, 1)
    clock.time += LEAST_GAP_S / 2
    one.offer(X, Y)
    assert one.agreement.compared == 1


def test_what_only_looks_into_a_buffer_is_copied(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    gate, buffer = Gate(), bytearray(np.ones(4, np.float32).tobytes())
    seen: list[np.ndarray] = []
    one = mirror(lambda: Y["y"])

    def infer(inputs: Tensors, *_: object) -> Tensors:
        gate()
        seen.append(inputs["x"])
        return Y

    one._model.infer = infer  # type: ignore[method-assign]
    one.offer({"x": np.frombuffer(buffer, np.float32).reshape(1, 4)}, Y)
    gate.wait_entered()
    buffer[:] = bytes(16)  # the next request of the connection
    gate.open.set()
    wait_for(lambda: seen)
    assert seen[0].tolist() == [[1, 1, 1, 1]]


def test_after_the_end_nothing_runs_in_the_shadow(
    mirror: Callable[..., Mirror], clock: Clock
) -> None:
    gate = Gate()

    def slow() -> np.ndarray:
        gate()
        return Y["y"]

    one = mirror(slow)
    one.offer(X, Y)
    gate.wait_entered()
    closing = threading.Thread(target=one.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()  # it waits for the run: the model is closed next
    gate.open.set()
    closing.join(30)
    assert not closing.is_alive()
    clock.time += 100
    one.offer(X, Y)
    assert one.agreement.compared == 1
    one._idle.release()


async def test_a_shadow_that_fails_or_hangs_never_touches_the_answer() -> None:
    registry, metrics, gate = Registry(), Metrics(), Gate()
    plane = Dataplane("digits", registry, metrics, workers=1, queue_limit=8)
    stable = serving(FakeModel())

    def hang() -> np.ndarray:
        gate()
        raise RuntimeError

    mirror = Mirror(Scored(hang), wanted=5)  # type: ignore[arg-type]
    stable.shadow = mirror
    registry.switch(stable)
    x = Tensor("x", "FP32", X["x"])
    try:
        for _ in range(20):
            request = InferRequest("digits", None, (x,), None, "", time.perf_counter())
            assert (await plane.infer(request)).outputs[0].array.tolist() == [[1, 1, 1, 1]]
        total = metrics.of("r1").counters().total
        assert (total.requests, total.failures) == (20, {})
    finally:
        gate.open.set()
        mirror.close()
        plane.close()
    assert (mirror.agreement.compared, mirror.agreement.errors) == (1, 1)
