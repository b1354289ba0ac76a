"""Analysis: the pods' own numbers of the target against the limits of the spec."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_operator.api.v1alpha1.edgedeployment import Metric
from skerry_operator.decide.facts import Assessment
from skerry_runtime.contract import StatusReport


def assess(
    metrics: tuple[Metric, ...],
    target: str,
    reports: Mapping[str, StatusReport],
    cell_of: Mapping[str, str],
    units: frozenset[str],
) -> Assessment:
    """Return the worst result over all metrics and cells; `units`: reachable, given the target."""
    raise NotImplementedError
