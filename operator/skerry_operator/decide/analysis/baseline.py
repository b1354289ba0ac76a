"""Stable beside the target: what it does in the same cell, or what was recorded of it before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric, MetricName
from skerry_operator.api.v1alpha1.edgedeployment_status import BASELINE_LIMIT, Baseline
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.analysis.measure import Measurand, Measurement, UnreadableError, measure


@dataclass(frozen=True)
class Yardstick:
    """What stable does in a cell."""

    measured: Measurement
    is_recorded: bool
    """True: no unit with stable has enough to show now; this was noted before the step."""


def yardstick(metric: Metric, cell: str, evidence: Evidence) -> Yardstick | None:
    """Return stable's value: of the last minute, else the recorded one; None: neither is enough.

    Raises:
        UnreadableError: a pod reports something that cannot be added up.
    """
    live = _live(metric, cell, evidence, is_recent=True)
    if _is_enough(live, metric):
        return Yardstick(live, is_recorded=False)
    recorded = _recorded(metric, cell, evidence.baseline)
    return Yardstick(recorded, is_recorded=True) if _is_enough(recorded, metric) else None


def bound(metric: Metric, factor: float, stable: Measurement) -> float:
    """Return the limit that stable's value v makes: factor * v.

    For ErrorRate v is at least 1 / n, n being stable's requests: no failure in n requests is not
    told from one, and a target must not fail for its first error beside a stable without any.
    """
    value = stable.value
    if metric.kind is MetricName.ERROR_RATE:
        value = max(value, 1 / stable.samples)
    return factor * value


def recordable(metrics: Iterable[Metric], evidence: Evidence) -> tuple[Baseline, ...]:
    """Return what is worth noting of stable now, for the time when no unit of a cell has it.

    The last minute counts where it has enough samples, else everything since stable's activation.
    """
    cells = sorted({evidence.cell_of[unit] for unit in evidence.stable_units})
    ratios = {metric.name: metric for metric in metrics if metric.is_ratio}
    found = [
        Baseline(cell=cell, metric=name, value=f"{best.value:.6g}", samples=best.samples)
        for cell in cells
        for name, metric in sorted(ratios.items())
        if (best := _best(metric, cell, evidence))
    ]
    return tuple(found[:BASELINE_LIMIT])


def _best(metric: Metric, cell: str, evidence: Evidence) -> Measurement | None:
    try:
        recent = _live(metric, cell, evidence, is_recent=True)
        if not _is_enough(recent, metric):
            recent = _live(metric, cell, evidence, is_recent=False)
    except UnreadableError:
        return None
    return recent if recent is not None and math.isfinite(recent.value) else None


def _live(metric: Metric, cell: str, evidence: Evidence, *, is_recent: bool) -> Measurement | None:
    if metric.kind is None or evidence.stable is None:
        return None
    probe = Measurand(metric.kind, evidence.stable, metric.is_maximum, is_recent)
    return measure(probe, evidence.of_stable(cell))


def _recorded(metric: Metric, cell: str, baseline: Iterable[Baseline]) -> Measurement | None:
    for entry in baseline:
        if (entry.cell, entry.metric) == (cell, metric.name):
            return _read(entry)
    return None


def _read(entry: Baseline) -> Measurement | None:
    """Return a recorded entry; a status that was edited by hand records nothing."""
    try:
        return Measurement(float(entry.value), entry.samples)
    except ValueError:
        return None


def _is_enough(measured: Measurement | None, metric: Metric) -> TypeGuard[Measurement]:
    return measured is not None and measured.samples >= metric.min_samples
