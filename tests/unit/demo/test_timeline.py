"""The picture: names of neighbouring decisions never lie on each other, and it is written."""

import pytest

from digits_demo.samples import Sample
from digits_demo.timeline import Mark, Story, draw, stack, windows
from digits_demo.watch import Band


@pytest.mark.parametrize(
    ("starts", "widths", "levels"),
    [
        ([], [], []),
        ([0, 10], [5, 5], [0, 0]),
        ([0, 1, 2, 10], [5, 5, 5, 5], [0, 1, 2, 0]),
        ([0, 1, 6], [20, 5, 5], [0, 1, 1]),
    ],
)
def test_texts_are_stacked(starts, widths, levels):
    assert stack(starts, widths) == levels


def test_samples_are_grouped_by_second():
    samples = [Sample(node="a", at=at, latency_ms=1.0, revision="r") for at in (10.1, 10.9, 12.5)]
    assert {second: len(group) for second, group in windows(samples, 10.0).items()} == {0: 2, 2: 1}


def test_the_picture_is_drawn_even_when_hardly_anything_happened(tmp_path):
    bands = (Band("node-a", "r1", "1.0.0", 10.0, 20.0),)
    samples = (Sample(node="node-a", at=11.0, latency_ms=2.0, revision="r1", right=True),)
    story = Story(bands, (Mark(9.0, "1.0.0 applied"),), samples, {"node-a": "cpu"}, ("1.0.0",), 40)
    assert draw(story, tmp_path).stat().st_size > 10_000
    assert draw(Story((), (), (), {}, ("1.0.0",)), tmp_path).stat().st_size > 1_000
