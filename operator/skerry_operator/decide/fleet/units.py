"""What the rollout engine is told about each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import LABEL_CANARY
from skerry_operator.decide.facts import STATE_LIMIT, Fetching, UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import nudge_of
from skerry_operator.decide.fleet.row import Berth, UnitRow
from skerry_operator.decide.fleet.waiting import crash_loop, explained, pod_missing, pod_silent
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import UnitReport
from skerry_runtime.contract import SwapPhase

LONG_S = 31 * 24 * 3600.0
"""Longer ago than any deadline reaches."""
_CRASH_LOOP = "CrashLoopBackOff"
_CRASH_LOOP_RESTARTS = 2
"""One crash may be bad luck; the second of the same pod is not."""


@dataclass(frozen=True)
class OnTrial:
    """The revision whose failures count, and the retry text under which it is tried."""

    revision: str
    retry: str
    is_stable: bool
    """True: there is nothing on trial, the wanted revision is the stable one."""
    since: datetime | None = None
    """When the trial began: a container that ended before that was tried under another text."""


def unit_facts(fleet: Fleet, cells: Mapping[str, str], trial: OnTrial) -> tuple[UnitFacts, ...]:
    """Return the facts of every unit in `cells` (unit -> name of its cell), by name."""
    return tuple(_facts(fleet, unit, cells, trial) for unit in sorted(cells))


def _facts(fleet: Fleet, unit: str, cells: Mapping[str, str], trial: OnTrial) -> UnitFacts:
    row, assigned = fleet.row(unit), fleet.assigned(unit, cells[unit])
    report = row.report if row.pod is not None else None
    return UnitFacts(
        name=unit,
        cell=cells[unit],
        site=row.site,
        reachable=row.reachable,
        canary=row.node is not None and row.node.labels.get(LABEL_CANARY) == "true",
        assigned=assigned,
        serving=_serving(fleet, row, trial),
        answered=report is not None,
        is_confirmed=unit not in fleet.observed.unconfirmed,
        failure=_failure(fleet, row, trial) if assigned == trial.revision else None,
        fetching=_fetching(fleet, report, trial),
        **_prefetched(report, trial),
        waiting=_waiting(fleet, row, report, trial),
    )


def _fetching(fleet: Fleet, report: UnitReport | None, trial: OnTrial) -> Fetching | None:
    """Return how far the unit's download is; a time of its own clock is taken to ours."""
    progress = report.progress if report else None
    if report is None or progress is None or progress.revision != trial.revision:
        return None
    download = progress.download
    if download is None:
        return None
    now = fleet.observed.now
    age_s = None if download.moved_at is None else report.pod_now(now) - download.moved_at
    return Fetching(
        fetched=download.fetched_bytes,
        total=download.total_bytes,
        moved_at=None if age_s is None else now - timedelta(seconds=max(0.0, min(age_s, LONG_S))),
        bytes_per_s=download.bytes_per_s,
        is_under_way=progress.phase == SwapPhase.FETCHING,
    )


def _prefetched(report: UnitReport | None, trial: OnTrial) -> dict[str, Any]:
    """Return how far the unit is with the target's files before it is given it."""
    ahead = report.prefetch if report else None
    if ahead is None or ahead.revision != trial.revision:
        return {}
    return {"prefetched": ahead.is_done, "prefetch_note": ahead.message[:STATE_LIMIT]}


def _serving(fleet: Fleet, row: UnitRow, trial: OnTrial) -> str | None:
    """Return what the unit serves; a revision on trial counts only in a pod of its own template."""
    pod, report = row.pod, row.report
    if pod is None or report is None or report.serving is None:
        return None
    revision = report.serving.revision
    if revision == trial.revision and not trial.is_stable and not _is_at_home(fleet, pod, trial):
        return None
    return revision


def _is_at_home(fleet: Fleet, pod: Pod, trial: OnTrial) -> bool:
    """Tell whether the pod has the template of the revision on trial."""
    if pod.cell not in fleet.hardware or trial.revision not in fleet.snapshots:
        return False
    return fleet.suits(Berth(pod.cell, pod.template), trial.revision)


