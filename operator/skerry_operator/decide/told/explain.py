"""What people are told about placement: the condition Placed, and events when something changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.constants import Reason, RejectReason
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.seating import Seat
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.planned import EventNote
from skerry_operator.decide.rollout.look import Finding
from skerry_operator.decide.rollout.naming import some
from skerry_operator.decide.rollout.state import clip

NOBODY_SELECTED = "no node has the labels of spec.placement.nodeSelector"

_EVERYDAY = frozenset({RejectReason.NODE_OFFLINE, RejectReason.NODE_UNSCHEDULABLE})
"""Reasons that nodes have by themselves, and lose again: worth a line in the status, no event."""


def is_all_placed(placement: PlacementResult) -> bool:
    """Tell whether every matching node, or every replica, has its hardware."""
    return bool(placement.cells) and not placement.unplaced and not _gaps(placement)


def placed_finding(placement: PlacementResult) -> Finding:
    """Return reason and message of the condition Placed."""
    placed = len(placement.cell_of)
    if is_all_placed(placement):
        text = f"all {placed} units have their hardware"
        unused = some([_told(one) for one in placement.passed_over])
        return Finding(Reason.PLACED, f"{text}; not used: {unused}" if unused else text)
    if placement.unplaced:
        return Finding(Reason.INSUFFICIENT_CAPACITY, shortage(placement))
    rejected = placement.rejected
    if not rejected:
        return Finding(Reason.NO_ELIGIBLE_NODES, NOBODY_SELECTED)
    counts = Counter(one.reason for one in rejected)
    tally = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    text = f"{len(rejected)} of {placed + len(rejected)} matching nodes have no unit ({tally})"
    reason = Reason.NODES_REJECTED if placed else Reason.NO_ELIGIBLE_NODES
    return Finding(reason, f"{text}: {some([_told(one) for one in rejected])}")


def shortage(placement: PlacementResult) -> str:
    """Return how many replicas have no hardware, and what would help."""
    placed, missing = len(placement.cell_of), placement.unplaced
    text = (
        f"{placed} of {placed + missing} replicas have hardware, no free device is left: add "
        "nodes, or entries to spec.placement.accelerators, or ask for fewer replicas"
    )
    why = some([_told(one) for one in placement.rejected])
    return f"{text}; {why}" if why else text


def placement_events(
    fleet: Fleet,
    placement: PlacementResult,
    rejected: Iterable[RejectedNode],
    seats: Iterable[Seat],
) -> Iterator[EventNote]:
    """Yield what changed since the last status: each change is told once."""
    if fresh := _newly_rejected(fleet, rejected):
        yield EventNote(True, Reason.NODE_REJECTED, clip(some([_told(one) for one in fresh])))
    before = {lost.node for lost in fleet.observed.deployment.status.lost_hardware}
    if lost := sorted(set(placement.lost) - before):
        yield EventNote(True, Reason.HARDWARE_LOST, clip(f"{some(lost)}: {_grace(fleet)}"))
    back = before - set(placement.lost)
    returned = sorted(unit for unit in back if _is_where_it_was(fleet, placement, unit))
    if returned:
        text = f"{some(returned)}: the accelerator is allocatable again"
        yield EventNote(False, Reason.HARDWARE_RETURNED, clip(text))
    if moved := [move for seat in seats if (move := _move(fleet, seat))]:
        yield EventNote(False, Reason.UNIT_MOVED, clip(some(moved)))


def _gaps(placement: PlacementResult) -> tuple[RejectedNode, ...]:
    """Return the rejected nodes that leave a gap: with replicas none does, while all are placed."""
    return () if placement.counts_replicas else placement.rejected


def _told(one: RejectedNode) -> str:
    return f"{one.node}: {one.reason}: {one.message}"


def _newly_rejected(fleet: Fleet, rejected: Iterable[RejectedNode]) -> list[RejectedNode]:
    """Return the nodes in the list of the status that were not in it, or for another reason."""
    status = fleet.observed.deployment.status
    told = {one.node: one.reason for one in status.rejected_nodes}
    if status.rejected_count > len(told):  # more than fit: who was told of what is not on record
        return []
    return [
        one for one in rejected if one.reason not in _EVERYDAY and told.get(one.node) != one.reason
    ]


def _grace(fleet: Fleet) -> str:
    return (
        f"the accelerator is not allocatable: the unit stays for {fleet.grace_s:g} s, as the "
        "device plugin may only be restarting, and then takes other hardware if it may"
    )


def _is_where_it_was(fleet: Fleet, placement: PlacementResult, unit: str) -> bool:
    cell = placement.cell_of.get(unit)
    return cell is not None and cell == fleet.listed_cells.get(unit)


def _move(fleet: Fleet, seat: Seat) -> str | None:
    before = fleet.listed_cells.get(seat.unit)
    if before is None or before == seat.berth.cell:
        return None
    return f"{seat.unit} moves from {before} to {seat.berth.cell}"
