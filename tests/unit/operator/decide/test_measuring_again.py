"""Metrics that are measured again and again, and the worst unit of a cell. State in, state out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from rollout_sim import QUICK, T0, facts, rolling, unit
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric, MetricName, PrometheusQuery
from skerry_operator.api.v1alpha1.edgedeployment_status import Measured
from skerry_operator.decide.analysis.assess import analyse, assess
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.facts import Assessment, Verdict
from skerry_operator.decide.observed import Marks, Sample, SampleState
from skerry_operator.decide.reported import (
    ReportedCounters,
    ReportedServing,
    ReportedTraffic,
    UnitReport,
)
from skerry_operator.decide.rollout.engine import step
from skerry_runtime.contract import LATENCY_BOUNDS_MS

TARGET, STABLE = "v1-2222222222", "v1-1111111111"
ERRORS = Metric(name=MetricName.ERROR_RATE, max="0.1", min_samples=20, failure_limit=1)
SLOW_BUCKET = 30


def traffic(requests: int, failures: int = 0, slow: int = 0) -> ReportedTraffic:
    latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latency[0], latency[SLOW_BUCKET] = requests - failures - slow, slow
    return ReportedTraffic(requests, failures, tuple(latency))


def serving(unit: str, requests: int, failures: int = 0, **more: Any) -> UnitReport:
    """A unit that serves the target since T0, and has answered so many requests in all."""
    since = more.pop("since", 0.0) + T0.timestamp()
    total = traffic(requests, failures, more.pop("slow", 0))
    revision = more.pop("revision", TARGET)
    return UnitReport(
        unit=unit,
        assigned=revision,
        serving=ReportedServing(revision, "2", since),
        counters=(ReportedCounters(revision, since, total, total),),
        **more,
    )


@dataclass
class Watch:
    """The looks of an operator that keeps what a plan gives it."""

    metric: Metric
    now: datetime = T0
    measured: tuple[Measured, ...] = ()
    marks: dict[tuple[str, str], Marks] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    step_began: datetime = T0
    cells: dict[str, str] = field(default_factory=dict)
    stable_units: frozenset[str] = frozenset()

    def look(self, *reports: UnitReport, after_s: float = 10.0) -> Assessment:
        self.now += timedelta(seconds=after_s)
        named = {report.unit: report for report in reports}
        seen = Evidence(
            TARGET,
            named,
            {name: self.cells.get(name, "a") for name in named},
            frozenset(named) - self.stable_units,
            stable=STABLE,
            stable_units=self.stable_units,
            samples=self.samples,
            measured=self.measured,
            marks=self.marks,
            now=self.now,
            interval_s=10,
            step_began=self.step_began,
        )
        found = analyse((self.metric,), seen)
        again = analyse((self.metric,), seen)
        assert again == found, "the same facts, another outcome"
        self.measured, self.marks = found.measured, dict(found.marks)
        return found.assessment

    def restart(self) -> None:
        """Lose what is kept in memory only."""
        self.marks = {}


def test_one_bad_window_is_no_failure_and_is_not_counted_again_at_the_next_look() -> None:
    watch = Watch(ERRORS)
    bad = watch.look(serving("n", 20, failures=10))
    assert bad.verdict is Verdict.RUNNING
    assert not bad.no_data
    assert "1 of 1 measurements are beyond the limit, 1 tolerated" in bad.message
    for _ in range(5):  # nothing new: the same 10 failures are in the totals of the pod
        watch.look(serving("n", 20, failures=10))
    assert [(one.taken, one.failed) for one in watch.measured] == [(1, 1)]
    good = watch.look(serving("n", 45, failures=10))
    assert good.verdict is Verdict.SUCCESSFUL
    assert [(one.taken, one.failed) for one in watch.measured] == [(2, 1)]


def test_one_bad_window_more_than_is_tolerated_fails_at_once_with_the_numbers() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20, failures=10))
    watch.look(serving("n", 60, failures=10))
    found = watch.look(serving("n", 80, failures=15))
    assert found.verdict is Verdict.FAILED
    assert not found.no_data
    assert "ErrorRate in cell a is 0.25" in found.message
    assert "2 of 3 measurements are beyond the limit, 1 tolerated" in found.message


def test_without_the_fields_all_since_the_activation_is_one_measurement_as_ever() -> None:
    plain = ERRORS.model_copy(update={"failure_limit": None})
    watch = Watch(plain)
    assert watch.look(serving("n", 20, failures=10)).verdict is Verdict.FAILED
    assert watch.measured == ()
    assert watch.marks == {}


def test_a_measurement_waits_for_its_samples_and_takes_those_that_came_meanwhile() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20))
    for requests in (25, 30, 39):
        assert watch.look(serving("n", requests)).verdict is Verdict.SUCCESSFUL
    assert watch.measured[0].taken == 1
    watch.look(serving("n", 40))
    assert watch.measured[0].taken == 2


def test_no_measurement_is_taken_before_its_interval() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20))
    watch.look(serving("n", 40), after_s=1)
    assert watch.measured[0].taken == 1


def test_a_pod_that_restarted_begins_anew() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 1000))
    found = watch.look(serving("n", 20, failures=10, since=15.0))
    assert "0.5, limit 0.1 (20 requests)" in found.message


def test_a_pod_whose_counters_fell_begins_anew_too() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 1000, failures=30))
    found = watch.look(serving("n", 20, failures=10))
    assert "(20 requests)" in found.message


def test_a_unit_that_is_silent_for_a_while_is_counted_when_it_answers() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20), serving("m", 20))
    watch.look(serving("n", 60))
    watch.look(serving("n", 60), serving("m", 40, failures=19))
    assert "0.95" in watch.measured[0].message


def test_a_unit_that_joins_counts_from_its_first_request() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20))
    found = watch.look(serving("n", 20), serving("m", 20, failures=20, since=12.0))
    assert "is 1, limit 0.1 (20 requests)" in found.message


def test_an_operator_that_restarts_keeps_the_counts_and_begins_its_window_anew() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20, failures=10))
    watch.restart()
    watch.look(serving("n", 40, failures=20))  # when these failed nobody knows
    assert (watch.measured[0].taken, watch.measured[0].failed) == (1, 1)
    found = watch.look(serving("n", 60, failures=40))
    assert (watch.measured[0].taken, watch.measured[0].failed) == (2, 2)
    assert found.verdict is Verdict.FAILED


def test_a_status_that_could_not_be_written_counts_nothing_twice_and_loses_nothing() -> None:
    watch = Watch(ERRORS)
    watch.look(serving("n", 20))
    kept = watch.measured
    watch.look(serving("n", 40, failures=20))
    watch.measured = kept  # the write failed
    watch.look(serving("n", 41, failures=20))
    assert (watch.measured[0].taken, watch.measured[0].failed) == (2, 1)
    assert "(21 requests)" in watch.measured[0].message


def test_a_step_needs_a_measurement_of_its_own() -> None:
    watch = Watch(ERRORS)
    assert watch.look(serving("n", 20)).verdict is Verdict.SUCCESSFUL
    watch.step_began = watch.now + timedelta(seconds=1)
    waits = watch.look(serving("n", 20))
    assert (waits.verdict, waits.no_data) == (Verdict.RUNNING, True)
    assert watch.look(serving("n", 40)).verdict is Verdict.SUCCESSFUL


def test_what_a_unit_does_within_the_initial_delay_does_not_count() -> None:
    watch = Watch(ERRORS.model_copy(update={"initial_delay": "30s", "failure_limit": 0}))
    for requests in (20, 40):
        found = watch.look(serving("n", requests, failures=requests))
        assert (found.verdict, found.no_data) == (Verdict.RUNNING, True)
    watch.look(serving("n", 50, failures=50), after_s=9.5)  # the last look within it
    found = watch.look(serving("n", 70, failures=50))
    assert found.verdict is Verdict.SUCCESSFUL
    assert "is 0, limit 0.1 (20 requests)" in found.message
    assert watch.look(serving("n", 90, failures=70)).verdict is Verdict.FAILED


def test_the_delay_of_a_unit_that_joins_late_is_its_own() -> None:
    watch = Watch(ERRORS.model_copy(update={"initial_delay": "15s", "failure_limit": 0}))
    watch.look(serving("n", 20))
    watch.look(serving("n", 40))
    watch.look(serving("n", 60), serving("m", 20, failures=20, since=26.0))
    assert watch.measured[0].failed == 0
    watch.look(serving("n", 80), serving("m", 40, failures=40, since=26.0))
    watch.look(serving("n", 100), serving("m", 60, failures=60, since=26.0))
    assert watch.measured[0].failed == 1


def test_a_query_is_not_looked_at_before_its_delay() -> None:
    metric = query(initial_delay="30s")
    watch = Watch(metric, samples={"q": Sample(SampleState.READ, 9.0, asked_at=1.0)})
    assert watch.look(serving("n", 1)).verdict is Verdict.RUNNING
    assert watch.look(serving("n", 1), after_s=25).verdict is Verdict.FAILED


def query(**fields: Any) -> Metric:
    return Metric(name="ovens", max="1", prometheus=PrometheusQuery(query="q"), **fields)


def test_an_answer_of_prometheus_is_one_measurement_however_often_it_is_looked_at() -> None:
    watch = Watch(query(failure_limit=1), samples={"q": Sample(SampleState.READ, 9, asked_at=1.0)})
    for _ in range(4):
        assert watch.look(serving("n", 1)).verdict is Verdict.RUNNING
    watch.samples = {"q": Sample(SampleState.READ, 9, asked_at=2.0)}
    assert watch.look(serving("n", 1)).verdict is Verdict.FAILED


def test_a_source_that_is_down_too_often_in_succession_fails_before_the_deadline() -> None:
    watch = Watch(query(consecutive_error_limit=2))
    verdicts = []
    for asked in (1.0, 2.0, 3.0):
        watch.samples = {"q": Sample(SampleState.DOWN, problem="no answer", asked_at=asked)}
        verdicts.append(watch.look(serving("n", 1)).verdict)
    assert verdicts == [Verdict.ERROR, Verdict.ERROR, Verdict.FAILED]


def test_an_answer_in_between_ends_the_succession() -> None:
    watch = Watch(query(consecutive_error_limit=1))
    down, up = SampleState.DOWN, SampleState.READ
    for asked, state in enumerate((down, up, down, up, down)):
        watch.samples = {"q": Sample(state, 1.0, "no answer", asked_at=float(asked))}
        assert watch.look(serving("n", 1)).verdict is not Verdict.FAILED


def test_restarts_are_counted_by_window_too() -> None:
    metric = Metric(name=MetricName.RESTARTS, max="0", failure_limit=1)
    watch = Watch(metric)
    assert watch.look(serving("n", 1, restarts=1)).verdict is Verdict.RUNNING
    assert watch.look(serving("n", 1, restarts=1)).verdict is Verdict.SUCCESSFUL
    assert watch.look(serving("n", 1, restarts=2)).verdict is Verdict.FAILED


def test_a_ratio_compares_what_both_did_since_the_last_measurement() -> None:
    metric = Metric(
        name=MetricName.ERROR_RATE, max_ratio_to_stable="2", min_samples=20, failure_limit=0
    )
    watch = Watch(metric, stable_units=frozenset({"s"}))

    def stable(requests: int, failures: int) -> UnitReport:
        return serving("s", requests, failures, revision=STABLE, since=-999.0)

    watch.look(serving("n", 20), stable(1000, 500))
    found = watch.look(serving("n", 40, failures=10), stable(1100, 510))
    assert found.verdict is Verdict.FAILED
    assert "0.2 = 2 times stable's, which is 0.1" in found.message


@pytest.mark.parametrize(
    ("metric", "bad"),
    [
        (Metric(name=MetricName.ERROR_RATE, max="0.1", min_samples=20), {"failures": 20}),
        (Metric(name=MetricName.LATENCY_P95, max="1ms", min_samples=20), {"slow": 20}),
        (Metric(name=MetricName.RESTARTS, max="2"), {"restarts": 3}),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_one_failing_unit_of_three_hundred_is_seen(metric: Metric, bad: dict[str, int]) -> None:
    units = [serving(f"n{index}", 40, restarts=0) for index in range(299)]
    extra = {"restarts": 0} | bad
    everyone = [*units, serving("sick", 20, **extra)]
    if metric.name != MetricName.RESTARTS:
        assert Watch(metric).look(*everyone).verdict is Verdict.SUCCESSFUL
    worst = metric.model_copy(update={"reading": "WorstUnit"})
    found = Watch(worst).look(*everyone)
    assert found.verdict is Verdict.FAILED
    assert "of sick in cell a" in found.message


def test_a_unit_with_too_few_requests_is_not_judged_and_one_with_enough_is_asked_for() -> None:
    metric = ERRORS.model_copy(update={"reading": "WorstUnit", "failure_limit": None})
    found = Watch(metric).look(serving("n", 30), serving("m", 19, failures=19))
    assert found.verdict is Verdict.SUCCESSFUL
    none = Watch(metric).look(serving("n", 12), serving("m", 19))
    assert (none.verdict, none.no_data) == (Verdict.RUNNING, True)
    assert "19 of 20 requests in any unit" in none.message


def test_at_rest_nothing_is_counted() -> None:
    seen = Evidence(TARGET, {"n": serving("n", 50)}, {"n": "a"}, frozenset({"n"}))
    assert analyse((ERRORS,), seen).measured == ()
    assert assess((ERRORS,), seen).verdict is Verdict.SUCCESSFUL


def test_the_engine_keeps_the_counts_and_a_new_rollout_begins_without() -> None:
    kept = (Measured(metric="ErrorRate max 0.1", cell="a", taken=3, failed=1),)
    seen = facts([unit("n0", TARGET)], measured=kept)
    state = rolling(progress_at=T0)
    after = step(QUICK, state, seen).state
    assert after.rollout.measured == kept
    fresh = step(QUICK, after, replace(seen, wanted="v1-3333333333")).state
    assert fresh.rollout.measured == ()