def _failure(fleet: Fleet, row: UnitRow, trial: OnTrial) -> str | None:
    """Return why the unit refuses the revision on trial: its own word, or a crash loop."""
    pod, report = row.pod, row.report
    if pod is None or not _is_at_home(fleet, pod, trial):
        return None
    retry = _given_retry(fleet, pod, trial)
    if retry is None:
        return None
    if report is not None:
        return _reported_failure(fleet, pod, report, replace(trial, retry=retry))
    return _crash_loop(pod, trial)


def _given_retry(fleet: Fleet, pod: Pod, trial: OnTrial) -> str | None:
    """Return the retry text that the cluster's assignment has; None: not that of the spec yet.

    What is stable is refused under whatever text the unit was given.
    """
    cell = fleet.cells.get(pod.cell)
    content = cell.assignment.revisions.get(trial.revision) if cell else None
    if content is None or not (trial.is_stable or content.retry == trial.retry):
        return None
    return content.retry


def _crash_loop(pod: Pod, trial: OnTrial) -> str | None:
    """Return what a pod that does not answer does, if it ends again and again on trial."""
    if pod.waiting_reason != _CRASH_LOOP or pod.restarts < _CRASH_LOOP_RESTARTS:
        return None
    if trial.since is not None and pod.ended_at is not None and pod.ended_at < trial.since:
        return None
    return crash_loop(pod)


def _reported_failure(fleet: Fleet, pod: Pod, report: UnitReport, trial: OnTrial) -> str | None:
    """Return why the pod refuses the revision under the retry text of `trial`."""
    if report.assigned != trial.revision:  # it has not read the assignment yet
        return None
    for failure in report.failures:
        if failure.revision == trial.revision and _is_under(failure.retry, report, trial):
            stale = _is_before_the_nudge(fleet, pod, report, failure.at)
            return None if stale else explained(failure, pod)
    progress = report.progress
    if progress is None or not _is_failed(report, trial):
        return None
    return f"{progress.reason or SwapPhase.FAILED}: {progress.message}"


def _is_under(retry: str | None, report: UnitReport, trial: OnTrial) -> bool:
    """Tell whether a failure was made under the trial's retry text.

    A runtime that does not say so keeps the failures of all texts; its progress is of the last.
    """
    if retry is not None:
        return retry == trial.retry
    return not trial.retry or _is_failed(report, trial)


def _is_failed(report: UnitReport, trial: OnTrial) -> bool:
    """Tell whether the pod says of its work on the revision that it failed."""
    progress = report.progress
    if progress is None or progress.revision != trial.revision:
        return False
    return progress.phase == SwapPhase.FAILED and progress.retry in (None, trial.retry)


def _is_before_the_nudge(fleet: Fleet, pod: Pod, report: UnitReport, at: float) -> bool:
    """Tell whether a failure is older than news that the pod has not read yet: a retry.

    Ages are compared, each by the clock of the side that measured it.
    """
    nudge = nudge_of(pod)
    if nudge is None or nudge.digest == report.assignment:
        return False
    return report.pod_now(fleet.observed.now) - at > nudge.age_s(fleet.observed.now)


def _waiting(fleet: Fleet, row: UnitRow, report: UnitReport | None, trial: OnTrial) -> str:
    """Return what the unit is doing about the revision, for people."""
    pod = row.pod
    if pod is None:
        return pod_missing(fleet, row.unit)
    if report is None:
        return pod_silent(fleet, pod)
    if _needs_another_pod(fleet, pod, trial):
        limit = fleet.observed.deployment.spec.rollout.max_unavailable
        return f"needs a new pod, in its turn (maxUnavailable {limit} at its site)"
    if report.assignment_error:
        return f"assignment not readable: {report.assignment_error}"
    progress = report.progress
    if progress is None or progress.revision != trial.revision:
        return ""
    return f"{progress.phase}: {progress.message}" if progress.message else str(progress.phase)


def _needs_another_pod(fleet: Fleet, pod: Pod, trial: OnTrial) -> bool:
    """Tell whether the revision on trial cannot come into the pod; on the way back none is to."""
    is_going_back = fleet.observed.deployment.status.rollout.stage is Stage.ROLLING_BACK
    return not (trial.is_stable or is_going_back or _is_at_home(fleet, pod, trial))
