"""What pods are told about comparing the target with stable before it serves."""

from __future__ import annotations

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_analysis import MetricName
from skerry_runtime.contract import Shadow

LONGEST_S = 120.0
"""Longest time that a pod waits for requests to compare; and never more than half the deadline."""


def shadow_of(rollout: Rollout) -> Shadow | None:
    """Return the shadow that the spec's OutputAgreement asks for, the strictest of several.

    A limit that cannot be read (the CRD's rules forbid it) asks for none: the analysis says so.
    """
    asked = [
        metric
        for metric in rollout.analysis.metrics
        if metric.kind is MetricName.OUTPUT_AGREEMENT and _share(metric.min) is not None
    ]
    if not asked:
        return None
    return Shadow(
        samples=max(metric.min_samples for metric in asked),
        timeout_s=min(LONGEST_S, duration_s(rollout.progress_deadline) / 2),
        threshold=max(_share(metric.min) or 0.0 for metric in asked),
    )


def _share(text: str | None) -> float | None:
    try:
        share = float(text or "")
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None
