"""Limits of the spec as numbers, and values as people read them."""

from __future__ import annotations

import math

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric, MetricName
from skerry_operator.decide.analysis.measure import UnreadableError
from skerry_runtime.contract import LATENCY_BOUNDS_MS

_UNITS_OF_SAMPLES = {
    MetricName.GOLDEN_ACCURACY: "sample",
    MetricName.ACCELERATED: "unit",
    MetricName.RESTARTS: "unit",
    MetricName.OUTPUT_AGREEMENT: "compared answer",
}


def limit_of(metric: Metric) -> float:
    """Return the metric's limit as a number: milliseconds for a latency, a factor for a ratio.

    Raises:
        UnreadableError: there is none, or it is no number (the CRD's rules forbid both).
    """
    ratio = metric.max_ratio_to_stable or metric.min_ratio_to_stable
    text = ratio or (metric.max if metric.max is not None else metric.min)
    if text is None:
        raise UnreadableError("it has no limit: write max, min, or a ratio to stable")
    try:
        return duration_s(text) * 1000 if _is_duration(metric) else float(text)
    except ValueError as error:
        raise UnreadableError(f"its limit {text!r} cannot be read") from error


def _is_duration(metric: Metric) -> bool:
    return metric.kind is not None and metric.kind.is_latency and not metric.is_ratio


def keeps(metric: Metric, value: float, limit: float) -> bool:
    """Tell whether a value is within its limit; at the limit is good."""
    return value <= limit if metric.is_maximum else value >= limit


def show(metric: Metric, value: float) -> str:
    """Return a value for people, for example `212 ms` or `0.034`."""
    if metric.kind is None or not metric.kind.is_latency:
        return f"{value:.4g}"
    if math.isinf(value):
        return f"over {LATENCY_BOUNDS_MS[-1] / 1000:.0f} s"
    return f"{value:.4g} ms"


def count(metric: Metric, number: int) -> str:
    """Return a number of samples in the metric's own unit, for example `50 requests`."""
    word = _UNITS_OF_SAMPLES.get(metric.kind, "request") if metric.kind else "series"
    return f"{number} {word}" if number == 1 or metric.kind is None else f"{number} {word}s"
