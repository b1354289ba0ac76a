"""The golden exam, metric by metric, with models that are functions."""

from __future__ import annotations

import sys
import weakref
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry_runtime.agent import exam as exams
from skerry_runtime.agent.npz import BadArchive, read_npz
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.contract import Acceleration, GoldenExam, GoldenMetric
from unit.runtime.agent.support import npz, sha256

SCORES = TensorSpec("scores", "FP32", (-1, 3))


@dataclass
class Answering:
    """A model that is a function from x to its outputs; remembers its batches."""

    answer: Callable[[np.ndarray], dict[str, np.ndarray]]
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "FP32", (-1, 3)),)
    outputs: tuple[TensorSpec, ...] = (SCORES,)
    batches: list[int] | None = None

    @property
    def metadata(self) -> ModelMetadata:
        return ModelMetadata("test", self.inputs, self.outputs)

    @property
    def acceleration(self) -> Acceleration:
        return Acceleration(requested=(), effective="CPU", delegated_percent=0)

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        x = np.asarray(inputs["x"])
        self.batches = [*(self.batches or []), len(x)]
        return self.answer(x)

    def close(self) -> None:
        pass


ECHO = Answering(lambda x: {"scores": x})


def run(
    model: Answering,
    metric: GoldenMetric = GoldenMetric.ACCURACY,
    threshold: str = "0.9",
    **arrays: np.ndarray,
) -> exams.Outcome:
    golden = GoldenExam(uri="u", sha256=sha256(b""), metric=metric, threshold=threshold)
    return exams.run(exams.prepare(golden, dict(arrays), model.metadata), model)


