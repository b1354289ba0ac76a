"""Golden files of every form: samples in rows, whole requests, scalars, ragged answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from skerry_runtime.agent import exam as exams
from skerry_runtime.agent.convert import bf16_numbers, bf16_words
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.contract import Acceleration, GoldenExam, GoldenMetric
from unit.runtime.agent.support import sha256

METRIC = GoldenMetric
Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass
class Model:
    """A model that is a function of its inputs; remembers the shapes that it was asked with."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    answer: Answer
    asked: list[dict[str, tuple[int, ...]]] = field(default_factory=list)

    @property
    def metadata(self) -> ModelMetadata:
        return ModelMetadata("test", self.inputs, self.outputs)

    @property
    def acceleration(self) -> Acceleration:
        return Acceleration(requested=(), effective="CPU", delegated_percent=0)

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        for spec in self.inputs:
            shape = np.shape(inputs[spec.name])
            if spec.any_shape:
                continue
            assert len(shape) == len(spec.shape)
            assert all(d in (-1, f) for d, f in zip(spec.shape, shape, strict=True))
        self.asked.append({name: np.shape(array) for name, array in inputs.items()})
        return self.answer({name: np.asarray(array) for name, array in inputs.items()})

    def close(self) -> None:
        pass


def take(
    model: Model, metric: GoldenMetric, threshold: str, arrays: Mapping[str, object]
) -> exams.Grade:
    golden = GoldenExam(uri="u", sha256=sha256(b""), metric=metric, threshold=threshold)
    read = {key: np.asarray(value) for key, value in arrays.items()}
    return exams.run(exams.prepare(golden, read, model.metadata), model)


