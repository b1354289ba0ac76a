"""Batching that changes no answer: which models couple rows, and what becomes of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic

from serving import models
from serving.fakes import CPU, load, serving
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.batching import Feed, decide, kept
from skerry_runtime.contract import Batching, BatchingMode
from skerry_runtime.coupling import find_coupling
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InferenceFailed, InvalidRequest
from skerry_runtime.metrics import Metrics
from skerry_runtime.protocol.types import InferRequest, Tensor
from skerry_runtime.registry import Registry

AUTO, ON = Batching(max_size=8), Batching(max_size=8, mode=BatchingMode.ON)

Work = Callable[[np.ndarray], np.ndarray]


class Rows:
    """y = work(x), with a price for each run that batching saves."""

    def __init__(self, work: Work, taken: str = "FP32", given: str = "FP32") -> None:
        self.metadata = ModelMetadata(
            "fake", (TensorSpec("x", taken, (-1, -1)),), (TensorSpec("y", given, (-1, -1)),)
        )
        self.acceleration = CPU
        self._work = work

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        time.sleep(0.002)
        return {"y": self._work(np.asarray(inputs["x"]))}

    def close(self) -> None:
        return None


def feed(x: np.ndarray) -> Feed:
    return Feed({"x": x}, ("y",), x.nbytes)


FLOATS = np.float32([[0.5, -1.0, 2.0]])
TOKENS = np.int64([[5, 3, 9]])


def scaled_by_all(x: np.ndarray) -> np.ndarray:
    """Round to a grid that the largest number of the whole batch sets."""
    step = max(float(np.abs(x).max(initial=0)), 1e-9) / 127
    return (np.round(x / step) * step).astype(np.float32)


TABLE = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)

COUPLED: dict[str, tuple[Work, np.ndarray]] = {
    "one scale for the batch": (scaled_by_all, FLOATS),
    "one scale for the batch, and a first request of zeros": (scaled_by_all, 0 * FLOATS),
    "the batch's mean": (lambda x: x - x.mean(axis=0, keepdims=True), FLOATS),
    "sorted": (lambda x: np.sort(x, axis=0), FLOATS),
    "the row's place": (lambda x: x + np.arange(len(x))[:, None], FLOATS),
    "tokens, one scale for the batch": (lambda x: scaled_by_all(TABLE[x].sum(axis=1)), TOKENS),
    "counted over the batch": (lambda x: np.full_like(x, np.unique(x).size), TOKENS),
    "fewer rows": (lambda x: x[:1], FLOATS),
}


@pytest.mark.parametrize("case", COUPLED)
def test_auto_leaves_a_model_alone_whose_answers_would_change(case: str) -> None:
    work, x = COUPLED[case]
    decision = decide(AUTO, Rows(work, given=datatype(work(x))), feed(x))
    assert not decision.is_on
    assert "output 'y'" in decision.reason


@pytest.mark.parametrize("case", COUPLED)
def test_on_batches_it_all_the_same_and_warns(case: str) -> None:
    work, x = COUPLED[case]
    decision = decide(ON, Rows(work, given=datatype(work(x))), feed(x))
    assert decision.is_on
    assert decision.warning
    assert decision.warning in decision.reason


def datatype(array: np.ndarray) -> str:
    return {"f4": "FP32", "f8": "FP64", "i8": "INT64", "f2": "FP16"}[array.dtype.str[1:]]


def nan_rows(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.nan)


ALONE: dict[str, tuple[Work, np.ndarray]] = {
    "each number for itself": (lambda x: 2 * x, FLOATS),
    "each row for itself": (lambda x: x - x.mean(axis=1, keepdims=True), FLOATS),
    "tokens": (lambda x: TABLE[x].sum(axis=1), TOKENS),
    "labels": (lambda x: x.argmax(axis=1, keepdims=True), FLOATS),
    "numbers that are none": (nan_rows, FLOATS),
    "rounding": (lambda x: x * np.float32(1 + 1e-6 * len(x)), FLOATS),
    "half floats": (lambda x: (2 * x).astype(np.float16), FLOATS),
}


@pytest.mark.parametrize("mode", [AUTO, ON])
@pytest.mark.parametrize("case", ALONE)
def test_a_model_whose_rows_stand_alone_is_batched(case: str, mode: Batching) -> None:
    work, x = ALONE[case]
    decision = decide(mode, Rows(work, given=datatype(work(x))), feed(x))
    assert decision.is_on
    assert not decision.warning


def test_rows_that_the_model_does_not_take_are_left_out() -> None:
    def only_known(x: np.ndarray) -> np.ndarray:
        if (x < 3).any():
            raise InvalidRequest("no such token")
        return scaled_by_all(TABLE[x].sum(axis=1))

    assert find_coupling(Rows(only_known), {"x": TOKENS}, ("y",), 4).text


def test_without_an_unlike_row_the_decision_waits_for_another_request() -> None:
    zero, one = np.int64([[0]]), np.int64([[0], [1]])
    model = Rows(lambda x: TABLE[x].sum(axis=1))
    first = decide(AUTO, model, feed(zero))
    assert (first.is_on, first.is_final) == (False, False)
    assert decide(AUTO, model, feed(one)).is_on


def test_a_model_that_fails_on_the_request_itself_is_not_decided_on() -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise InferenceFailed("no")

    with pytest.raises(InferenceFailed):
        decide(AUTO, Rows(fail), feed(FLOATS))
    assert decide(ON, Rows(fail), feed(FLOATS)).reason == "asked for"


def test_what_is_kept_for_a_trial_does_not_change_with_the_connection_s_buffer() -> None:
    buffer = np.float32([[1], [2]])
    one = kept(feed(buffer[:]))
    buffer[:] = 9
    assert one.inputs["x"].tolist() == [[1], [2]]


def perceptron(path: Path) -> Path:
    random = np.random.default_rng(0)
    plain = models.save(
        path.with_suffix(".plain"),
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["k"]),
            helper.make_node("MatMul", ["k", "v"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        {
            "w": random.standard_normal((16, 32)).astype(np.float32),
            "v": random.standard_normal((32, 4)).astype(np.float32),
        },
    )
    quantize_dynamic(onnx.load(plain), path)
    return path


@pytest.mark.parametrize("x", [np.zeros((1, 16), np.float32), np.ones((1, 16), np.float32)])
def test_a_dynamically_quantised_model_is_found_out(tmp_path: Path, x: np.ndarray) -> None:
    model = load(perceptron(tmp_path / "m.onnx"))
    assert "output 'y' changes by" in find_coupling(model, {"x": x}, ("y",), 8).text


def test_the_same_model_in_floats_is_not(tmp_path: Path) -> None:
    perceptron(tmp_path / "m.onnx")
    model = load(tmp_path / "m.plain")
    random = np.random.default_rng(1).standard_normal((1, 16)).astype(np.float32)
    for size in (2, 8, 64):
        assert not find_coupling(model, {"x": random}, ("y",), size).text


@pytest.fixture
def plane() -> Iterator[Dataplane]:
    made = Dataplane("digits", Registry(), Metrics(), workers=2, queue_limit=8)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("batching", "state", "level"), [(AUTO, "off", "INFO"), (ON, "on", "WARNING")]
)
async def test_statistics_and_log_say_it(
    plane: Dataplane,
    caplog: pytest.LogCaptureFixture,
    batching: Batching,
    state: str,
    level: str,
) -> None:
    model = serving(Rows(scaled_by_all))
    model.batching = batching
    plane._registry.switch(model)
    x = Tensor("x", "FP32", FLOATS)
    deadline = time.monotonic() + 30
    with caplog.at_level(logging.INFO):
        while "not decided" in plane.statistics("digits", None).batching.reason:
            assert time.monotonic() < deadline
            await plane.infer(InferRequest("digits", None, (x,), None, "", time.perf_counter()))
    reason = plane.statistics("digits", None).batching.reason
    assert "changes by" in reason
    (record,) = [r for r in caplog.records if r.getMessage().startswith("batching is")]
    assert (record.levelname, record.getMessage()) == (level, f"batching is {state}: {reason}")
