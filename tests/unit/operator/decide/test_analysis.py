"""Analysis: reports in, verdict and numbers out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import all_reduced, reduced
from documents import make_progress, make_served
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric, MetricName, NoData
from skerry_operator.decide.analysis.assess import assess
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.analysis.measure import quantile
from skerry_operator.decide.facts import Assessment, Verdict
from skerry_operator.decide.reported import ReportedExam, UnitReport
from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    Counters,
    ExamResult,
    GoldenMetric,
    Latency,
    RevisionCounters,
    StatusReport,
    SwapPhase,
)

TARGET, STABLE = "v1-2222222222", "v1-1111111111"
CELLS = {"n1": "a", "n2": "a", "n3": "b"}
ERRORS = Metric(name=MetricName.ERROR_RATE, max="0.01", min_samples=50)
P95 = Metric(name=MetricName.LATENCY_P95, max="50ms")
GOLDEN = Metric(name=MetricName.GOLDEN_ACCURACY, min="0.95")


def histogram(milliseconds: float, requests: int) -> Latency:
    """Return a histogram with all requests in the bucket of one latency."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    bucket = sum(bound < milliseconds for bound in LATENCY_BOUNDS_MS)
    counts[bucket] = requests
    return Latency(counts=tuple(counts), sum_ms=milliseconds * requests)


def counted(
    requests: int, failures: int = 0, ms: float = 5.0, revision: str = TARGET, since: float = 0.0
) -> RevisionCounters:
    counters = Counters(
        requests=requests,
        failures={"Internal": failures} if failures else {},
        latency=histogram(ms, requests - failures),
    )
    return RevisionCounters(revision=revision, since=since, total=counters, last_minute=Counters())


def exam(value: float) -> ExamResult:
    return ExamResult(
        metric=GoldenMetric.ACCURACY, value=value, threshold=0.9, passed=True, samples=360
    )


def report(*counters: RevisionCounters, **changes: Any) -> StatusReport:
    base = StatusReport(
        unit="n1", runtime_version="0", boot_id="b", started_at=0, now=0, counters=counters
    )
    return base.model_copy(update=changes)


def serving(score: float | None, revision: str = TARGET) -> StatusReport:
    result = None if score is None else exam(score)
    return report(serving=make_served(revision, "2", exam=result))


def judge(*metrics: Metric, **reports: StatusReport | UnitReport) -> Assessment:
    units = frozenset(CELLS) & frozenset(reports)
    return assess(metrics, Evidence(TARGET, all_reduced(reports), CELLS, units))


def scored(score: float | None) -> UnitReport:
    """A report with a score that need not be one that is let in."""
    said = reduced(serving(None if score is None else 0.0))
    assert said.serving
    exam = None if score is None else ReportedExam(score, 360)
    return replace(said, serving=replace(said.serving, exam=exam))


def test_no_metrics_is_successful() -> None:
    assert judge(n1=report()).verdict is Verdict.SUCCESSFUL


def test_no_unit_yet_is_missing_data() -> None:
    result = assess((ERRORS,), Evidence(TARGET, {}, CELLS, frozenset()))
    assert (result.verdict, result.no_data) == (Verdict.RUNNING, True)


def test_errors_within_the_limit_pass_with_their_numbers() -> None:
    result = judge(ERRORS, n1=report(counted(200, 1)))
    assert result.verdict is Verdict.SUCCESSFUL
    assert result.message == "ErrorRate in cell a is 0.005, limit 0.01 (200 requests)"


def test_errors_beyond_the_limit_fail_with_their_numbers() -> None:
    result = judge(ERRORS, n1=report(counted(200, 7)))
    assert (result.verdict, result.metric) == (Verdict.FAILED, "ErrorRate")
    assert result.message == "ErrorRate in cell a is 0.035, limit 0.01 (200 requests)"


def test_a_value_at_the_limit_is_good() -> None:
    assert judge(ERRORS, n1=report(counted(100, 1))).verdict is Verdict.SUCCESSFUL


def test_a_cell_is_judged_by_the_sum_of_its_pods() -> None:
    result = judge(ERRORS, n1=report(counted(100, 2)), n2=report(counted(300)))
    assert result.message == "ErrorRate in cell a is 0.005, limit 0.01 (400 requests)"


def test_one_bad_cell_is_not_hidden_by_a_good_one() -> None:
    result = judge(ERRORS, n1=report(counted(9000)), n3=report(counted(60, 6)))
    assert result.verdict is Verdict.FAILED
    assert "cell b" in result.message


def test_only_the_target_counts() -> None:
    stable = counted(500, 500, revision=STABLE)
    assert judge(ERRORS, n1=report(stable, counted(100))).verdict is Verdict.SUCCESSFUL


def test_after_a_second_activation_only_the_new_counters_count() -> None:
    pod = report(counted(100, 100, since=1.0), counted(100, since=2.0))
    assert judge(ERRORS, n1=pod).verdict is Verdict.SUCCESSFUL


def test_a_unit_that_was_not_given_the_target_is_not_measured() -> None:
    reports = {"n1": report(counted(100)), "n2": report(counted(100, 100))}
    result = assess((ERRORS,), Evidence(TARGET, all_reduced(reports), CELLS, frozenset({"n1"})))
    assert result.verdict is Verdict.SUCCESSFUL


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (NoData.HOLD, Verdict.RUNNING),
        (NoData.PASS, Verdict.SUCCESSFUL),
        (NoData.FAIL, Verdict.FAILED),
    ],
)
@pytest.mark.parametrize(
    "pod",
    [report(), report(counted(0)), report(counted(49))],
    ids=["a pod without counters", "zero traffic", "too few requests"],
)
def test_missing_samples_follow_the_policy(
    pod: StatusReport, policy: NoData, verdict: Verdict
) -> None:
    metric = ERRORS.model_copy(update={"no_data": policy})
    result = judge(metric, n1=pod)
    assert result.verdict is verdict
    assert result.no_data is (verdict is not Verdict.SUCCESSFUL)
    assert "of 50 requests" in result.message


