"""What the pods' own reports say of one revision in one cell, as one number.

Counters are the pods' totals since the revision was activated, so neither an operator nor a poll
that is missed loses anything, and a pod that restarts only has fewer of them. Beside stable, both
revisions are measured over the last minute instead: the same minute, with the same traffic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment_analysis import MetricName
from skerry_operator.decide.reported import (
    ReportedAgreement,
    ReportedExam,
    ReportedTraffic,
    UnitReport,
)
from skerry_runtime.contract import LATENCY_BOUNDS_MS

_QUANTILES = {
    MetricName.LATENCY_P50: 0.50,
    MetricName.LATENCY_P95: 0.95,
    MetricName.LATENCY_P99: 0.99,
}


class UnreadableError(ValueError):
    """A number that is there cannot be used: an unknown histogram, a limit that is no number."""


@dataclass(frozen=True)
class Measurement:
    """A value and how many samples it is made from."""

    value: float
    samples: int


@dataclass(frozen=True)
class Measurand:
    """What is asked of the pods."""

    kind: MetricName
    revision: str
    is_maximum: bool = True
    """Where the worst pod counts: whether large values are bad."""
    is_recent: bool = False
    """True: over the last minute; False: since the revision was activated."""


def measure(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return the value over the pods of a cell; None when nothing was measured at all.

    Unit: a share for ErrorRate, Accelerated and OutputAgreement, milliseconds for a latency, the
    exam's own score for GoldenAccuracy, process starts for Restarts.

    Raises:
        UnreadableError: a pod reports something that cannot be added up.
    """
    return _MEASURES[probe.kind](probe, reports)


def worst_unit(
    probe: Measurand, reports: Sequence[UnitReport], min_samples: int
) -> tuple[str, Measurement | None]:
    """Return the unit with the worst value of those that have enough samples, and its value.

    Without one, it is the unit that comes closest, with no name.

    Raises:
        UnreadableError: a pod reports something that cannot be added up.
    """
    known = [(one.unit, found) for one in reports if (found := measure(probe, [one]))]
    enough = [(unit, found) for unit, found in known if found.samples >= min_samples]
    if not enough:
        most = max(known, key=lambda item: item[1].samples, default=("", None))
        return "", most[1]
    sign = 1 if probe.is_maximum else -1
    return max(enough, key=lambda item: (sign * item[1].value, item[0]))


def _error_rate(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return failures / requests over all pods; None without traffic.

    Example: pods with 2 of 100 and 0 of 300 -> 2 / 400 = 0.005 from 400 samples.
    """
    known = _counters(probe, reports)
    requests = sum(pod.requests for pod in known)
    if requests == 0:
        return None
    failures = sum(pod.failures for pod in known)
    return Measurement(failures / requests, requests)


def _latency(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return a quantile in milliseconds over the summed histograms."""
    histograms = [pod.latency for pod in _counters(probe, reports)]
    if any(len(counts) != len(LATENCY_BOUNDS_MS) + 1 for counts in histograms):
        raise UnreadableError("a pod reports a histogram with other buckets")
    summed = [sum(column) for column in zip(*histograms, strict=True)]
    samples = sum(summed)
    return Measurement(quantile(_QUANTILES[probe.kind], summed), samples) if samples else None


def _counters(probe: Measurand, reports: Iterable[UnitReport]) -> list[ReportedTraffic]:
    """Return each pod's counters of the revision since it was last activated there."""
    found = []
    for report in reports:
        entries = [entry for entry in report.counters if entry.revision == probe.revision]
        if entries:
            latest = max(entries, key=lambda entry: entry.since)
            found.append(latest.last_minute if probe.is_recent else latest.total)
    return found


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


def _golden(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return the worst exam of the pods; None when no pod took one of the revision."""
    exams = [exam for report in reports if (exam := _exam(report, probe.revision))]
    if not exams:
        return None
    # one exam that is no number must not hide behind a good one
    if broken := [exam for exam in exams if math.isnan(exam.value)]:
        return Measurement(math.nan, broken[0].samples)
    worst = (max if probe.is_maximum else min)(exams, key=lambda exam: exam.value)
    return Measurement(worst.value, worst.samples)


def _exam(report: UnitReport, revision: str) -> ReportedExam | None:
    """Return the exam: of the copy that serves, else of the one being prepared."""
    if report.serving is not None and report.serving.revision == revision:
        return report.serving.exam
    if report.progress is not None and report.progress.revision == revision:
        return report.progress.exam
    return None


def _accelerated(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return the smallest share of the graph on the wanted provider, of the pods that serve it."""
    shares = [
        report.serving.acceleration.delegated_percent / 100
        for report in reports
        if report.serving
        and report.serving.revision == probe.revision
        and report.serving.acceleration
    ]
    if not shares:
        return None
    # NaN compares with nothing: one of them must not hide behind a good number
    worst = math.nan if any(math.isnan(share) for share in shares) else min(shares)
    return Measurement(worst, len(shares))


def _restarts(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return how often the pods' processes began again since they were given the revision.

    Each pod counts for itself, on the node's disk: a restart that nobody watched is not lost.
    """
    counts = [
        report.restarts
        for report in reports
        if report.assigned == probe.revision and report.restarts is not None
    ]
    return Measurement(float(sum(counts)), len(counts)) if counts else None


def _output_agreement(probe: Measurand, reports: Sequence[UnitReport]) -> Measurement | None:
    """Return agreed / compared over the pods' shadows; None when nothing was compared."""
    known = [found for report in reports if (found := agreement_of(report, probe.revision))]
    compared = sum(found.compared for found in known)
    if compared == 0:
        return None
    return Measurement(sum(found.agreed for found in known) / compared, compared)


def agreement_of(report: UnitReport, revision: str) -> ReportedAgreement | None:
    """Return the shadow's result: of the copy that serves, else of the one being prepared."""
    if report.serving is not None and report.serving.revision == revision:
        return report.serving.agreement
    if report.progress is not None and report.progress.revision == revision:
        return report.progress.agreement
    return None


_MEASURES: Mapping[MetricName, Callable[[Measurand, Sequence[UnitReport]], Measurement | None]] = {
    MetricName.ERROR_RATE: _error_rate,
    MetricName.LATENCY_P50: _latency,
    MetricName.LATENCY_P95: _latency,
    MetricName.LATENCY_P99: _latency,
    MetricName.GOLDEN_ACCURACY: _golden,
    MetricName.ACCELERATED: _accelerated,
    MetricName.RESTARTS: _restarts,
    MetricName.OUTPUT_AGREEMENT: _output_agreement,
}
