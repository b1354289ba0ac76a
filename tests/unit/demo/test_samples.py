"""Counting requests."""

import pytest

from digits_demo.samples import Sample, Tally, count, percentile


def sample(node="a", at=100.0, latency=1.0, right=True, error=None):
    revision = None if error else "r1"
    return Sample(node=node, at=at, latency_ms=latency, revision=revision, right=right, error=error)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.95, None),
        ([7.0], 0.95, 7.0),
        (list(range(100)), 0.95, 95),
        ([3, 1, 2], 0.5, 2),
    ],
)
def test_percentile(values, share, expected):
    assert percentile(values, share) == expected


def test_a_wrong_digit_is_an_answer_and_a_failure_is_not():
    counts = count([sample(), sample(right=False), sample(right=False, error="timeout")])
    assert (counts.requests, counts.failed, counts.wrong) == (3, 1, 1)


def test_latencies_of_failures_do_not_count():
    counts = count([sample(latency=2.0), sample(latency=9000.0, error="timeout")])
    assert counts.p95_ms == 2.0


def test_nodes_are_counted_apart():
    tally = Tally()
    for node in ("a", "a", "b"):
        tally.add(sample(node=node))
    assert tally.of("a").requests == 2
    assert tally.of("b").requests == 1
    assert tally.of("c").requests == 0


def test_lately_means_the_last_seconds():
    tally = Tally()
    for second in range(100):
        tally.add(sample(at=float(second), latency=float(second)))
    lately = tally.lately("a", now=99.5, window_s=5.0)
    assert lately.requests == 5
    assert lately.rate == 1.0
    assert lately.p95_ms == 99.0


def test_failures_are_counted_by_cause():
    tally = Tally()
    for error in (None, "timeout", "refused", "timeout"):
        tally.add(sample(error=error))
    assert tally.failures() == {"timeout": 2, "refused": 1}
