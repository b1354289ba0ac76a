"""Analysis: the pods' own numbers of the target against the limits of the spec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment import Metric, MetricName, NoData
from skerry_operator.decide.facts import Assessment, Verdict
from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    Counters,
    ExamResult,
    StatusReport,
)

SEVERITY = tuple(Verdict)
"""Verdicts from best to worst, as they are declared."""
NAMED_CHECKS = 3
"""Good checks that a message names before it only counts them."""

_NO_DATA = {
    NoData.HOLD: Verdict.RUNNING,
    NoData.PASS: Verdict.SUCCESSFUL,
    NoData.FAIL: Verdict.FAILED,
}
_QUANTILES = {
    MetricName.LATENCY_P50: 0.50,
    MetricName.LATENCY_P95: 0.95,
    MetricName.LATENCY_P99: 0.99,
}


class UnreadableError(ValueError):
    """A number that is there cannot be used: an unknown histogram, a limit that is no number."""


@dataclass(frozen=True)
class _Measurement:
    """A value and how many samples it is made from."""

    value: float
    samples: int


def assess(
    metrics: tuple[Metric, ...],
    target: str,
    reports: Mapping[str, StatusReport],
    cell_of: Mapping[str, str],
    units: frozenset[str],
) -> Assessment:
    """Return the worst result over all metrics and cells.

    Counters are the pods' totals since the target was activated, so neither an operator nor a
    poll that is missed loses anything, and a pod that restarts only has fewer of them.

    Args:
        metrics: limits of the spec; none: Successful.
        target: the revision that is measured.
        reports: unit -> what its pod reported; a unit that did not answer is absent.
        cell_of: unit -> its cell.
        units: reachable units that were given the target; each of their cells is judged.
    """
    if not metrics:
        return Assessment(Verdict.SUCCESSFUL, "no metrics are asked for")
    cells = sorted({cell_of[unit] for unit in units})
    results = [
        _assess_cell(metric, cell, target, _of_cell(cell, reports, cell_of, units))
        for metric in metrics
        for cell in cells
    ]
    if not results:
        return Assessment(Verdict.RUNNING, "no unit was given the target yet", no_data=True)
    worst = max(results, key=_severity)
    return _all_good(results) if worst.verdict is Verdict.SUCCESSFUL else worst


def _severity(result: Assessment) -> tuple[int, bool]:
    """Return how bad a result is; a measured failure is worse than a missing number."""
    return SEVERITY.index(result.verdict), not result.no_data


def _all_good(results: Sequence[Assessment]) -> Assessment:
    """Return Successful with the numbers, or with their count when they are many."""
    if len(results) <= NAMED_CHECKS:
        return Assessment(Verdict.SUCCESSFUL, "; ".join(result.message for result in results))
    message = f"all {len(results)} checks passed, the first: {results[0].message}"
    return Assessment(Verdict.SUCCESSFUL, message)


def _of_cell(
    cell: str,
    reports: Mapping[str, StatusReport],
    cell_of: Mapping[str, str],
    units: frozenset[str],
) -> list[StatusReport]:
    """Return what the cell's units reported, in order of their names."""
    return [reports[unit] for unit in sorted(units) if cell_of[unit] == cell and unit in reports]


def _assess_cell(
    metric: Metric, cell: str, target: str, reports: Sequence[StatusReport]
) -> Assessment:
    """Return the result of one metric in one cell."""
    subject = f"{metric.name} in cell {cell}"
    try:
        limit = _limit(metric)
        measured = _measure(metric, target, reports)
    except UnreadableError as error:
        return Assessment(Verdict.ERROR, f"{subject}: {error}", metric.name)
    # nothing, or too little, was measured: what that means is the spec's policy
    if measured is None or measured.samples < metric.min_samples:
        return _missing(metric, subject, measured)
    value = f"{subject} is {_show(metric, measured.value)}"
    # not a number is neither good nor bad
    if math.isnan(measured.value):
        return Assessment(Verdict.INCONCLUSIVE, f"{value}, which is no number", metric.name)
    message = f"{value}, limit {_show(metric, limit)} ({_samples(metric, measured.samples)})"
    is_good = measured.value <= limit if metric.max is not None else measured.value >= limit
    return Assessment(Verdict.SUCCESSFUL if is_good else Verdict.FAILED, message, metric.name)


def _missing(metric: Metric, subject: str, measured: _Measurement | None) -> Assessment:
    """Return what too few samples mean under the metric's policy."""
    verdict = _NO_DATA[metric.no_data]
    have = 0 if measured is None else measured.samples
    message = f"{subject} has {have} of {_samples(metric, metric.min_samples)}"
    message = f"{message}, noData is {metric.no_data}"
    no_data = verdict is not Verdict.SUCCESSFUL
    return Assessment(verdict, message, metric.name, no_data=no_data)


