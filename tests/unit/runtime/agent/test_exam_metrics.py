"""The metrics for detectors and for sequences, as docs/exam.md defines them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.agent.sequences import MAX_LENGTH, agreement, edit_distance
from skerry_runtime.backends.base import TensorSpec
from skerry_runtime.contract import GoldenMetric
from unit.runtime.agent.test_golden_forms import Model, take

IMAGE = TensorSpec("image", "FP32", (-1, 2))


def answering(*batches: Mapping[str, object], ranks: Mapping[str, int] | None = None) -> Model:
    """A model that gives these answers, one after the other."""
    answers = itertools.cycle(batches)
    names = [*batches[0]]
    return Model(
        (IMAGE,),
        tuple(TensorSpec(name, "FP32", (-1,) * (ranks or {}).get(name, 2)) for name in names),
        lambda _: {name: np.asarray(array) for name, array in next(answers).items()},
    )


def iou(model: Model, threshold: str = "0.5", **arrays: object) -> float:
    grade = take(model, GoldenMetric.MEAN_IOU, threshold, {"image": np.zeros((1, 2)), **arrays})
    assert grade.result.passed is (grade.result.value >= float(threshold))
    return grade.result.value


ONE, TWO = [0.0, 0, 2, 2], [10.0, 10, 12, 14]
HALF = [0.0, 0, 2, 1]


def test_equal_boxes_in_any_order_are_all_met() -> None:
    assert iou(answering({"boxes": [[*TWO], [*ONE]]}), expected=[ONE, TWO]) == 1.0


def test_half_an_overlap_is_half() -> None:
    assert iou(answering({"boxes": [HALF]}), expected=[ONE]) == 0.5


def test_a_box_too_many_and_one_too_few_count_with_the_rest() -> None:
    assert iou(answering({"boxes": [ONE, TWO]}), expected=[ONE]) == 0.5
    assert iou(answering({"boxes": [ONE]}), expected=[ONE, TWO]) == 0.5
    assert iou(answering({"boxes": [TWO]}), expected=[ONE]) == 0.0


def test_a_box_is_matched_once_and_with_the_best() -> None:
    """Of two on one expected box, the better counts, and the other is one too many."""
    assert iou(answering({"boxes": [HALF, ONE]}), expected=[ONE]) == 0.5


def test_no_boxes_where_none_are_expected_do_not_lower_the_rest() -> None:
    none = np.zeros((0, 4))
    model = answering({"boxes": [ONE]}, {"boxes": none})
    arrays = {"0/image": np.zeros((1, 2)), "1/image": np.zeros((1, 2))}
    arrays |= {"0/expected": np.array([ONE]), "1/expected": none}
    grade = take(model, GoldenMetric.MEAN_IOU, "1", arrays)
    assert (grade.result.value, grade.result.samples) == (1.0, 2)


def test_an_exam_in_which_there_is_no_box_at_all_proves_nothing() -> None:
    none = np.zeros((0, 4))
    with pytest.raises(InvalidExam, match="no box is expected"):
        iou(answering({"boxes": none}), expected=none)


def test_padding_without_an_area_is_no_box() -> None:
    padded = [ONE, [0.0, 0, 0, 0], [-1.0, -1, -1, -1], [3.0, 3, 2, 2]]
    assert iou(answering({"boxes": padded}), expected=[ONE]) == 1.0


@pytest.mark.parametrize(
    ("form", "box"),
    [("corners", [1.0, 2, 5, 8]), ("center", [3.0, 5, 4, 6]), ("size", [1, 2, 4, 6])],
)
def test_boxes_have_three_forms(form: str, box: list[float]) -> None:
    model = answering({"boxes": [box]})
    assert iou(model, expected=[box], box_format=form) == 1.0
    lower = [box[0], box[1] + 1, *box[2:]]
    assert 0.5 < iou(answering({"boxes": [lower]}), expected=[box], box_format=form) < 1.0


ROWS = [[7.0, 0.9, *ONE], [8.0, 0.6, *TWO], [7.0, 0.1, 30, 30, 40, 40]]
COLUMNS = {"box_columns": [2, 3, 4, 5], "box_class": 0, "box_score": 1, "min_score": 0.5}


def test_classes_and_scores_may_be_columns() -> None:
    assert iou(answering({"out": ROWS}), expected=ROWS[:2], **COLUMNS) == 1.0
    other = [[8.0, *ROWS[0][1:]], ROWS[1]]
    assert iou(answering({"out": ROWS}), expected=other, **COLUMNS) == pytest.approx(1 / 3)


def test_classes_and_scores_may_be_outputs_beside() -> None:
    answer = {"boxes": [ONE, TWO, HALF], "labels": [3, 4, 3], "scores": [0.9, 0.8, 0.2]}
    expected = {
        "expected_boxes": np.array([ONE, TWO]),
        "expected_labels": np.array([3, 4]),
        "expected_scores": np.array([1.0, 1.0]),
    }
    options = {"box_class": "labels", "box_score": "scores", "min_score": 0.5}
    model = answering(answer, ranks={"labels": 1, "scores": 1})
    assert iou(model, **expected, **options) == 1.0
    wrong = {**expected, "expected_labels": np.array([3, 3])}
    assert iou(model, **wrong, **options) == pytest.approx(1 / 3)


def test_pictures_of_a_batch_are_matched_apart() -> None:
    arrays = {"image": np.zeros((2, 2)), "expected": np.array([[ONE], [TWO]])}
    straight = answering({"boxes": [[ONE], [TWO]]}, ranks={"boxes": 3})
    assert take(straight, GoldenMetric.MEAN_IOU, "1", arrays).result.value == 1.0
    crossed = answering({"boxes": [[TWO], [ONE]]}, ranks={"boxes": 3})
    assert take(crossed, GoldenMetric.MEAN_IOU, "1", arrays).result.value == 0.0


def test_more_boxes_than_are_matched_are_found_in_vain() -> None:
    crowd = np.tile(np.array([[50.0, 50, 51, 51]]), (5000, 1))
    crowd[0] = ONE
    value = iou(answering({"boxes": crowd}), expected=[ONE])
    assert value == pytest.approx(1 / 5000)


BAD_BOXES: dict[str, dict[str, object]] = {
    "'box_columns' must be": {"box_columns": [0, 1, 2]},
    "'box_format' is 'round'": {"box_format": "round"},
    "'box_class' must be a column's number or an output's name": {"box_class": 0.5},
    "there is no column 9 in 4 columns": {"box_class": 9},
    "there is no 'expected_labels'": {"box_class": "labels"},
    "'min_score' must be one number, with 'box_score'": {"min_score": 0.5},
    "its last axis must hold a box's numbers": {"expected": np.zeros((1, 3))},
    "'box_columns' must be the places": {"box_columns": [0, 1, 2, 2]},
}


@pytest.mark.parametrize("words", BAD_BOXES)
def test_options_of_boxes_that_do_not_fit_say_why(words: str) -> None:
    arrays = {"expected": np.array([ONE]), **BAD_BOXES[words]}
    with pytest.raises(InvalidExam) as raised:
        iou(answering({"boxes": [ONE]}), **arrays)
    assert words in str(raised.value)


def plain_distance(one: str, other: str) -> int:
    table = [
        [max(i, j) if 0 in (i, j) else 0 for j in range(len(other) + 1)]
        for i in range(len(one) + 1)
    ]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            around = (table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b))
            table[i][j] = min(around)
    return table[-1][-1]


def letters(text: str) -> np.ndarray:
    return np.array([ord(letter) for letter in text], dtype=np.int64)


def test_the_edit_distance_is_that_of_the_plain_table() -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        one, other = ("".join(random.choice([*"abc"], random.integers(0, 9))) for _ in range(2))
        assert edit_distance(letters(one), letters(other)) == plain_distance(one, other)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [("kitten", "sitting", 4 / 7), ("", "", 1.0), ("", "ab", 0.0), ("ab", "ab", 1.0)],
)
def test_agreement_of_two_words(one: str, other: str, value: float) -> None:
    assert agreement(letters(one), letters(other)) == pytest.approx(value)


def test_elements_beyond_the_longest_sequence_count_as_edits() -> None:
    one = np.zeros(MAX_LENGTH + 5, np.int64)
    assert edit_distance(one, one[:3]) >= MAX_LENGTH + 2


def read(model: Model, **arrays: object) -> float:
    grade = take(
        model, GoldenMetric.SEQUENCE_AGREEMENT, "0.5", {"image": np.zeros((1, 2)), **arrays}
    )
    return grade.result.value


def scores(*classes: int, count: int = 5) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[list(classes)]


def test_frames_are_merged_and_blanks_dropped() -> None:
    frames = scores(0, 3, 3, 0, 3, 4, 4, 0)[:, None, :]  # 3 3 4, the steps first
    model = answering({"out": frames}, ranks={"out": 3})
    assert read(model, labels=[[3, 3, 4]], sequence_blank=0) == 1.0
    assert read(model, labels=[[3, 4, 4]], sequence_blank=0) == pytest.approx(2 / 3)
    assert read(model, expected=frames, sequence_blank=0) == 1.0


def test_frames_of_unlike_lengths_are_compared() -> None:
    model = answering({"out": scores(3, 0, 3, 4)[:, None, :]}, ranks={"out": 3})
    longer = scores(3, 3, 0, 3, 3, 4, 0)[:, None, :]
    assert read(model, **{"0/expected": longer}, sequence_blank=0) == 1.0


def test_classes_chosen_inside_the_model_are_frames_as_well() -> None:
    model = answering({"out": np.array([[0, 3, 3, 0, 3]])})
    assert read(model, labels=[[3, 3]], sequence_blank=0) == 1.0


def test_padding_at_the_end_is_no_element() -> None:
    model = answering({"out": np.array([[5, 0, 6, 0, 0, 0]])})
    assert read(model, labels=[[5, 0, 6, 0]], sequence_padding=0) == 1.0
    assert read(model, labels=[[5, 0, 6, 0]]) < 1.0


def test_texts_are_sequences_of_letters() -> None:
    model = answering({"out": np.array([b"sitting"], dtype=object)}, ranks={"out": 1})
    assert read(model, labels=["kitten"]) == pytest.approx(4 / 7)
    assert read(model, expected=["sitting"]) == 1.0


def test_the_steps_may_be_on_any_axis() -> None:
    frames = np.stack([scores(1, 2, 3), scores(3, 2, 1)], axis=1)  # [step, sequence, class]
    model = answering({"out": frames}, ranks={"out": 3})
    arrays = {"0/image": np.zeros((2, 2)), "0/labels": np.array([[1, 2, 3], [3, 2, 1]])}
    metric = GoldenMetric.SEQUENCE_AGREEMENT
    grade = take(model, metric, "1", {**arrays, "sequence_axis": 0})
    assert grade.result.value == 1.0


def test_rows_of_samples_are_one_sequence_each() -> None:
    ids = np.array([[1, 2, 3], [1, 2, 4]])
    model = answering({"out": ids})
    arrays = {"image": np.zeros((2, 2)), "expected": np.array([[1, 2, 3], [4, 2, 4]])}
    grade = take(model, GoldenMetric.SEQUENCE_AGREEMENT, "1", arrays)
    assert grade.result.value == pytest.approx((1 + 2 / 3) / 2)
    assert grade.message.startswith("SequenceAgreement 0.8333 is under the threshold 1 (2 samples)")


BAD_SEQUENCES: dict[str, dict[str, object]] = {
    "'sequence_blank' must be one whole number": {"sequence_blank": 0.5, "labels": [[1]]},
    "'sequence_axis' is 7": {"sequence_axis": 7, "labels": [[1, 2]]},
    "must hold whole numbers or texts": {"labels": [[0.5]]},
    "no array 'expected'": {},
}


@pytest.mark.parametrize("words", BAD_SEQUENCES)
def test_options_of_sequences_that_do_not_fit_say_why(words: str) -> None:
    with pytest.raises(InvalidExam) as raised:
        read(answering({"out": np.array([[1, 2]])}), **BAD_SEQUENCES[words])
    assert words in str(raised.value)