def one_hot(labels: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    return np.eye(3, dtype=dtype)[labels]


LABELS = np.arange(150) % 3


def test_accuracy_of_scores() -> None:
    grade = run(ECHO, x=one_hot(LABELS), labels=LABELS)
    assert grade.result.passed
    assert (grade.result.value, grade.result.samples) == (1.0, 150)


def test_accuracy_of_quantised_scores() -> None:
    """An int8 model's answers are as it computes them: the largest is still the class."""
    quantised = Answering(lambda x: {"scores": (255 * x - 128).astype(np.int8)})
    assert run(quantised, x=one_hot(LABELS), labels=LABELS).result.value == 1.0


def test_accuracy_of_classes() -> None:
    model = Answering(lambda x: {"p": x, "label": x.argmax(1).astype(np.int64)})
    assert run(model, x=one_hot(LABELS), labels=LABELS).result.value == 1.0


def test_accuracy_of_names() -> None:
    names = np.array(["ant", "bee", "cat"])
    model = Answering(
        lambda x: {"label": np.array([names[i].encode() for i in x.argmax(1)], dtype=object)}
    )
    assert run(model, x=one_hot(LABELS), labels=names[LABELS]).result.value == 1.0


def test_a_failure_says_its_figures() -> None:
    grade = run(ECHO, x=one_hot(LABELS), labels=(LABELS + (np.arange(150) % 2)) % 3)
    assert not grade.result.passed
    assert grade.message == "Accuracy 0.5 is under the threshold 0.9 (150 samples)"


def test_a_sole_input_may_be_called_inputs() -> None:
    assert run(ECHO, inputs=one_hot(LABELS), labels=LABELS).result.passed


def test_float64_questions_suit_a_float32_model() -> None:
    assert run(ECHO, x=one_hot(LABELS, np.float64), labels=LABELS).result.passed


def test_questions_come_in_batches() -> None:
    model = Answering(lambda x: {"scores": x})
    run(model, x=one_hot(LABELS), labels=LABELS)
    assert model.batches == [64, 64, 22]


def test_a_fixed_batch_is_filled_up() -> None:
    model = Answering(lambda x: {"scores": x}, inputs=(TensorSpec("x", "FP32", (40, 3)),))
    grade = run(model, x=one_hot(LABELS), labels=LABELS)
    assert model.batches == [40, 40, 40, 40]
    assert (grade.result.value, grade.result.samples) == (1.0, 150)


def test_largest_error() -> None:
    x = one_hot(LABELS)
    near, far = x.copy(), x.copy()
    near[7, 1] += 0.01
    far[7, 1] += 0.5
    metric = GoldenMetric.MAX_ABS_ERROR
    assert run(ECHO, metric, "0.1", x=x, expected=near).result.passed
    grade = run(ECHO, metric, "0.1", x=x, expected_scores=far)
    assert grade.message == "MaxAbsError 0.5 is over the threshold 0.1 (150 samples)"


def test_agreement() -> None:
    x = one_hot(LABELS)
    assert run(ECHO, GoldenMetric.AGREEMENT, x=x, expected=x * 9).result.value == 1.0
    shifted = run(ECHO, GoldenMetric.AGREEMENT, x=x, expected=np.roll(x, 1, axis=1))
    assert shifted.result.value == 0.0


@pytest.mark.parametrize(
    ("metric", "worst"),
    [
        (GoldenMetric.ACCURACY, 0.0),
        (GoldenMetric.AGREEMENT, 0.0),
        (GoldenMetric.MAX_ABS_ERROR, sys.float_info.max),
    ],
)
def test_nan_never_passes(metric: GoldenMetric, worst: float) -> None:
    model = Answering(lambda x: {"scores": np.where(x > 0, np.nan, x)})
    x = one_hot(LABELS)
    grade = run(
        model, metric, "0.0" if metric.higher_is_better else "1e9", x=x, labels=LABELS, expected=x
    )
    assert not grade.result.passed
    assert grade.result.value == worst
    assert "NaN" in grade.message
    assert grade.result.model_validate_json(grade.result.model_dump_json()) == grade.result


@pytest.mark.parametrize("text", ["", "high", "NaN", "sNaN", "Infinity", "1e999"])
def test_a_threshold_that_is_no_finite_number_is_an_invalid_exam(text: str) -> None:
    with pytest.raises(InvalidExam, match="threshold"):
        exams.parse_threshold(text)


def test_an_infinite_error_can_be_reported() -> None:
    model = Answering(lambda x: {"scores": x / 0.0})
    with np.errstate(all="ignore"):
        x = one_hot(LABELS) + 1
        grade = run(model, GoldenMetric.MAX_ABS_ERROR, "1", x=x, expected=x)
    assert grade.result.value == sys.float_info.max


ONES = one_hot(LABELS)
UNUSABLE: list[tuple[str, GoldenMetric, str, dict[str, np.ndarray]]] = [
    ("no array 'x' or 'inputs'", GoldenMetric.ACCURACY, "0.9", {"labels": LABELS}),
    ("no array 'labels'", GoldenMetric.ACCURACY, "0.9", {"x": ONES}),
    ("no array 'expected'", GoldenMetric.MAX_ABS_ERROR, "0.9", {"x": ONES}),
    ("'labels' holds 3 samples", GoldenMetric.ACCURACY, "0.9", {"x": ONES, "labels": LABELS[:3]}),
    ("'labels' must hold one", GoldenMetric.ACCURACY, "0.9", {"x": ONES, "labels": ONES}),
    ("shape", GoldenMetric.ACCURACY, "0.9", {"x": ONES[:, :2], "labels": LABELS}),
    ("shape", GoldenMetric.ACCURACY, "0.9", {"x": np.float32(1), "labels": LABELS}),
    ("is complex", GoldenMetric.ACCURACY, "0.9", {"x": ONES.astype(complex), "labels": LABELS}),
    ("no sample", GoldenMetric.ACCURACY, "0.9", {"x": ONES[:0], "labels": LABELS[:0]}),
    ("no decimal", GoldenMetric.ACCURACY, "high", {"x": ONES, "labels": LABELS}),
    ("not finite", GoldenMetric.ACCURACY, "NaN", {"x": ONES, "labels": LABELS}),
    ("expected is", GoldenMetric.MAX_ABS_ERROR, "1", {"x": ONES, "expected": ONES[:, :2]}),
]


@pytest.mark.parametrize(("words", "metric", "threshold", "arrays"), UNUSABLE)
def test_a_file_that_does_not_fit_says_why(
    words: str, metric: GoldenMetric, threshold: str, arrays: dict[str, np.ndarray]
) -> None:
    with pytest.raises(InvalidExam, match=words):
        run(ECHO, metric, threshold, **arrays)


def write(tmp_path: Path, body: bytes) -> Path:
    path = tmp_path / "golden.npz"
    path.write_bytes(body)
    return path


def test_an_archive_is_read(tmp_path: Path) -> None:
    arrays = read_npz(write(tmp_path, npz(x=ONES, labels=LABELS)))
    np.testing.assert_array_equal(arrays["x"], ONES)


def test_pickle_is_never_read(tmp_path: Path) -> None:
    body = npz(x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadArchive, match="'x' of the golden file needs pickle"):
        read_npz(write(tmp_path, body))


@pytest.mark.parametrize("body", [b"", b"no zip", npz(x=ONES)[:-30], npz(x=ONES)[:200]])
def test_rubbish_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(BadArchive):
        read_npz(write(tmp_path, body))


def test_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * (257 * 1024 * 1024))
    with pytest.raises(BadArchive, match="at most"):
        read_npz(path)


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "liar.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BadArchive, match="claims more than it holds"):
        read_npz(path)


