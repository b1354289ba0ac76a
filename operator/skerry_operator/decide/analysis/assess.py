"""Analysis: what was measured of the target against the limits of the spec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from skerry_operator.api.v1alpha1.edgedeployment_analysis import (
    Metric,
    MetricName,
    MetricReading,
    NoData,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import MEASURED_LIMIT, Measured
from skerry_operator.decide.analysis.baseline import Yardstick, bound, yardstick
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.analysis.limits import count, keeps, limit_of, show
from skerry_operator.decide.analysis.measure import (
    Measurand,
    Measurement,
    UnreadableError,
    agreement_of,
    measure,
    worst_unit,
)
from skerry_operator.decide.analysis.series import Measuring, take
from skerry_operator.decide.facts import Assessment, Value, Verdict
from skerry_operator.decide.observed import Marks, Sample, SampleState
from skerry_operator.decide.reported import UnitReport

SEVERITY = tuple(Verdict)
"""Verdicts from best to worst, as they are declared."""
NAMED_CHECKS = 3
"""Good checks that a message names before it only counts them."""

_NO_DATA = {
    NoData.HOLD: Verdict.RUNNING,
    NoData.PASS: Verdict.SUCCESSFUL,
    NoData.FAIL: Verdict.FAILED,
}
_UNREAD = Sample(SampleState.EMPTY, problem="it was not read yet")


@dataclass(frozen=True)
class AnalysisOutcome:
    """A verdict, and what is to be remembered of the measurements that it was made from."""

    assessment: Assessment
    measured: tuple[Measured, ...] = ()
    """For the status."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """For the next look."""


def assess(metrics: tuple[Metric, ...], evidence: Evidence) -> Assessment:
    """Return the worst result over all metrics and cells; no metrics: Successful."""
    return analyse(metrics, evidence).assessment


def analyse(metrics: tuple[Metric, ...], evidence: Evidence) -> AnalysisOutcome:
    """Return the worst result over all metrics and cells, and what the measurements were."""
    if not metrics:
        return AnalysisOutcome(Assessment(Verdict.SUCCESSFUL, "no metrics are asked for"))
    cells = sorted({evidence.cell_of[unit] for unit in evidence.units})
    found = [
        (metric, cell, _taken(metric, cell, evidence))
        for metric in metrics
        for cell in _places(metric, cells)
    ]
    if not found:
        nobody = "no unit was given the target yet"
        return AnalysisOutcome(Assessment(Verdict.RUNNING, nobody, no_data=True))
    counted = [(metric, cell, one) for metric, cell, one in found if isinstance(one, Measuring)]
    measured = tuple(one.measured for _, _, one in counted if one.measured is not None)
    marks = {(metric.label, cell): one.marks for metric, cell, one in counted}
    results = [one.result if isinstance(one, Measuring) else one for _, _, one in found]
    return AnalysisOutcome(_worst(results), measured[:MEASURED_LIMIT], marks)


def _worst(results: Sequence[Assessment]) -> Assessment:
    values = tuple(value for result in results for value in result.values)
    worst = max(results, key=_severity)
    summary = _all_good(results) if worst.verdict is Verdict.SUCCESSFUL else worst
    return replace(summary, values=values)


def _places(metric: Metric, cells: Sequence[str]) -> Sequence[str]:
    """Return the cells that a metric is judged in; a query speaks of all at once: no name."""
    if metric.prometheus is not None:
        return [""] if cells else []
    return cells


def _taken(metric: Metric, cell: str, evidence: Evidence) -> Assessment | Measuring:
    """Return the result of one metric in one cell, as one measurement or as the latest of many."""

    def judge(seen: Evidence) -> Assessment:
        return _assess_cell(metric, cell, seen) if cell else _assess_query(metric, seen)

    if metric.is_repeated and evidence.measured is not None:
        return take(metric, cell, evidence, judge)
    return judge(evidence)


def _severity(result: Assessment) -> tuple[int, bool]:
    """Return how bad a result is; a measured failure is worse than a missing number."""
    return SEVERITY.index(result.verdict), not result.no_data


def _all_good(results: Sequence[Assessment]) -> Assessment:
    """Return Successful with the numbers, or with their count when they are many."""
    if len(results) <= NAMED_CHECKS:
        return Assessment(Verdict.SUCCESSFUL, "; ".join(result.message for result in results))
    message = f"all {len(results)} checks passed, the first: {results[0].message}"
    return Assessment(Verdict.SUCCESSFUL, message)


def _assess_cell(metric: Metric, cell: str, evidence: Evidence) -> Assessment:
    """Return the result of one metric in one cell."""
    subject = f"{metric.name} in cell {cell}"
    try:
        return _judge_cell(metric, cell, evidence, subject)
    except UnreadableError as error:
        return Assessment(Verdict.ERROR, f"{subject}: {error}", metric.name)


def _judge_cell(metric: Metric, cell: str, evidence: Evidence, subject: str) -> Assessment:
    limit = limit_of(metric)
    if metric.kind is None:
        raise UnreadableError("nothing of this name is measured, and it has no prometheus.query")
    probe = Measurand(metric.kind, evidence.target, metric.is_maximum, is_recent=metric.is_ratio)
    reports = evidence.of_target(cell)
    if metric.reading == MetricReading.WORST_UNIT:
        unit, measured = worst_unit(probe, reports, metric.min_samples)
        subject = f"{metric.name} of {unit} in cell {cell}" if unit else subject
    else:
        measured = measure(probe, reports)
    # nothing, or too little, was measured: what that means is the spec's policy
    if measured is None or measured.samples < metric.min_samples:
        return _missing(metric, subject, _shortage(metric, measured, evidence, reports))
    if not metric.is_ratio:
        text = show(metric, limit)
        return _judged(metric, (subject, cell), measured, (limit, text))
    stable = yardstick(metric, cell, evidence)
    if stable is None:
        return _missing(metric, subject, _lacks_stable(metric, evidence))
    return _beside_stable(metric, (subject, cell), measured, stable)


def _beside_stable(
    metric: Metric, whom: tuple[str, str], measured: Measurement, stable: Yardstick
) -> Assessment:
    """Return the result of a value against a multiple of stable's."""
    factor, its = limit_of(metric), stable.measured
    if not math.isfinite(its.value):
        message = f"{whom[0]} cannot be compared: stable's is {show(metric, its.value)}"
        return Assessment(Verdict.INCONCLUSIVE, message, metric.name)
    limit = bound(metric, factor, its)
    origin = "recorded before the step" if stable.is_recorded else "in the same minute"
    text = (
        f"{show(metric, limit)} = {factor:.4g} times stable's, which is {show(metric, its.value)} "
        f"{origin} ({count(metric, its.samples)})"
    )
    return _judged(metric, whom, measured, (limit, text))


