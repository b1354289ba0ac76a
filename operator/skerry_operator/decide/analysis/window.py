"""What pods did since a metric was last measured: the difference of their counters.

A pod that began to count anew since then (it restarted, or was given the revision again) has only
new numbers. Where nobody remembers the last measurement, the next one begins anew, so that no
request is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from skerry_operator.decide.observed import Marks
from skerry_operator.decide.reported import ReportedCounters, ReportedTraffic, UnitReport

_NOTHING = ReportedTraffic()


@dataclass(frozen=True)
class Window:
    """From when on requests count."""

    target: str
    now: datetime
    marks: Marks | None
    """None: nothing is remembered."""
    measured_at: datetime | None
    """Time of the last measurement: what nobody remembers may have been counted by it."""
    delay_s: float = 0.0
    """What a unit does so soon after it began to serve the target does not count."""

    def since(self, reports: Iterable[UnitReport]) -> list[UnitReport]:
        """Return the reports with what is new alone in their counters."""
        return [self._new_of(report) for report in reports]

    def moved(self, reports: Iterable[UnitReport]) -> Marks:
        """Return the marks for the next look, when nothing was measured at this one.

        They move for units whose requests do not count (yet), and for these alone.
        """
        known = self.marks or Marks(self.target, self.measured_at)
        counters, restarts = dict(known.counters), dict(known.restarts)
        for report in reports:
            for entry in _latest(report.counters):
                key = (report.unit, entry.revision)
                if not self._counts(report, entry):
                    counters[key] = entry
            if report.restarts is not None and self._skips_restarts(report):
                restarts[report.unit] = report.restarts
        return replace(known, counters=counters, restarts=restarts)

    def taken(self, reports: Iterable[UnitReport], asked_at: float | None = None) -> Marks:
        """Return the marks of a measurement that was taken now."""
        known = self.marks or Marks(self.target, self.measured_at)
        heard = list(reports)
        counters = {
            (report.unit, entry.revision): entry
            for report in heard
            for entry in _latest(report.counters)
        }
        restarts = {one.unit: one.restarts for one in heard if one.restarts is not None}
        return Marks(
            self.target,
            self.now,
            {**known.counters, **counters},
            {**known.restarts, **restarts},
            asked_at,
            replace(known, before=None),
        )

    def _new_of(self, report: UnitReport) -> UnitReport:
        return replace(
            report,
            counters=tuple(self._new_in(report, entry) for entry in _latest(report.counters)),
            restarts=self._new_restarts(report),
        )

    def _new_in(self, report: UnitReport, entry: ReportedCounters) -> ReportedCounters:
        traffic = _NOTHING
        if self._counts(report, entry):
            mark = self._mark_of(report.unit, entry)
            traffic = difference(entry.total, mark.total if mark else None)
        return replace(entry, total=traffic, last_minute=traffic)

    def _counts(self, report: UnitReport, entry: ReportedCounters) -> bool:
        """Tell whether it is known from when on the entry's requests are new, and they count."""
        is_target = entry.revision == self.target
        if is_target and report.pod_now(self.now) - entry.since < self.delay_s:
            return False
        if self._mark_of(report.unit, entry) is not None:
            return True
        # a unit without a mark began after the last measurement, or nothing was ever measured
        is_new = self.marks is not None or self.measured_at is None
        return is_target and is_new and not self.delay_s

    def _mark_of(self, unit: str, entry: ReportedCounters) -> ReportedCounters | None:
        mark = self.marks.counters.get((unit, entry.revision)) if self.marks else None
        return mark if mark is not None and mark.since == entry.since else None

    def _new_restarts(self, report: UnitReport) -> int | None:
        if report.restarts is None:
            return None
        if self._skips_restarts(report):
            return 0
        before = self.marks.restarts.get(report.unit, 0) if self.marks else 0
        return report.restarts - before if report.restarts >= before else report.restarts

    def _skips_restarts(self, report: UnitReport) -> bool:
        """Tell whether restarts so far do not count: nobody knows them, or it is too soon."""
        serving = report.serving
        is_on_target = serving is not None and serving.revision == self.target
        if serving and is_on_target and report.pod_now(self.now) - serving.since < self.delay_s:
            return True
        return self.marks is None and self.measured_at is not None


def difference(now: ReportedTraffic, before: ReportedTraffic | None) -> ReportedTraffic:
    """Return what came to a pod's counters; all of it when they began anew.

    >>> difference(ReportedTraffic(30, 3), ReportedTraffic(20, 1))
    ReportedTraffic(requests=10, failures=2, latency=())
    """
    if before is None or before.requests > now.requests or before.failures > now.failures:
        return now
    if len(before.latency) != len(now.latency):
        return now
    latency = tuple(new - old for new, old in zip(now.latency, before.latency, strict=True))
    if any(count < 0 for count in latency):
        return now
    return ReportedTraffic(now.requests - before.requests, now.failures - before.failures, latency)


def remembered(
    known: Mapping[tuple[str, str], Marks],
    key: tuple[str, str],
    target: str,
    at: datetime | None,
) -> Marks | None:
    """Return the marks that belong to the measurement at `at`, None: to none yet.

    Those after it belong to one whose status was not written: then the marks before them count.
    """
    marks = known.get(key)
    for one in (marks, marks.before if marks else None):
        if one is not None and (one.target, one.at) == (target, at):
            return one
    return None


def _latest(counters: Iterable[ReportedCounters]) -> list[ReportedCounters]:
    """Return the counters of each revision since it was last activated."""
    found: dict[str, ReportedCounters] = {}
    for entry in counters:
        known = found.get(entry.revision)
        if known is None or known.since < entry.since:
            found[entry.revision] = entry
    return list(found.values())
