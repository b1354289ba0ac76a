"""Acceleration, restarts, agreement, ratios to stable and Prometheus: numbers in, verdict out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from builders import all_reduced, make_report, reduced, serving
from counted import counted, counters
from documents import make_progress, with_found
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric, NoData, PrometheusQuery
from skerry_operator.api.v1alpha1.edgedeployment_status import BASELINE_LIMIT, Baseline
from skerry_operator.decide.analysis.assess import assess
from skerry_operator.decide.analysis.baseline import recordable
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.facts import Assessment, Value, Verdict
from skerry_operator.decide.observed import Sample, SampleState
from skerry_operator.decide.reported import ReportedAcceleration, UnitReport
from skerry_operator.decide.rollout.state import merged
from skerry_runtime.contract import Agreement, Counters, StatusReport, SwapPhase

TARGET, STABLE = "v1-2222222222", "v1-1111111111"
CELLS = {"n1": "a", "n2": "a", "n3": "b"}


def judge(metric: Metric, **reports: StatusReport | UnitReport) -> Assessment:
    return assess((metric,), Evidence(TARGET, all_reduced(reports), CELLS, frozenset(reports)))


# --- Accelerated ---

ACCELERATED = Metric(name="Accelerated", min="1")


def test_a_canary_that_silently_fell_to_the_cpu_fails() -> None:
    result = judge(ACCELERATED, n1=make_report("n1", serving(TARGET, percent=0)))
    assert result.verdict is Verdict.FAILED
    assert result.message == "Accelerated in cell a is 0, limit 1 (1 unit)"


def test_one_unit_on_the_cpu_is_not_hidden_by_one_on_the_accelerator() -> None:
    reports = {
        "n1": make_report("n1", serving(TARGET, percent=100)),
        "n2": make_report("n2", serving(TARGET, percent=60)),
    }
    assert judge(Metric(name="Accelerated", min="0.7"), **reports).verdict is Verdict.FAILED
    assert judge(Metric(name="Accelerated", min="0.6"), **reports).verdict is Verdict.SUCCESSFUL


def test_acceleration_of_another_revision_is_missing() -> None:
    result = judge(ACCELERATED, n1=make_report("n1", serving(STABLE)))
    assert (result.verdict, result.no_data) == (Verdict.RUNNING, True)


def test_acceleration_that_is_no_number_decides_nothing() -> None:
    whole = reduced(make_report("n2", serving(TARGET, percent=100)))
    assert whole.serving
    measure = ReportedAcceleration("CPUExecutionProvider", math.nan)
    odd = replace(whole, unit="n1", serving=replace(whole.serving, acceleration=measure))
    assert judge(ACCELERATED, n1=odd, n2=whole).verdict is Verdict.INCONCLUSIVE


# --- Restarts ---


def restarted(times: int, revision: str = TARGET) -> StatusReport:
    return make_report("n1", assigned=TARGET, restarts={revision: times})


def test_a_process_that_began_again_on_the_target_counts() -> None:
    result = judge(Metric(name="Restarts", max="0"), n1=restarted(1))
    assert result.verdict is Verdict.FAILED
    assert result.message == "Restarts in cell a is 1, limit 0 (1 unit)"


def test_restarts_of_a_cell_are_added_up() -> None:
    metric = Metric(name="Restarts", max="2")
    assert judge(metric, n1=restarted(1), n2=restarted(1)).verdict is Verdict.SUCCESSFUL
    assert judge(metric, n1=restarted(1), n2=restarted(2)).verdict is Verdict.FAILED


def test_restarts_on_another_revision_do_not_count() -> None:
    assert judge(Metric(name="Restarts", max="0"), n1=restarted(7, STABLE)).verdict is (
        Verdict.SUCCESSFUL
    )


def test_restarts_of_a_pod_that_does_not_answer_are_missing() -> None:
    evidence = Evidence(TARGET, {}, CELLS, frozenset({"n1"}))
    assert assess((Metric(name="Restarts", max="0"),), evidence).no_data


def test_a_runtime_that_does_not_count_restarts_is_no_proof_that_there_were_none() -> None:
    assert judge(Metric(name="Restarts", max="0"), n1=make_report("n1", assigned=TARGET)).no_data


# --- OutputAgreement ---

AGREEMENT = Metric(name="OutputAgreement", min="0.98", min_samples=200)


def compared(agreed: int, of: int, message: str = "") -> StatusReport:
    agreement = Agreement(compared=of, agreed=agreed, message=message)
    report = make_report("n1", serving(TARGET))
    assert report.serving
    served = with_found(report.serving, agreement=agreement)
    return report.model_copy(update={"serving": served})


@pytest.mark.parametrize(
    ("agreed", "verdict"), [(200, Verdict.SUCCESSFUL), (196, Verdict.SUCCESSFUL), (195, "Failed")]
)
def test_the_share_of_equal_answers_is_held_against_the_limit(agreed: int, verdict: str) -> None:
    assert judge(AGREEMENT, n1=compared(agreed, 200)).verdict == verdict


def test_a_cell_is_judged_by_all_answers_of_its_shadows() -> None:
    result = judge(AGREEMENT, n1=compared(100, 100), n2=compared(99, 100))
    assert result.message == (
        "OutputAgreement in cell a is 0.995, limit 0.98 (200 compared answers)"
    )


def test_a_shadow_that_is_still_under_way_counts() -> None:
    agreement = Agreement(compared=200, agreed=20)
    progress = make_progress(TARGET, SwapPhase.SHADOWING, agreement=agreement)
    assert judge(AGREEMENT, n1=make_report("n1", progress=progress)).verdict is Verdict.FAILED


def test_too_few_compared_answers_are_missing_and_say_what_the_pod_says() -> None:
    result = judge(AGREEMENT, n1=compared(3, 3, "no more requests in 120 s"))
    assert (result.verdict, result.no_data) == (Verdict.RUNNING, True)
    assert "has 3 of 200 compared answers (no more requests in 120 s)" in result.message


# --- ratios to stable ---

RATIO = Metric(name="LatencyP95", max_ratio_to_stable="1.5", min_samples=50)
ERRORS = Metric(name="ErrorRate", max_ratio_to_stable="2", min_samples=50)


def pod(unit: str, revision: str, recent: Counters, total: Counters | None = None) -> UnitReport:
    entry = counted(revision, recent if total is None else total, recent)
    return reduced(make_report(unit, counters=(entry,)))


def beside(
    target: Counters, stable: Counters | None = None, *baseline: Baseline, first: bool = False
) -> Evidence:
    """Return evidence of n1 with the target and n2 with stable, both in cell a."""
    reports = {"n1": pod("n1", TARGET, target)}
    if stable is not None:
        reports["n2"] = pod("n2", STABLE, stable)
    return Evidence(
        target=TARGET,
        reports=reports,
        cell_of=CELLS,
        units=frozenset({"n1"}),
        stable=None if first else STABLE,
        stable_units=frozenset({"n2"} if stable is not None else ()),
        baseline=baseline,
    )


@pytest.mark.parametrize(
    ("ms", "verdict"), [(10, Verdict.SUCCESSFUL), (13, Verdict.SUCCESSFUL), (20, Verdict.FAILED)]
)
def test_a_ratio_is_of_the_same_minute_in_the_same_cell(ms: float, verdict: Verdict) -> None:
    result = assess((RATIO,), beside(counters(100, ms=ms), counters(100, ms=10)))
    assert result.verdict is verdict
    assert "times stable's, which is" in result.message
    assert "in the same minute (100 requests)" in result.message


def test_stable_in_another_cell_is_no_measure() -> None:
    evidence = beside(counters(100), counters(100))
    elsewhere = replace(evidence, cell_of={**CELLS, "n2": "b"})
    result = assess((RATIO,), elsewhere)
    assert (result.verdict, result.no_data) == (Verdict.RUNNING, True)
    assert "has no 50 requests of stable to be compared with" in result.message


def test_when_no_unit_of_the_cell_serves_stable_what_was_recorded_counts() -> None:
    recorded = Baseline(cell="a", metric="LatencyP95", value="10", samples=5000)
    result = assess((RATIO,), beside(counters(100, ms=40), None, recorded))
    assert result.verdict is Verdict.FAILED
    assert "10 ms recorded before the step (5000 requests)" in result.message


def test_stable_with_too_little_traffic_now_is_replaced_by_what_was_recorded() -> None:
    recorded = Baseline(cell="a", metric="LatencyP95", value="10", samples=5000)
    evidence = beside(counters(100, ms=12), counters(3, ms=1), recorded)
    assert assess((RATIO,), evidence).verdict is Verdict.SUCCESSFUL


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (NoData.HOLD, Verdict.RUNNING),
        (NoData.PASS, Verdict.SUCCESSFUL),
        (NoData.FAIL, Verdict.FAILED),
    ],
)
def test_a_first_deployment_has_nothing_to_compare_with_and_follows_the_policy(
    policy: NoData, verdict: Verdict
) -> None:
    metric = RATIO.model_copy(update={"no_data": policy})
    result = assess((metric,), beside(counters(100), first=True))
    assert result.verdict is verdict
    assert "has no stable revision to be compared with" in result.message
    assert result.no_data is (verdict is not Verdict.SUCCESSFUL)


def test_a_target_without_traffic_in_the_last_minute_is_missing_whatever_it_had_before() -> None:
    evidence = beside(counters(0), counters(100))
    pods = {**evidence.reports, "n1": pod("n1", TARGET, counters(0), counters(9000))}
    result = assess((RATIO,), replace(evidence, reports=pods))
    assert "has 0 of 50 requests in the last minute" in result.message


def test_one_error_beside_a_stable_without_any_is_no_failure_and_many_are() -> None:
    one = assess((ERRORS,), beside(counters(1000, 1), counters(1000)))
    many = assess((ERRORS,), beside(counters(1000, 3), counters(1000)))
    assert (one.verdict, many.verdict) == (Verdict.SUCCESSFUL, Verdict.FAILED)


def test_a_stable_beyond_the_histogram_is_no_measure() -> None:
    result = assess((RATIO,), beside(counters(100), counters(100, ms=1e9)))
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_baseline_that_was_edited_to_nonsense_is_no_measure() -> None:
    for value in ("fast", ""):
        broken = Baseline(cell="a", metric="LatencyP95", value=value, samples=5000)
        assert assess((RATIO,), beside(counters(100), None, broken)).no_data


def test_an_edited_baseline_of_nan_decides_nothing() -> None:
    broken = Baseline(cell="a", metric="LatencyP95", value="nan", samples=5000)
    assert assess((RATIO,), beside(counters(100), None, broken)).verdict is Verdict.INCONCLUSIVE


def test_what_stable_does_is_recorded_for_each_cell_and_ratio() -> None:
    stable = {unit: pod(unit, STABLE, counters(100, ms=10)) for unit in CELLS}
    evidence = Evidence(TARGET, stable, CELLS, frozenset(), STABLE, frozenset(CELLS))
    found = recordable((RATIO, ERRORS, Metric(name="LatencyP50", max="1s")), evidence)
    assert [(entry.cell, entry.metric, entry.samples) for entry in found] == [
        ("a", "ErrorRate", 200),
        ("a", "LatencyP95", 200),
        ("b", "ErrorRate", 100),
        ("b", "LatencyP95", 100),
    ]


def test_a_quiet_minute_records_all_that_stable_did_since_it_serves() -> None:
    quiet = pod("n1", STABLE, counters(2, ms=99), counters(5000, ms=10))
    evidence = Evidence(TARGET, {"n1": quiet}, CELLS, frozenset(), STABLE, frozenset({"n1"}))
    (entry,) = recordable((RATIO,), evidence)
    assert (entry.samples, 8 < float(entry.value) < 11) == (5000, True)


def test_a_baseline_stays_within_its_bound() -> None:
    cells = {f"n{index}": f"c{index}" for index in range(2 * BASELINE_LIMIT)}
    reports = {unit: pod(unit, STABLE, counters(100)) for unit in cells}
    evidence = Evidence(TARGET, reports, cells, frozenset(), STABLE, frozenset(cells))
    found = recordable((RATIO,), evidence)
    assert len(found) == BASELINE_LIMIT
    other = Baseline(cell="z", metric="LatencyP95", value="1", samples=1)
    assert len(merged(found, (other,))) == BASELINE_LIMIT


def test_a_newer_record_takes_the_place_of_an_older_one_and_keeps_the_others() -> None:
    old = Baseline(cell="a", metric="LatencyP95", value="1", samples=1)
    other = Baseline(cell="b", metric="LatencyP95", value="2", samples=1)
    new = old.model_copy(update={"value": "3"})
    assert merged((old, other), (new,)) == (new, other)


# --- Prometheus ---

QUERY = "min(ovens_ok)"
OVENS = Metric(name="ovens-ok", prometheus=PrometheusQuery(query=QUERY), min="1")


def ask(sample: Sample | None, metric: Metric = OVENS) -> Assessment:
    samples = {} if sample is None else {QUERY: sample}
    reports = all_reduced({"n1": make_report("n1"), "n3": make_report("n3")})
    evidence = Evidence(TARGET, reports, CELLS, frozenset(reports), samples=samples)
    return assess((metric,), evidence)


def read(value: float) -> Sample:
    return Sample(SampleState.READ, value)


@pytest.mark.parametrize(
    ("sample", "verdict"),
    [
        (read(1), Verdict.SUCCESSFUL),
        (read(0), Verdict.FAILED),
        (read(math.nan), Verdict.INCONCLUSIVE),
        (read(math.inf), Verdict.INCONCLUSIVE),
        (read(-math.inf), Verdict.INCONCLUSIVE),
        (Sample(SampleState.ODD, problem="the query gives 3 series"), Verdict.INCONCLUSIVE),
        (Sample(SampleState.DOWN, problem="no answer"), Verdict.ERROR),
        (Sample(SampleState.EMPTY, problem="the query gives no series"), Verdict.RUNNING),
        (None, Verdict.RUNNING),
    ],
    ids=[
        "good",
        "bad",
        "NaN",
        "+Inf",
        "-Inf",
        "several series",
        "the server is down",
        "an empty vector",
        "the first sample is late",
    ],
)
def test_what_each_answer_means(sample: Sample | None, verdict: Verdict) -> None:
    result = ask(sample)
    assert result.verdict is verdict
    assert result.no_data is (verdict is Verdict.RUNNING)
    if sample is not None:
        assert sample.problem in result.message


def test_a_query_is_judged_once_and_not_for_each_cell() -> None:
    result = ask(read(1))
    assert result.message == "ovens-ok is 1, limit 1"
    assert result.values == (Value("ovens-ok", "", 1.0),)


@pytest.mark.parametrize(
    ("policy", "verdict"), [(NoData.PASS, Verdict.SUCCESSFUL), (NoData.FAIL, Verdict.FAILED)]
)
def test_an_empty_answer_follows_the_policy_and_a_server_that_is_down_does_not(
    policy: NoData, verdict: Verdict
) -> None:
    metric = OVENS.model_copy(update={"no_data": policy})
    assert ask(Sample(SampleState.EMPTY, problem="the query gives no series"), metric).verdict is (
        verdict
    )
    assert ask(Sample(SampleState.DOWN, problem="no answer"), metric).verdict is Verdict.ERROR


# --- all of them ---


def test_all_values_are_told_also_when_another_metric_decides() -> None:
    reports = {"n1": pod("n1", TARGET, counters(100, 50)), "n3": pod("n3", TARGET, counters(100))}
    metrics = (Metric(name="ErrorRate", max="0.1"), Metric(name="LatencyP50", max="1s"))
    result = assess(metrics, Evidence(TARGET, reports, CELLS, frozenset(reports)))
    assert result.verdict is Verdict.FAILED
    assert {(value.metric, value.cell) for value in result.values} == {
        ("ErrorRate", "a"),
        ("ErrorRate", "b"),
        ("LatencyP50", "a"),
        ("LatencyP50", "b"),
    }


def test_a_name_that_nobody_measures_is_an_error_and_no_exception() -> None:
    result = judge(Metric(name="Speed", max="1"), n1=make_report("n1"))
    assert result.verdict is Verdict.ERROR
    assert "nothing of this name is measured" in result.message
