"""What the rollout engine is told about each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import LABEL_CANARY, Reason
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import nudge_of
from skerry_operator.decide.fleet.row import UnitRow
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import UnitReport
from skerry_runtime.contract import SwapPhase

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
        waiting=_waiting(fleet, row.pod, report, trial),
    )


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
    return pod.template == fleet.berth(trial.revision, pod.cell).template


def _failure(fleet: Fleet, row: UnitRow, trial: OnTrial) -> str | None:
    """Return why the unit refuses the revision on trial: its own word, or a crash loop."""
    pod, report = row.pod, row.report
    if (
        pod is None
        or not _is_at_home(fleet, pod, trial)
        or not _is_current_retry(fleet, pod, trial)
    ):
        return None
    if report is not None:
        return _reported_failure(fleet, pod, report, trial)
    if pod.waiting_reason == _CRASH_LOOP and pod.restarts >= _CRASH_LOOP_RESTARTS:
        return f"{Reason.CRASH_LOOP}: {pod.restarts} restarts; {pod.waiting_message}".rstrip("; ")
    return None


def _is_current_retry(fleet: Fleet, pod: Pod, trial: OnTrial) -> bool:
    """Tell whether the cluster's assignment carries the retry text of the spec already."""
    cell = fleet.cells.get(pod.cell)
    content = cell.assignment.revisions.get(trial.revision) if cell else None
    return content is not None and (trial.is_stable or content.retry == trial.retry)


def _reported_failure(fleet: Fleet, pod: Pod, report: UnitReport, trial: OnTrial) -> str | None:
    if report.assigned != trial.revision:  # it has not read the assignment yet
        return None
    progress = report.progress
    for failure in report.failures:
        if failure.revision == trial.revision:
            stale = _is_before_the_nudge(fleet, pod, report, failure.at)
            return None if stale else f"{failure.reason}: {failure.message}"
    if progress and progress.revision == trial.revision and progress.phase == SwapPhase.FAILED:
        return f"{progress.reason or SwapPhase.FAILED}: {progress.message}"
    return None


def _is_before_the_nudge(fleet: Fleet, pod: Pod, report: UnitReport, at: float) -> bool:
    """Tell whether a failure is older than news that the pod has not read yet: a retry.

    Ages are compared, each by the clock of the side that measured it.
    """
    nudge = nudge_of(pod)
    if nudge is None or nudge.digest == report.assignment:
        return False
    return report.pod_now(fleet.observed.now) - at > nudge.age_s(fleet.observed.now)


def _waiting(fleet: Fleet, pod: Pod | None, report: UnitReport | None, trial: OnTrial) -> str:
    """Return what the unit is doing about the revision, for people."""
    if pod is None:
        return "no pod yet"
    if report is None:
        return fleet.observed.refused_reports.get(pod.unit) or _pod_waiting(pod)
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


def _pod_waiting(pod: Pod) -> str:
    if not pod.waiting_reason:
        return "pod does not answer" if pod.ready else "pod is starting"
    text = f"{pod.waiting_reason}: {pod.waiting_message}"
    return text.rstrip(": ")