def _measure(metric: Metric, target: str, reports: Sequence[StatusReport]) -> _Measurement | None:
    """Return the metric's value over a cell; None when nothing was measured at all."""
    if metric.name is MetricName.GOLDEN_ACCURACY:
        return _golden(metric, target, reports)
    counters = [found for report in reports if (found := _counters(report, target))]
    if metric.name is MetricName.ERROR_RATE:
        return _error_rate(counters)
    return _latency(_QUANTILES[metric.name], counters)


def _counters(report: StatusReport, target: str) -> Counters | None:
    """Return a pod's counters of the target since it was last activated there."""
    entries = [entry for entry in report.counters if entry.revision == target]
    return max(entries, key=lambda entry: entry.since).total if entries else None


def _error_rate(counters: Iterable[Counters]) -> _Measurement | None:
    """Return failures / requests over all pods of a cell; None without traffic.

    Example: pods with 2 of 100 and 0 of 300 -> 2 / 400 = 0.005 from 400 samples.
    """
    known = tuple(counters)
    requests = sum(pod.requests for pod in known)
    if requests == 0:
        return None
    failures = sum(sum(pod.failures.values()) for pod in known)
    return _Measurement(failures / requests, requests)


def _latency(quantile_: float, counters: Iterable[Counters]) -> _Measurement | None:
    """Return a latency quantile in milliseconds over the summed histograms of a cell's pods."""
    histograms = [pod.latency.counts for pod in counters]
    if any(len(counts) != len(LATENCY_BOUNDS_MS) + 1 for counts in histograms):
        raise UnreadableError("a pod reports a histogram with other buckets")
    summed = [sum(column) for column in zip(*histograms, strict=True)]
    samples = sum(summed)
    return _Measurement(quantile(quantile_, summed), samples) if samples else None


def quantile(share: float, counts: Sequence[int]) -> float:
    """Return the value below which `share` of a histogram over LATENCY_BOUNDS_MS lies.

    With n samples in all, r = share * n, bucket i the first whose cumulated count reaches r,
    c its count, b the cumulated count before it, and (low, high] its bounds:
        value = low + (high - low) * (r - b) / c
    The first bucket begins at 0. The last has no upper bound: a rank in it gives infinity, so
    it never passes a limit.

    Example: 10 samples in (0, 0.05] and 10 in (0.05, 0.0625]:
        share 0.50 -> r = 10 -> 0 + 0.05 * 10 / 10                = 0.05
        share 0.95 -> r = 19 -> 0.05 + 0.0125 * (19 - 10) / 10    = 0.06125
    """
    rank, before = share * sum(counts), 0
    for bucket, count in enumerate(counts[:-1]):
        if count and before + count >= rank:
            low = LATENCY_BOUNDS_MS[bucket - 1] if bucket else 0.0
            return low + (LATENCY_BOUNDS_MS[bucket] - low) * (rank - before) / count
        before += count
    return math.inf


def _golden(metric: Metric, target: str, reports: Sequence[StatusReport]) -> _Measurement | None:
    """Return the worst exam of the cell's pods; None when no pod took one of the target."""
    exams = [exam for report in reports if (exam := _exam(report, target))]
    if not exams:
        return None
    # one exam that is no number must not hide behind a good one
    if broken := [exam for exam in exams if math.isnan(exam.value)]:
        return _Measurement(math.nan, broken[0].samples)
    worst = (max if metric.max is not None else min)(exams, key=lambda exam: exam.value)
    return _Measurement(worst.value, worst.samples)


def _exam(report: StatusReport, target: str) -> ExamResult | None:
    """Return the target's exam: of the copy that serves, else of the one being prepared."""
    if report.serving is not None and report.serving.revision == target:
        return report.serving.exam
    if report.progress is not None and report.progress.revision == target:
        return report.progress.exam
    return None


def _limit(metric: Metric) -> float:
    """Return the metric's limit as a number: milliseconds for a latency.

    Raises:
        UnreadableError: there is none, or it is no number (the CRD's rules forbid both).
    """
    text = metric.max if metric.max is not None else metric.min
    if text is None:
        raise UnreadableError("it has neither max nor min")
    try:
        return duration_s(text) * 1000 if metric.name.is_latency else float(text)
    except ValueError as error:
        raise UnreadableError(f"its limit {text!r} cannot be read") from error


def _show(metric: Metric, value: float) -> str:
    """Return a value for people, for example `212 ms` or `0.034`."""
    if not metric.name.is_latency:
        return f"{value:.4g}"
    if math.isinf(value):
        return f"over {LATENCY_BOUNDS_MS[-1] / 1000:.0f} s"
    return f"{value:.4g} ms"


def _samples(metric: Metric, count: int) -> str:
    """Return a number of samples in the metric's own unit."""
    word = "sample" if metric.name is MetricName.GOLDEN_ACCURACY else "request"
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
