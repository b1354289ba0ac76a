"""Prometheus queries of a rollout under way, with their placeholders filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment_analysis import PLACEHOLDERS
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.observed import Observed

TEXT_LIMIT = 64 * 1024
"""Longest query that is sent: some thousand units in `{{units}}`."""

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]*")
"""What names of Kubernetes and revisions are made of: nothing that ends a string of PromQL."""
_AT_REST = frozenset({Stage.IDLE, Stage.ROLLING_BACK})


@dataclass(frozen=True)
class Query:
    """A query that is due."""

    text: str
    """PromQL to send; empty when there is a problem."""
    problem: str = ""
    """Why it cannot be sent."""


def wanted_queries(observed: Observed) -> Mapping[str, Query]:
    """Return query as written -> query as sent; nothing while no unit has a target to judge."""
    metrics = observed.deployment.spec.rollout.analysis.metrics
    written = {metric.prometheus.query for metric in metrics if metric.prometheus}
    status = observed.deployment.status
    target = status.target_revision
    if not written or target is None or status.rollout.stage in _AT_REST:
        return {}
    units = units_given(observed, target)
    if not units:
        return {}
    metadata = observed.deployment.metadata
    words = {
        "revision": target,
        "stable": status.stable_revision or "",
        "namespace": metadata.namespace,
        "deployment": metadata.name,
    }
    return {query: fill_in(query, words, units) for query in sorted(written)}


def units_given(observed: Observed, revision: str) -> tuple[str, ...]:
    """Return the units whose pods the cluster's assignment gives the revision, by name."""
    cells = {cell.name: cell.assignment for cell in observed.cells}
    return tuple(
        sorted(
            {
                pod.unit
                for pod in observed.pods
                if pod.unit and pod.cell in cells
                if cells[pod.cell].revision_of(pod.unit) == revision
            }
        )
    )


def fill_in(query: str, words: Mapping[str, str], units: Iterable[str]) -> Query:
    """Return the query with every placeholder replaced.

    `{{units}}` becomes an alternation for `=~`, in which a dot stands in brackets: a backslash
    would mean different things in the different quotes of PromQL. All others are for `=`.

    >>> fill_in('up{node=~"{{units}}"}', {}, ["a.b", "c"]).text
    'up{node=~"a[.]b|c"}'
    """
    named = list(units)
    strange = [text for text in (*words.values(), *named) if not _PLAIN.fullmatch(text)]
    if strange:
        return Query("", f"the name {strange[0]!r} cannot stand in a query")
    known = {**words, "units": "|".join(unit.replace(".", "[.]") for unit in named)}
    unknown = [word for word in _PLACEHOLDER.findall(query) if word not in known]
    if unknown:
        return Query("", f"{{{{{unknown[0][:40]}}}}} is none of {', '.join(PLACEHOLDERS)}")
    text = _PLACEHOLDER.sub(lambda match: known[match[1]], query)
    if len(text) > TEXT_LIMIT:
        return Query("", f"it has {len(text)} characters with all units: use {{{{deployment}}}}")
    return Query(text)
