"""Guards: what is too much worse, too large or too slow."""

from __future__ import annotations

import pytest

from skerry_optimize.guards import BuildFigures, broken
from skerry_optimize.measure import Speed
from skerry_optimize.plan import Guards
from skerry_runtime.contract import GoldenMetric


def figures(
    *,
    size: int = 50,
    ratios: tuple[float, ...] = (1.0,) * 5,
    accuracy: float | None = 0.97,
    metric: GoldenMetric = GoldenMetric.ACCURACY,
) -> BuildFigures:
    return BuildFigures(size, 100, Speed(10.0, 10.0 * ratios[0], ratios), metric, accuracy, 0.98)


def test_what_is_not_asked_for_is_not_judged() -> None:
    assert broken(Guards(), figures(size=500, ratios=(9.0,) * 5, accuracy=0.1)) == []


@pytest.mark.parametrize(("accuracy", "is_kept"), [(0.99, True), (0.97, True), (0.9699, False)])
def test_a_drop_up_to_the_limit_is_kept(accuracy: float, is_kept: bool) -> None:
    assert (broken(Guards(max_accuracy_drop="0.01"), figures(accuracy=accuracy)) == []) is is_kept


def test_of_errors_more_is_worse() -> None:
    errors = figures(accuracy=1.5, metric=GoldenMetric.MAX_ABS_ERROR)
    assert errors.accuracy_drop == pytest.approx(0.52)
    assert broken(Guards(max_accuracy_drop="0.5"), errors)
    assert not broken(Guards(max_accuracy_drop="0.6"), errors)


def test_a_build_that_grows_is_refused() -> None:
    (told,) = broken(Guards(max_size_ratio="0.6"), figures(size=61))
    assert told == "61 bytes after 100: 0.610 of it, maxSizeRatio is 0.6"


def test_a_slow_round_is_chance_and_five_are_not() -> None:
    guards = Guards(max_latency_ratio="1.1")
    assert broken(guards, figures(ratios=(2.0, 2.0, 2.0, 2.0, 1.05))) == []
    (told,) = broken(guards, figures(ratios=(2.0, 2.1, 1.9, 2.0, 1.2)))
    assert told == "20 us after 10: 2.00 times, in every round more than maxLatencyRatio 1.1"
