"""Which DaemonSet each unit's pod comes from, and which revision it is given.

A unit whose next pod template is its current one changes in place. Another is moved from one
DaemonSet's node list to the other's, within maxUnavailable per site; until its turn comes it
keeps its pod, and with it the revision that fits the pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.placement.variants import variant_of


@dataclass(frozen=True)
class Intent:
    """What the engine wants, for every unit of every placement."""

    desired: Mapping[str, str | None]
    stable: str | None
    """Or, where nothing is stable, what serves without it."""
    newest: str
    """Revision whose pods wait where none is given yet."""
    placements: Mapping[str, PlacementResult]
    """Revision -> its placement."""


@dataclass(frozen=True)
class Seat:
    """A unit's next pod and revision."""

    unit: str
    berth: Berth
    given: str | None
    is_held: bool = False
    """True: its pod must be replaced, and its turn has not come."""


def seat_units(fleet: Fleet, intent: Intent) -> tuple[Seat, ...]:
    """Seat every unit, by name; those that need another pod move in turn."""
    wishes = [
        seat for unit in sorted(intent.desired) if (seat := _wish(fleet, intent, unit)) is not None
    ]
    busy = _busy_by_site(fleet, wishes)
    return tuple(_settle(fleet, intent, wish, busy) for wish in wishes)


def gives_up_its_pod(fleet: Fleet, seat: Seat) -> bool:
    """Tell whether the seat takes a serving pod from its unit, so that another can come."""
    return not seat.is_held and _must_move(fleet, seat) and _is_serving(fleet, seat)


def can_run(fleet: Fleet, revision: str | None, cell: str) -> bool:
    """Tell whether a revision has a variant for a cell, or the cell's file knows it already."""
    snapshot, hardware = fleet.snapshots.get(revision or ""), fleet.hardware.get(cell)
    if snapshot is None:
        return revision in fleet.known_contents(cell)
    return bool(hardware and variant_of(hardware, snapshot.model.variants, snapshot.runtime.engine))


def _wish(fleet: Fleet, intent: Intent, unit: str) -> Seat | None:
    """Return where the unit ought to be, whatever its turn; a pod is made for a model only."""
    given, listed = intent.desired[unit], fleet.row(unit).berths
    if listed and given and given not in fleet.snapshots:  # lost: what runs is all there is
        return Seat(unit, listed[0], _runnable(fleet, given, listed[0].cell))
    for revision in (given, intent.newest):
        placement = intent.placements.get(revision or "")
        cell = placement.cell_of.get(unit) if placement else None
        if revision is not None and cell is not None:
            runnable = _runnable(fleet, given, cell)
            is_needed = runnable is not None or listed
            return (
                Seat(unit, fleet.berth_for(unit, revision, cell), runnable) if is_needed else None
            )
    return None


def _runnable(fleet: Fleet, revision: str | None, cell: str) -> str | None:
    return revision if can_run(fleet, revision, cell) else None


def _must_move(fleet: Fleet, seat: Seat) -> bool:
    listed = fleet.row(seat.unit).berths
    return bool(listed) and seat.berth not in listed


def _is_serving(fleet: Fleet, seat: Seat) -> bool:
    row = fleet.row(seat.unit)
    return row.serves_from(row.berths if _must_move(fleet, seat) else (seat.berth,))


def _busy_by_site(fleet: Fleet, wishes: Iterable[Seat]) -> Counter[str]:
    """Count the reachable units of each site that do not serve; replicas share one budget."""
    return Counter(
        _budget(fleet, seat.unit)
        for seat in wishes
        if fleet.row(seat.unit).reachable and not _is_serving(fleet, seat)
    )


def _budget(fleet: Fleet, unit: str) -> str:
    """Return whose maxUnavailable the unit counts for: a replica may come up at another site."""
    return fleet.row(unit).site if fleet.is_per_node else ""


def _settle(fleet: Fleet, intent: Intent, wish: Seat, busy: Counter[str]) -> Seat:
    """Let the unit move when that costs nothing or its turn has come; counts it in `busy`."""
    if not _must_move(fleet, wish) or not fleet.row(wish.unit).reachable:
        return wish
    if not _is_serving(fleet, wish):  # nothing to lose, and perhaps a way back
        return wish
    site = _budget(fleet, wish.unit)
    if busy[site] < fleet.observed.deployment.spec.rollout.max_unavailable:
        busy[site] += 1
        return wish
    return _held(fleet, intent, wish)


def _held(fleet: Fleet, intent: Intent, wish: Seat) -> Seat:
    """Keep the unit's pod. Stable may come into it at once: that is how a rollback is fast."""
    berth = fleet.row(wish.unit).berths[0]
    if berth.cell not in fleet.hardware:  # its profile is gone: nothing left to render
        return wish
    given = wish.given if wish.given == intent.stable else fleet.row(wish.unit).assigned
    return Seat(wish.unit, berth, _runnable(fleet, given, berth.cell), is_held=True)
