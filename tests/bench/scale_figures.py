"""Figures from two readings of the operator's own metrics."""

from __future__ import annotations

from collections.abc import Mapping

from bench.form import Row, figure

Metrics = Mapping[str, float]
LOOK = "skerry_reconcile_seconds", 'kind="EdgeDeployment"'
WAIT = "skerry_queue_latency_seconds", ""


def looks(before: Metrics, after: Metrics) -> float:
    """Count the looks at EdgeDeployments between two readings."""
    return _grown(_name(*LOOK, "_count"), before, after)


def looked(name: str, before: Metrics, after: Metrics) -> list[Row]:
    """Return how many looks there were, how long one took, and how long it was due before."""
    return [
        figure(f"{name}: looks", looks(before, after)),
        figure(f"{name}: a look takes, mean", _mean_ms(LOOK, before, after), "ms"),
        figure(f"{name}: a look takes, p99 at most", _p99_ms(LOOK, before, after), "ms"),
        figure(f"{name}: a look waits, mean", _mean_ms(WAIT, before, after), "ms"),
        figure(f"{name}: a look waits, p99 at most", _p99_ms(WAIT, before, after), "ms"),
    ]


def _name(metric: str, labels: str, suffix: str) -> str:
    return f"{metric}{suffix}{{{labels}}}" if labels else f"{metric}{suffix}"


def _grown(name: str, before: Metrics, after: Metrics) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def _mean_ms(histogram: tuple[str, str], before: Metrics, after: Metrics) -> float | None:
    count = _grown(_name(*histogram, "_count"), before, after)
    spent = _grown(_name(*histogram, "_sum"), before, after)
    return 1000 * spent / count if count else None


def _p99_ms(histogram: tuple[str, str], before: Metrics, after: Metrics) -> float | None:
    """Return the upper bound of the bucket in which the 99th percentile lies."""
    metric, labels = histogram
    start = f"{metric}_bucket{{"
    names = [name for name in after if name.startswith(start) and labels in name]
    grown = {_bound(name): _grown(name, before, after) for name in names}
    total = grown.get(float("inf"), 0.0)
    bounds = sorted(bound for bound, count in grown.items() if count >= 0.99 * total)
    return 1000 * bounds[0] if total and bounds[0] != float("inf") else None


def _bound(name: str) -> float:
    return float(name.partition('le="')[2].partition('"')[0])
