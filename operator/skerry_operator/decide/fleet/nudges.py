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
from skerry_runtime.contract import Assignment, RevisionContent

TOLD_PER_S = 30.0
"""Pods that are patched in a second at least: so much later than the first is the last of many
told, and has its time from then on."""
RENUDGE_S = 2.0
"""A kubelet that answered a nudge with a stale file is asked again after this time."""
LONGEST_NUMBER = 15
"""Digits of a number in an annotation, which anybody may have written."""
RENUDGE_LONGEST_S = 300.0
"""Longest time to that: each nudge that changed nothing doubles it."""


@dataclass(frozen=True)
class PastNudge:
    """The value of a pod's nudge annotation: `<digest>.<unix seconds>[.<how often in vain>]`."""

    digest: str
    at_s: float
    in_vain: int = 0
    """Nudges before this one that the pod did not follow."""

    def age_s(self, now: datetime) -> float:
        """Return how long ago the pod was nudged."""
        return now.timestamp() - self.at_s

    @property
    def patience_s(self) -> float:
        """Return how long to wait before the pod is nudged again: 2, 4, 8 ... 300 s."""
        return min(RENUDGE_LONGEST_S, RENUDGE_S * 2.0 ** min(self.in_vain, 16))


def nudge_of(pod: Pod) -> PastNudge | None:
    """Read a pod's nudge annotation; None when it has none, or none of ours."""
    digest, seconds, in_vain, *_ = (*pod.nudge.split("."), "", "", "")
    if not (seconds.isdecimal() and len(seconds) <= LONGEST_NUMBER):
        return None
    count = int(in_vain) if in_vain.isdecimal() and len(in_vain) <= LONGEST_NUMBER else 0
    return PastNudge(digest, float(seconds), count)


def nudges(
    fleet: Fleet, seats: Iterable[Seat], next_cells: Mapping[str, ObservedCell]
) -> tuple[Nudge, ...]:
    """Return the patches for the pods that must read their next assignment."""
    now_s = fleet.observed.now.timestamp()
    told = [
        (seat, pod, again)
        for seat in seats
        if (pod := _pod_in(fleet, seat))
        if (again := _why(fleet, seat, pod, next_cells[pod.cell])) is not None
    ]
    return tuple(
        Nudge(
            pod.name,
            seat.given or "",
            f"{next_cells[pod.cell].digest}.{round(now_s + place / TOLD_PER_S)}{again}",
        )
        for place, (seat, pod, again) in enumerate(told)
    )


def renudge_in_s(
    fleet: Fleet, seats: Iterable[Seat], next_cells: Mapping[str, ObservedCell]
) -> float | None:
    """Return when the next pod that has not read its file is told again; None: all have."""
    now = fleet.observed.now
    waits = [
        max(0.0, past.patience_s - past.age_s(now))
        for seat in seats
        if (pod := _pod_in(fleet, seat)) and (past := nudge_of(pod))
        if _has_missed_it(fleet, seat, past, next_cells[pod.cell])
    ]
    return min(waits, default=None)


def _pod_in(fleet: Fleet, seat: Seat) -> Pod | None:
    """Return the unit's pod, unless nobody can reach it or another replaces it."""
    row = fleet.row(seat.unit)
    pod = row.pod
    if pod is None or not row.reachable:
        return None
    return pod if Berth(pod.cell, pod.template) == seat.berth else None


def _why(fleet: Fleet, seat: Seat, pod: Pod, next_cell: ObservedCell) -> str | None:
    """Return what the annotation counts: nothing for news, else how often in vain; None: no need.

    News that comes while a kubelet does not follow is told at once, and starts the count anew.
    """
    if pod.revision_label != (seat.given or ""):
        return ""
    if _share_changes(fleet, fleet.cells.get(pod.cell), next_cell, seat.unit):
        return ""
    past = nudge_of(pod)
    if past is None or past.age_s(fleet.observed.now) < past.patience_s:
        return None
    return f".{past.in_vain + 1}" if _has_missed_it(fleet, seat, past, next_cell) else None


def _share_changes(
    fleet: Fleet, current: ObservedCell | None, next_cell: ObservedCell, unit: str
) -> bool:
    if current is None:
        return False  # the pod cannot have started without the file
    before, after = _share(current.assignment, unit), _share(next_cell.assignment, unit)
    if before != after and _serves(fleet, unit, after[0]):
        return _untried(before) != _untried(after)  # it has nothing to try again, or to fetch
    return before != after


Share = tuple[str | None, RevisionContent | None, bool]


def _share(assignment: Assignment, unit: str) -> Share:
    """Return what a unit is given, and whether it may not fetch it now."""
    revision = assignment.revision_of(unit)
    rules = assignment.download
    is_shut = rules is not None and revision in rules.shut
    return revision, assignment.revisions.get(revision or ""), is_shut


def _untried(share: Share) -> Share:
    """Return the share as it reads but for the retry text and the line."""
    revision, content, _ = share
    return revision, content and content.model_copy(update={"retry": ""}), False


def _serves(fleet: Fleet, unit: str, revision: str | None) -> bool:
    report = fleet.row(unit).report
    return bool(report and report.serving and report.serving.revision == revision)


def _has_missed_it(fleet: Fleet, seat: Seat, past: PastNudge, next_cell: ObservedCell) -> bool:
    """Tell whether a pod that was told, and answers, still has not read its file.

    One that refuses what it was given may have been told to try again: same revision, new text.
    """
    report = fleet.row(seat.unit).report
    if report is None:
        return False
    given = next_cell.assignment.revision_of(seat.unit)
    if report.assigned != given:
        return True
    is_unread = past.digest == next_cell.digest and report.assignment != next_cell.digest
    return is_unread and any(failure.revision == given for failure in report.failures)