def test_the_first_questions_fill_a_fixed_batch() -> None:
    metadata = ModelMetadata("test", (TensorSpec("x", "FP32", (4, 3)),), (SCORES,))
    assert exams.largest_questions({"x": ONES[:2]}, metadata, None)["x"].shape == (4, 3)


def test_large_samples_go_in_small_batches() -> None:
    wide = Answering(lambda x: {"scores": x[:, :3]}, (TensorSpec("x", "FP32", (-1, -1)),))
    megabyte = np.eye(20, 1 << 18, dtype=np.float32)
    run(wide, x=megabyte, labels=np.zeros(20, np.int64))
    assert wide.batches == [1] * 20
    few = Answering(lambda x: {"scores": x})
    run(few, x=np.eye(3, dtype=np.float32)[np.zeros(100, int)], labels=np.zeros(100, np.int64))
    assert few.batches == [64, 36]


def test_an_exam_keeps_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are few bytes; their answers may be large, and the serving process has no room."""
    kept: list[weakref.ref[Any]] = []
    alive: list[int] = []

    class Wide:
        metadata = ModelMetadata(
            "x", (TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", "FP32", (-1, 64)),)
        )

        def infer(self, inputs: Tensors, outputs: object = None) -> Tensors:
            answer = np.zeros((len(inputs["x"]), 64), np.float32)
            alive.append(sum(one() is not None for one in kept))
            kept.append(weakref.ref(answer))
            return {"y": answer}

    golden = GoldenExam(uri="u", sha256=sha256(b""), metric=GoldenMetric.ACCURACY, threshold="0")
    samples = 64 * 20
    arrays = {"x": np.zeros((samples, 1), np.float32), "labels": np.zeros(samples, np.int64)}
    result = exams.run(exams.prepare(golden, arrays, Wide.metadata), Wide()).result
    assert (result.value, result.samples) == (1.0, samples)
    assert max(alive) <= 1


def test_a_metric_that_this_runtime_does_not_know_is_refused_with_a_remedy() -> None:
    golden = GoldenExam.model_validate(
        {"uri": "u", "sha256": sha256(b""), "metric": "F1", "threshold": "0.5"}
    )
    metadata = ModelMetadata("x", (TensorSpec("x", "FP32", (-1, 1)),), ())
    with pytest.raises(InvalidExam, match="knows no metric 'F1': it needs a newer image"):
        exams.prepare(golden, {"x": np.zeros((1, 1), np.float32)}, metadata)


ANY = TensorSpec("x", "FP32", (-1,), any_shape=True)


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param(
            {"x": np.eye(3, dtype=np.float32), "expected": np.eye(3, dtype=np.float32)}, id="rows"
        ),
        pytest.param(
            {
                "0/x": np.float32([[1, 2, 3]]),
                "0/expected": np.float32([[1, 2, 3]]),
                "1/x": np.float32([[1, 2], [3, 4]]),
                "1/expected": np.float32([[1, 2], [3, 4]]),
            },
            id="whole requests",
        ),
    ],
)
def test_an_input_without_a_declared_shape_is_examined_in_the_file_s(
    arrays: dict[str, np.ndarray],
) -> None:
    model = Answering(lambda x: {"scores": x}, (ANY,))
    assert run(model, GoldenMetric.MAX_ABS_ERROR, "0", **arrays).result.passed


class Summing(Answering):
    """Adds up what it was asked, as a model with a state does."""

    def begin(self) -> Summing:
        total = 0.0

        def answer(x: np.ndarray) -> dict[str, np.ndarray]:
            nonlocal total
            total += float(x.sum())
            return {"scores": np.full((len(x), 3), total, np.float32)}

        return Summing(answer)


def test_a_model_with_a_state_is_asked_one_sample_after_another() -> None:
    def without(_: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError

    model = Summing(without)
    steps = np.ones((4, 3), np.float32)
    grade = run(model, GoldenMetric.MAX_ABS_ERROR, "0", x=steps, expected=steps.cumsum(axis=0) * 3)
    assert grade.result.passed
