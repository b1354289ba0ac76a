"""Counts requests per revision: for the operator (/status) and for Prometheus (/metrics).

Time spans come from a monotonic clock, so that a corrected wall clock empties no minute.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from skerry_runtime.clock import unix_now
from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    MAX_KINDS,
    Counters,
    FailureReason,
    Latency,
    RevisionCounters,
    SwapRecord,
)

WINDOW_S = 60
"""Span of the recent counters."""

_OTHER_KIND = "Other"

KEPT_REVISIONS = 5
"""Revisions whose counters are kept: the current one and those before it."""


@dataclass
class Tally:
    """Counts of one span of time."""

    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    sum_ms: float = 0.0

    def add_success(self, bucket: int, ms: float) -> None:
        """Count one answer that took `ms`, which belongs in `bucket` of the histogram."""
        self.requests += 1
        self.latency[bucket] += 1
        self.sum_ms += ms

    def add_failure(self, kind: str) -> None:
        """Count one failure of ours."""
        self.requests += 1
        self._add_kind(kind, 1)

    def _add_kind(self, kind: str, count: int) -> None:
        """Add to a kind; those beyond the contract's bound are counted together."""
        is_bounded = kind in self.failures or len(self.failures) < MAX_KINDS - 1
        name = kind if is_bounded else _OTHER_KIND
        self.failures[name] = self.failures.get(name, 0) + count

    def add(self, other: Tally) -> None:
        """Add another span's counts."""
        self.requests += other.requests
        self.rejected += other.rejected
        self.sum_ms += other.sum_ms
        for kind, count in other.failures.items():
            self._add_kind(kind, count)
        self.latency = [mine + its for mine, its in zip(self.latency, other.latency, strict=True)]

    def as_counters(self) -> Counters:
        """Return the counts as the pod contract has them."""
        return Counters(
            requests=self.requests,
            failures=dict(self.failures),
            rejected=self.rejected,
            latency=Latency(counts=tuple(self.latency), sum_ms=round(self.sum_ms, 3)),
        )


class RevisionMetrics:
    """Counts of one revision since its activation. Safe from any thread."""

    def __init__(
        self, revision: str, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self.revision = revision
        self.since = now()
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._total = Tally()
        self._seconds = [Tally()] * WINDOW_S  # replaced before it is written to
        self._stamps = [-WINDOW_S] * WINDOW_S  # the second that each place of the ring holds

    def succeed(self, seconds: float) -> None:
        """Count a successful request and its latency."""
        ms = seconds * 1000.0
        bucket = bisect_left(LATENCY_BOUNDS_MS, ms)
        with self._lock:
            self._total.add_success(bucket, ms)
            self._this_second().add_success(bucket, ms)

    def fail(self, kind: str) -> None:
        """Count a request that failed for a reason of ours."""
        with self._lock:
            self._total.add_failure(kind)
            self._this_second().add_failure(kind)

    def reject(self) -> None:
        """Count a request refused for the client's mistake."""
        with self._lock:
            self._total.rejected += 1
            self._this_second().rejected += 1

    def counters(self) -> RevisionCounters:
        """Return all counts, for /status."""
        total, recent = self.snapshot()
        return RevisionCounters(
            revision=self.revision,
            since=self.since,
            total=total.as_counters(),
            last_minute=recent.as_counters(),
        )

    def snapshot(self) -> tuple[Tally, Tally]:
        """Return copies of the totals and of the last minute that belong together."""
        total, recent = Tally(), Tally()
        with self._lock:
            oldest = int(self._monotonic()) - WINDOW_S
            total.add(self._total)
            for stamp, second in zip(self._stamps, self._seconds, strict=True):
                if stamp > oldest and stamp >= 0:
                    recent.add(second)
        return total, recent

    def last_request_s(self) -> int:
        """Return the Unix time of the last request; 0: none yet."""
        stamp = max(self._stamps)
        return int(self._now() - (int(self._monotonic()) - stamp)) if stamp >= 0 else 0

    def _this_second(self) -> Tally:
        """Return the tally of the current second, emptied of what the ring held before."""
        now = int(self._monotonic())
        place = now % WINDOW_S
        if self._stamps[place] != now:
            self._stamps[place] = now
            self._seconds[place] = Tally()
        return self._seconds[place]


@dataclass
class SwapMetrics:
    """Swaps of this process; the agent writes, /metrics reads."""

    succeeded: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    outage_s: float = 0.0

    def record_success(self, swap: SwapRecord) -> None:
        """Count a completed swap, its duration and its outage."""
        self.succeeded += 1
        self.duration_s += swap.total_ms / 1000.0
        self.outage_s += swap.outage_ms / 1000.0

    def record_failure(self, reason: FailureReason) -> None:
        """Count a revision that was refused."""
        self.failed[reason.value] = self.failed.get(reason.value, 0) + 1


class Metrics:
    """All counters of this process."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = unix_now,
    ) -> None:
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._revisions: OrderedDict[str, RevisionMetrics] = OrderedDict()
        self.swaps = SwapMetrics()
        self.unserved = 0
        """Requests that found no serving model."""

    def activate(self, revision: str) -> RevisionMetrics:
        """Begin to count a revision anew; forget the oldest beyond KEPT_REVISIONS."""
        fresh = RevisionMetrics(revision, self._now, self._monotonic)
        with self._lock:
            self._revisions.pop(revision, None)
            self._revisions[revision] = fresh
            while len(self._revisions) > KEPT_REVISIONS:
                self._revisions.popitem(last=False)
        return fresh

    def of(self, revision: str) -> RevisionMetrics:
        """Return the counts of a revision, activating one that is not known."""
        return self._revisions.get(revision) or self.activate(revision)

    def revisions(self) -> tuple[RevisionMetrics, ...]:
        """Return the counts of the kept revisions, latest activation first."""
        with self._lock:
            return tuple(reversed(self._revisions.values()))

    def counters(self) -> tuple[RevisionCounters, ...]:
        """Return what /status reports, latest activation first."""
        return tuple(revision.counters() for revision in self.revisions())
