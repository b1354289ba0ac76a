"""Which pods are told that their assignment changed.

A kubelet refreshes a mounted ConfigMap up to a minute late, and at once when its pod is patched.
Only pods whose own share of the file changed are patched, so a step over ten units of a
thousand is ten patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.fleet.seating import Seat
from skerry_operator.decide.observed import ObservedCell, Pod
from skerry_operator.decide.planned import Nudge
from skerry_runtime.contract import Assignment, RevisionContent, StatusReport

RENUDGE_S = 2.0
"""A kubelet that answered a nudge with a stale file is asked again after this time."""


@dataclass(frozen=True)
class PastNudge:
    """The value of a pod's nudge annotation: `<digest>.<unix seconds>`."""

    digest: str
    at_s: float

    def age_s(self, now: datetime) -> float:
        """Return how long ago the pod was nudged."""
        return now.timestamp() - self.at_s


def nudge_of(pod: Pod) -> PastNudge | None:
    """Read a pod's nudge annotation; None when it has none, or none of ours."""
    digest, _, seconds = pod.nudge.partition(".")
    return PastNudge(digest, float(seconds)) if seconds.isdecimal() else None


def nudges(
    fleet: Fleet, seats: Iterable[Seat], next_cells: Mapping[str, ObservedCell]
) -> tuple[Nudge, ...]:
    """Return the patches for the pods that must read their next assignment."""
    now_s = int(fleet.observed.now.timestamp())
    return tuple(
        Nudge(pod.name, seat.given or "", f"{next_cells[pod.cell].digest}.{now_s}")
        for seat in seats
        if (pod := _pod_in(fleet, seat)) and _is_due(fleet, seat, pod, next_cells[pod.cell])
    )


def _pod_in(fleet: Fleet, seat: Seat) -> Pod | None:
    """Return the unit's pod, unless nobody can reach it or another replaces it."""
    row = fleet.row(seat.unit)
    pod = row.pod
    if pod is None or not row.reachable:
        return None
    return pod if Berth(pod.cell, pod.template) == seat.berth else None


def _is_due(fleet: Fleet, seat: Seat, pod: Pod, next_cell: ObservedCell) -> bool:
    if pod.revision_label != (seat.given or ""):
        return True
    if _share_changes(fleet.cells.get(pod.cell), next_cell, seat.unit):
        return True
    report = fleet.row(seat.unit).report
    return report is not None and _missed_it(fleet, pod, report, next_cell)


def _share_changes(current: ObservedCell | None, next_cell: ObservedCell, unit: str) -> bool:
    if current is None:
        return False  # the pod cannot have started without the file
    return _share(current.assignment, unit) != _share(next_cell.assignment, unit)


def _share(assignment: Assignment, unit: str) -> tuple[str | None, RevisionContent | None]:
    revision = assignment.revision_of(unit)
    return revision, assignment.revisions.get(revision or "")


def _missed_it(fleet: Fleet, pod: Pod, report: StatusReport, next_cell: ObservedCell) -> bool:
    """Tell whether a pod was told a while ago and still has not read its file.

    One that refuses what it was given may have been told to try again: same revision, new text.
    """
    past = nudge_of(pod)
    if past is None or past.age_s(fleet.observed.now) < RENUDGE_S:
        return False
    given = next_cell.assignment.revision_of(report.unit)
    if report.assigned != given:
        return True
    is_unread = past.digest == next_cell.digest and report.assignment != next_cell.digest
    return is_unread and any(failure.revision == given for failure in report.failures)