def speech(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A voice detector's signature: the state has its batch on the second axis."""
    x, state = inputs["input"], inputs["state"]
    rate = float(inputs["sr"]) / 16000
    return {"output": x.sum(1, keepdims=True) * rate + state.sum((0, 2))[:, None], "stateN": state}


def speaking() -> Model:
    return Model(
        (
            TensorSpec("input", "FP32", (-1, 5)),
            TensorSpec("state", "FP32", (2, -1, 3)),
            TensorSpec("sr", "INT64", ()),
        ),
        (TensorSpec("output", "FP32", (-1, 1)), TensorSpec("stateN", "FP32", (2, -1, 3))),
        speech,
    )


RANDOM = np.random.default_rng(7)
X, STATE = RANDOM.random((4, 5), np.float32), RANDOM.random((2, 4, 3), np.float32)


def spoken(x: np.ndarray, state: np.ndarray) -> np.ndarray:
    return speech({"input": x, "state": state, "sr": np.array(16000)})["output"]


def test_arrays_as_one_request_has_them_are_one_request() -> None:
    model = speaking()
    arrays = {"input": X, "state": STATE, "sr": 16000, "expected_output": spoken(X, STATE)}
    grade = take(model, METRIC.MAX_ABS_ERROR, "0.001", arrays)
    assert (grade.result.passed, grade.result.samples) == (True, 1)
    assert model.asked == [{"input": (4, 5), "state": (2, 4, 3), "sr": ()}]


def test_a_wrong_answer_to_a_whole_request_is_noticed() -> None:
    wrong = spoken(X, STATE) + np.float32(0.5)
    arrays = {"input": X, "state": STATE, "sr": 16000, "expected_output": wrong}
    grade = take(speaking(), METRIC.MAX_ABS_ERROR, "0.001", arrays)
    assert grade.message == "MaxAbsError 0.5 is over the threshold 0.001 (1 request)"


def test_an_axis_before_all_others_numbers_the_requests() -> None:
    model, xs, states = speaking(), np.stack([X, X + 1]), np.stack([STATE, STATE * 2])
    expected = np.stack([spoken(*pair) for pair in zip(xs, states, strict=True)])
    arrays = {"input": xs, "state": states, "sr": [16000, 16000], "expected_output": expected}
    grade = take(model, METRIC.MAX_ABS_ERROR, "0.001", arrays)
    assert (grade.result.passed, grade.result.samples) == (True, 2)
    assert model.asked == [{"input": (4, 5), "state": (2, 4, 3), "sr": ()}] * 2
    swapped = {**arrays, "expected_output": expected[::-1]}
    assert not take(speaking(), METRIC.MAX_ABS_ERROR, "0.001", swapped).result.passed


def test_an_input_without_the_axis_is_the_same_in_every_request() -> None:
    model, xs = speaking(), np.stack([X, X + 1, X + 2])
    expected = np.stack([spoken(x, STATE) for x in xs])
    arrays = {"input": xs, "state": STATE, "sr": 16000, "expected_output": expected}
    assert take(model, METRIC.MAX_ABS_ERROR, "0.001", arrays).result.samples == 3


def test_requests_of_different_sizes_have_numbered_keys() -> None:
    model, arrays = speaking(), {"sr": 16000}
    for number, size in enumerate((1, 3, 2)):
        x, state = X[:size], STATE[:, :size]
        arrays |= {f"{number}/input": x, f"{number}/state": state}
        arrays |= {f"{number}/expected_output": spoken(x, state)}
    grade = take(model, METRIC.MAX_ABS_ERROR, "0.001", arrays)
    assert (grade.result.passed, grade.result.samples) == (True, 3)
    assert [asked["input"] for asked in model.asked] == [(1, 5), (3, 5), (2, 5)]


def test_a_scalar_input_goes_with_every_batch_of_samples() -> None:
    model = Model(
        (TensorSpec("x", "FP32", (-1, 5)), TensorSpec("scale", "FP32", ())),
        (TensorSpec("y", "FP32", (-1, 5)),),
        lambda inputs: {"y": inputs["x"] * inputs["scale"]},
    )
    xs = np.eye(5, dtype=np.float32)[np.arange(90) % 5]
    arrays = {"x": xs, "scale": 3.0, "labels": np.arange(90) % 5}
    grade = take(model, METRIC.ACCURACY, "1", arrays)
    assert (grade.result.value, grade.result.samples) == (1.0, 90)
    assert [asked["x"][0] for asked in model.asked] == [64, 26]
    assert {asked["scale"] for asked in model.asked} == {()}


def detector(batch: int = -1) -> Model:
    """As many rows as the picture has bright points: nothing of the answer is known before."""
    return Model(
        (TensorSpec("image", "FP32", (batch, 4, 4)),),
        (TensorSpec("found", "INT64", (-1, 3)),),
        lambda inputs: {"found": np.argwhere(inputs["image"] > 0.5)},
    )


IMAGES = (RANDOM.random((3, 4, 4)) > 0.6).astype(np.float32)


@pytest.mark.parametrize("batch", [-1, 1])
def test_ragged_answers_to_a_row_each_have_numbered_keys(batch: int) -> None:
    arrays = {f"{n}/expected_found": np.argwhere(IMAGES[n : n + 1] > 0.5) for n in range(3)}
    grade = take(detector(batch), METRIC.MAX_ABS_ERROR, "0", {**arrays, "image": IMAGES})
    assert (grade.result.passed, grade.result.samples) == (True, 3)
    arrays["1/expected_found"] = arrays["1/expected_found"][:-1]
    grade = take(detector(batch), METRIC.MAX_ABS_ERROR, "0", {**arrays, "image": IMAGES})
    assert not grade.result.passed
    assert "output 'found' has shape" in grade.message


def test_samples_whose_answers_have_no_rows_are_asked_one_by_one() -> None:
    """A recurrent model's labels, one a sample: its answers have the steps first."""
    model = Model(
        (TensorSpec("x", "FP32", (-1, 3)),),
        (TensorSpec("steps", "FP32", (2, -1, 3)),),
        lambda inputs: {"steps": np.stack([inputs["x"], inputs["x"] * 2])},
    )
    x = np.eye(3, dtype=np.float32)
    expected = np.stack([np.stack([row[None], row[None] * 2]) for row in x])
    grade = take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": expected})
    assert (grade.result.passed, grade.result.samples) == (True, 3)
    assert [asked["x"] for asked in model.asked[-3:]] == [(1, 3)] * 3


def test_outputs_without_rows_that_nothing_asks_for_do_no_harm() -> None:
    model = Model(
        (TensorSpec("x", "FP32", (-1, 3)),),
        (TensorSpec("y", "FP32", (-1, 3)), TensorSpec("total", "FP32", ())),
        lambda inputs: {"y": inputs["x"], "total": inputs["x"].sum()},
    )
    x = np.eye(3, dtype=np.float32)[np.arange(70) % 3]
    for metric, more in ((METRIC.ACCURACY, {"labels": np.arange(70) % 3}), (METRIC.AGREEMENT, {})):
        model.asked.clear()
        grade = take(model, metric, "1", {"x": x, "expected": x, **more})
        assert grade.result.passed
        assert [asked["x"] for asked in model.asked] == [(64, 3), (6, 3)]


def test_a_picture_with_the_boxes_of_one_request_is_one_request() -> None:
    arrays = {"image": IMAGES[:1], "expected": np.argwhere(IMAGES[:1] > 0.5)}
    assert take(detector(), METRIC.MAX_ABS_ERROR, "0", arrays).result.samples == 1


def test_labels_of_a_whole_request_are_one_a_row() -> None:
    model = speaking()
    model.answer = lambda inputs: {
        "output": np.eye(2, dtype=np.float32)[(inputs["input"][:, 0] > 0.5).astype(int)],
        "stateN": inputs["state"],
    }
    labels = (X[:, 0] > 0.5).astype(np.int64)
    arrays = {"input": X, "state": STATE, "sr": 16000, "labels": labels}
    assert take(model, METRIC.ACCURACY, "1", arrays).result.passed
    assert take(model, METRIC.ACCURACY, "1", {**arrays, "labels": 1 - labels}).result.value == 0.0


def test_agreement_of_whole_requests_counts_choices() -> None:
    model = Model(
        (TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("width", "INT64", ())),
        (TensorSpec("scores", "FP32", (-1, -1, 4)),),
        lambda inputs: {"scores": np.eye(4, dtype=np.float32)[inputs["ids"] % 4]},
    )
    ids = np.arange(6).reshape(2, 3)
    wanted = np.eye(4, dtype=np.float32)[ids % 4]
    wanted[0, 0] = wanted[0, 0][::-1]
    grade = take(model, METRIC.AGREEMENT, "0.8", {"ids": ids, "width": 3, "0/expected": wanted})
    assert grade.result.value == pytest.approx(5 / 6)


def test_bfloat16_is_read_and_compared_as_numbers() -> None:
    model = Model(
        (TensorSpec("x", "BF16", (-1, 3)),),
        (TensorSpec("y", "BF16", (-1, 3)),),
        lambda inputs: {"y": bf16_words(bf16_numbers(inputs["x"]) * 2)},
    )
    x = np.array([[1.5, -2.25, 1e-3], [0.1, 7, -1e30]], np.float32)
    arrays = {"x": x, "expected": x * 2}
    assert not take(model, METRIC.MAX_ABS_ERROR, "0", arrays).result.passed
    exact = bf16_numbers(bf16_words(x))
    assert take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": exact * 2}).result.passed


@pytest.mark.parametrize(
    ("number", "rounded"),
    [(1.0, 1.0), (1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6), (np.inf, np.inf), (-0.0, -0.0)],
)
def test_numbers_are_rounded_to_the_nearest_bfloat16(number: float, rounded: float) -> None:
    assert bf16_numbers(bf16_words(np.array(number, np.float32))) == rounded


def test_no_nan_becomes_an_infinity_in_bfloat16() -> None:
    loud = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(bf16_numbers(bf16_words(loud))).all()


def test_nan_is_met_only_where_it_is_expected() -> None:
    x = np.array([[1.0, np.nan, 2.0]], np.float32)
    model = Model(
        (TensorSpec("x", "FP32", (-1, 3)),),
        (TensorSpec("y", "FP32", (-1, 3)),),
        lambda inputs: {"y": inputs["x"]},
    )
    assert take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": x}).result.passed
    other = np.roll(x, 1)
    grade = take(model, METRIC.MAX_ABS_ERROR, "1", {"x": x, "expected": other})
    assert "NaN" in grade.message


def test_equal_infinities_are_no_error() -> None:
    x = np.array([[1.0, -np.inf, np.inf]], np.float32)
    model = Model(
        (TensorSpec("x", "FP32", (-1, 3)),),
        (TensorSpec("y", "FP32", (-1, 3)),),
        lambda inputs: {"y": inputs["x"]},
    )
    assert take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": x}).result.passed


def test_a_model_without_a_batch_is_examined() -> None:
    """One vector in, one number out: the first axis is none of samples."""
    model = Model(
        (TensorSpec("x", "FP32", (3,)),),
        (TensorSpec("y", "FP32", ()),),
        lambda inputs: {"y": inputs["x"].sum()},
    )
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    grade = take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": x.sum(1)})
    assert (grade.result.passed, grade.result.samples) == (True, 4)
    one = {"x": x[0], "expected": x[0].sum()}
    assert take(model, METRIC.MAX_ABS_ERROR, "0", one).result.passed


def shapeless() -> Model:
    return Model(
        (TensorSpec("x", "FP32", (), any_shape=True),),
        (TensorSpec("y", "FP32", (), any_shape=True),),
        lambda inputs: {"y": inputs["x"] * 2},
    )


def test_a_model_without_declared_shapes_has_samples_in_rows() -> None:
    model, x = shapeless(), np.arange(300, dtype=np.float32).reshape(100, 3)
    grade = take(model, METRIC.MAX_ABS_ERROR, "0", {"x": x, "expected": x * 2})
    assert (grade.result.passed, grade.result.samples) == (True, 100)
    assert [asked["x"] for asked in model.asked] == [(64, 3), (36, 3)]


def test_a_model_without_declared_shapes_has_requests_by_number() -> None:
    model, arrays = shapeless(), {}
    for number, shape in enumerate([(2, 3), (), (1, 2, 2)]):
        x = np.ones(shape, np.float32)
        arrays |= {f"{number}/x": x, f"{number}/expected": x * 2}
    assert take(model, METRIC.MAX_ABS_ERROR, "0", arrays).result.passed
    assert [asked["x"] for asked in model.asked] == [(2, 3), (), (1, 2, 2)]


SPEECH = {"input": X, "state": STATE, "sr": 16000, "expected_output": spoken(X, STATE)}
UNUSABLE = {
    "'state' has shape [2, 4, 2]": {**SPEECH, "state": STATE[..., :2]},
    "no array 'sr'": {key: value for key, value in SPEECH.items() if key != "sr"},
    "array '1/state' has shape": {
        "0/input": X,
        "1/input": X,
        "0/state": STATE,
        "1/state": STATE[:1],
        "sr": 1,
        "expected_output": np.zeros((2, 4, 1)),
    },
    "no array '1/state'": {
        "0/input": X,
        "1/input": X,
        "0/state": STATE,
        "sr": 1,
        "expected_output": np.zeros((2, 4, 1)),
    },
    "'expected_output' holds 4 requests, others hold 1": {
        "0/input": X,
        "0/state": STATE,
        "sr": 1,
        "expected_output": spoken(X, STATE),
    },
    "'state' holds 1 requests, others hold 2": {
        **SPEECH,
        "input": np.stack([X, X]),
        "state": STATE[None],
    },
    "holds no request": {**SPEECH, "input": X[None][:0], "expected_output": np.zeros((0, 4, 1))},
    "only numbers and texts can be answers": {
        **SPEECH,
        "expected_output": np.zeros((4, 1), [("a", "<f4")]),
    },
    "is float64, the model takes INT64": {**SPEECH, "sr": 16000.5},
}


@pytest.mark.parametrize("words", UNUSABLE)
def test_a_file_of_requests_that_does_not_fit_says_why(words: str) -> None:
    with pytest.raises(InvalidExam) as raised:
        take(speaking(), METRIC.MAX_ABS_ERROR, "0", UNUSABLE[words])
    assert words in str(raised.value)


def test_the_probe_tries_the_largest_request() -> None:
    arrays = {"sr": np.array(16000)}
    for number, size in enumerate((1, 3, 2)):
        arrays |= {f"{number}/input": X[:size], f"{number}/state": STATE[:, :size]}
    asked = exams.largest_questions(arrays, speaking().metadata, None)
    assert {name: np.shape(array) for name, array in asked.items()} == {
        "input": (3, 5),
        "state": (2, 3, 3),
        "sr": (),
    }


def test_the_probe_tries_a_batch_as_the_exam_feeds_it() -> None:
    metadata = ModelMetadata(
        "test", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),)
    )
    arrays = {"x": np.zeros((150, 3), np.float32), "labels": np.zeros(150, np.int64)}
    assert exams.largest_questions(arrays, metadata, None)["x"].shape == (64, 3)


def test_samples_with_large_answers_go_in_small_batches() -> None:
    """16 KiB of questions once took 128 MiB for answers."""
    model = Model(
        (TensorSpec("x", "FP32", (-1, 1)),),
        (TensorSpec("y", "FP32", (-1, 1 << 18)),),
        lambda inputs: {"y": np.zeros((len(inputs["x"]), 1 << 18), np.float32)},
    )
    arrays = {"x": np.zeros((9, 1)), "labels": np.zeros(9, np.int64)}
    take(model, METRIC.ACCURACY, "1", arrays)
    assert [asked["x"][0] for asked in model.asked] == [3, 3, 3]
