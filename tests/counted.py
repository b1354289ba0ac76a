"""Counters of requests as pods report them, for tests."""

from __future__ import annotations

from skerry_runtime.contract import LATENCY_BOUNDS_MS, Counters, Latency, RevisionCounters


def histogram(milliseconds: float, requests: int) -> Latency:
    """Return a histogram with all requests in the bucket of one latency."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    bucket = sum(bound < milliseconds for bound in LATENCY_BOUNDS_MS)
    counts[bucket] = requests
    return Latency(counts=tuple(counts), sum_ms=milliseconds * requests)


def counters(requests: int, failures: int = 0, ms: float = 5.0) -> Counters:
    return Counters(
        requests=requests,
        failures={"Internal": failures} if failures else {},
        latency=histogram(ms, requests - failures),
    )


def counted(revision: str, total: Counters, recent: Counters | None = None) -> RevisionCounters:
    """Return a revision's counters; the last minute saw all of it unless `recent` is given."""
    return RevisionCounters(
        revision=revision, since=0, total=total, last_minute=total if recent is None else recent
    )