def _judged(
    metric: Metric, whom: tuple[str, str], measured: Measurement, limit: tuple[float, str]
) -> Assessment:
    """Return the result of a value against its limit, given as a number and as a text."""
    subject, cell = whom
    value = f"{subject} is {show(metric, measured.value)}"
    # not a number is neither good nor bad
    if math.isnan(measured.value):
        return Assessment(Verdict.INCONCLUSIVE, f"{value}, which is no number", metric.name)
    is_good = keeps(metric, measured.value, limit[0])
    size = "" if metric.kind is None else f" ({count(metric, measured.samples)})"
    return Assessment(
        Verdict.SUCCESSFUL if is_good else Verdict.FAILED,
        f"{value}, limit {limit[1]}{size}",
        metric.name,
        values=(Value(metric.name, cell, measured.value),),
    )


def _missing(metric: Metric, subject: str, shortage: str) -> Assessment:
    """Return what a missing number means under the metric's policy."""
    verdict = _NO_DATA[metric.no_data]
    message = f"{subject} {shortage}, noData is {metric.no_data}"
    no_data = verdict is not Verdict.SUCCESSFUL
    return Assessment(verdict, message, metric.name, no_data=no_data)


def _shortage(
    metric: Metric,
    measured: Measurement | None,
    evidence: Evidence,
    reports: Sequence[UnitReport],
) -> str:
    """Return how much is there of how much is asked, and why where a pod says so."""
    have = 0 if measured is None else measured.samples
    recent = " in the last minute" if metric.is_ratio else ""
    reasons = {
        found.message
        for report in reports
        if (found := agreement_of(report, evidence.target)) and found.message
    }
    is_shadow = metric.kind is MetricName.OUTPUT_AGREEMENT
    why = f" ({min(reasons)})" if is_shadow and reasons else ""
    each = " in any unit" if metric.reading == MetricReading.WORST_UNIT else ""
    return f"has {have} of {count(metric, metric.min_samples)}{each}{recent}{why}"


def _lacks_stable(metric: Metric, evidence: Evidence) -> str:
    """Return why there is nothing to compare with."""
    if evidence.stable is None:
        return "has no stable revision to be compared with: promote, or set noData: Pass"
    return f"has no {count(metric, metric.min_samples)} of stable to be compared with"


def _assess_query(metric: Metric, evidence: Evidence) -> Assessment:
    """Return the result of a Prometheus query; a series too many, or NaN, decides nothing."""
    query = metric.prometheus.query if metric.prometheus else ""
    sample = evidence.samples.get(query, _UNREAD)
    match sample.state:
        case SampleState.DOWN:
            return Assessment(Verdict.ERROR, f"{metric.name}: {sample.problem}", metric.name)
        case SampleState.ODD:
            return Assessment(Verdict.INCONCLUSIVE, f"{metric.name}: {sample.problem}", metric.name)
        case SampleState.EMPTY:
            return _missing(metric, metric.name, f"has no value: {sample.problem}")
        case SampleState.READ:
            return _judge_sample(metric, sample.value)


def _judge_sample(metric: Metric, value: float) -> Assessment:
    try:
        limit = limit_of(metric)
    except UnreadableError as error:
        return Assessment(Verdict.ERROR, f"{metric.name}: {error}", metric.name)
    # PromQL gives infinity for x / 0: a question about nothing, not a bad answer
    if math.isinf(value):
        message = f"{metric.name} is {value}, as if divided by zero"
        return Assessment(Verdict.INCONCLUSIVE, message, metric.name)
    measured = Measurement(value, 1)
    return _judged(metric, (metric.name, ""), measured, (limit, show(metric, limit)))