def test_a_pod_that_does_not_answer_is_missing_data() -> None:
    result = assess((ERRORS,), Evidence(TARGET, {}, CELLS, frozenset({"n1"})))
    assert (result.verdict, result.no_data) == (Verdict.RUNNING, True)


def test_a_pod_that_restarted_has_fewer_samples_and_never_negative_ones() -> None:
    before = judge(ERRORS, n1=report(counted(5000, 10), boot_id="one"))
    after = judge(ERRORS, n1=report(counted(3), boot_id="two"))
    assert (before.verdict, after.verdict) == (Verdict.SUCCESSFUL, Verdict.RUNNING)
    assert "has 3 of 50 requests" in after.message


def test_a_measured_failure_is_worse_than_a_missing_number() -> None:
    missing = ERRORS.model_copy(update={"no_data": NoData.FAIL, "min_samples": 9999})
    result = judge(missing, P95, n1=report(counted(100, ms=300)))
    assert (result.verdict, result.metric, result.no_data) == (
        Verdict.FAILED,
        "LatencyP95",
        False,
    )


def test_latency_says_its_milliseconds() -> None:
    result = judge(P95, n1=report(counted(214, ms=212)))
    assert result.verdict is Verdict.FAILED
    assert result.message.startswith("LatencyP95 in cell a is 2")
    assert result.message.endswith(" ms, limit 50 ms (214 requests)")


def test_latency_beyond_the_last_bucket_never_passes() -> None:
    metric = P95.model_copy(update={"max": "10h"})
    result = judge(metric, n1=report(counted(10, ms=1e9)))
    assert result.verdict is Verdict.FAILED
    assert f"is over {LATENCY_BOUNDS_MS[-1] / 1000:.0f} s" in result.message


def test_latency_when_every_request_failed_is_missing_data() -> None:
    assert judge(P95, n1=report(counted(10, 10))).verdict is Verdict.RUNNING


def test_a_histogram_with_other_buckets_is_an_error_of_the_source() -> None:
    said = reduced(report(counted(10)))
    odd = replace(said.counters[0], total=replace(said.counters[0].total, latency=(1, 2, 3)))
    assert judge(P95, n1=replace(said, counters=(odd,))).verdict is Verdict.ERROR


@pytest.mark.parametrize("text", [None, "fast", "1.2.3s"])
def test_a_limit_that_cannot_be_read_is_an_error_and_no_exception(text: str | None) -> None:
    metric = P95.model_copy(update={"max": text})
    assert judge(metric, n1=report(counted(10))).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((0.96, 0.99), Verdict.SUCCESSFUL),
        ((0.99, 0.94), Verdict.FAILED),
        ((0.99, math.nan), Verdict.INCONCLUSIVE),
        ((0.99, None), Verdict.SUCCESSFUL),
        ((None, None), Verdict.RUNNING),
    ],
    ids=["all good", "the worst counts", "NaN", "one without an exam", "no exam at all"],
)
def test_golden_accuracy(scores: tuple[float | None, float | None], verdict: Verdict) -> None:
    assert judge(GOLDEN, n1=scored(scores[0]), n2=scored(scores[1])).verdict is verdict


def test_golden_accuracy_of_another_revision_is_missing_data() -> None:
    assert judge(GOLDEN, n1=serving(0.99, STABLE)).verdict is Verdict.RUNNING


def test_golden_accuracy_of_a_copy_that_was_refused_counts() -> None:
    progress = make_progress(TARGET, SwapPhase.FAILED, exam=exam(0.1))
    result = judge(GOLDEN, n1=report(progress=progress))
    assert result.verdict is Verdict.FAILED
    assert result.message == "GoldenAccuracy in cell a is 0.1, limit 0.95 (360 samples)"


def test_golden_with_a_maximum_takes_the_largest() -> None:
    metric = Metric(name=MetricName.GOLDEN_ACCURACY, max="0.5")
    assert judge(metric, n1=serving(0.1), n2=serving(0.6)).verdict is Verdict.FAILED


def test_many_good_checks_are_counted_instead_of_listed() -> None:
    pods = {name: report(counted(100)) for name in CELLS}
    assert judge(ERRORS, P95, **pods).message.startswith("all 4 checks passed")


def test_the_quantile_interpolates_within_its_bucket() -> None:
    counts = [10, 10] + [0] * (len(LATENCY_BOUNDS_MS) - 1)
    assert quantile(0.5, counts) == pytest.approx(0.05)
    assert quantile(0.95, counts) == pytest.approx(0.06125, abs=1e-4)


@given(st.lists(st.floats(0.01, 60_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
@settings(max_examples=60, deadline=None)
def test_the_quantile_lies_in_the_bucket_of_the_true_one(sample: list[float], q: float) -> None:
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for value in sample:
        counts[sum(bound < value for bound in LATENCY_BOUNDS_MS)] += 1
    true = sorted(sample)[math.ceil(q * len(sample)) - 1]
    assert true / 1.26 - 0.05 <= quantile(q, counts) <= max(true * 1.26, 0.05)
