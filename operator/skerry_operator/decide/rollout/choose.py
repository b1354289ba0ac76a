"""Chooses the units of a step: evenly over cells and sites, canaries first, nobody displaced."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from skerry_operator.api.quantity import share_of
from skerry_operator.decide.facts import UnitFacts


@dataclass(frozen=True)
class _Rank:
    """A unit's place in its cell's queue."""

    unit: UnitFacts
    place: int
    """0 for the first of the cell."""
    fraction: float
    """place / units of the cell: how much of the cell is taken before this one."""


def choose(units: Iterable[UnitFacts], text: str, target: str) -> frozenset[str]:
    """Return the names of the units that a step of `text` (count or percent) gives the target.

    With R reachable units the step wants n = share_of(text, R) of them. A count is literal; a
    percentage is also at least one of each cell, so that every kind of hardware is tried. Who
    holds the target already stays, offline or not. The rest is filled from one queue: canaries
    first, within a cell evenly over sites; over cells, by place / cell size, so that at every n
    each cell is taken to about the same share. Offline units are neither counted nor picked.

    Example: cells a (8 units) and b (2 units), none holds the target:
        "1"   -> n = 1 -> 1 of a
        "10%" -> n = 1 -> 1 of a, 1 of b
        "50%" -> n = 5 -> 4 of a, 1 of b
        "75%" -> n = 8 -> 6 of a, 2 of b
    """
    everyone = tuple(units)
    reachable = [unit for unit in everyone if unit.reachable]
    wanted = share_of(text, len(reachable))
    chosen = {unit.name for unit in everyone if unit.assigned == target}
    count = sum(unit.name in chosen for unit in reachable)
    for rank in _queue(reachable, target):
        is_due = count < wanted or (rank.place == 0 and covers_cells(text))
        if rank.unit.name not in chosen and is_due:
            chosen.add(rank.unit.name)
            count += 1
    return frozenset(chosen)


def covers_cells(text: str) -> bool:
    """Tell whether a step of `text` takes a unit of every cell: a percentage does."""
    return text.endswith("%")


def uncovered_cells(units: Iterable[UnitFacts], chosen: frozenset[str]) -> frozenset[str]:
    """Return the cells that have reachable units, none of them chosen."""
    reachable = [unit for unit in units if unit.reachable]
    covered = {unit.cell for unit in reachable if unit.name in chosen}
    return frozenset({unit.cell for unit in reachable} - covered)


def _queue(units: Iterable[UnitFacts], target: str) -> list[_Rank]:
    """Return all units in the order in which they would be picked over all cells."""
    cells: defaultdict[str, list[UnitFacts]] = defaultdict(list)
    for unit in units:
        cells[unit.cell].append(unit)
    ranks = [
        _Rank(unit, place, place / len(members))
        for members in cells.values()
        for place, unit in enumerate(_cell_queue(members, target))
    ]
    return sorted(
        ranks, key=lambda rank: (*_first(rank.unit, target), rank.fraction, rank.unit.cell)
    )


def _cell_queue(members: list[UnitFacts], target: str) -> list[UnitFacts]:
    """Return a cell's units in order: holders, canaries, then by share of the site that is taken.

    Example: site x has units 1 2 3 4, site y has 5 6 (in order of hash): 1 5 2 3 6 4, because
    the shares are 0, 1/4, 2/4, 3/4 in x and 0, 1/2 in y.
    """
    sites: defaultdict[str, list[UnitFacts]] = defaultdict(list)
    for unit in sorted(members, key=lambda unit: (*_first(unit, target), _hash(unit.name))):
        sites[unit.site].append(unit)
    shares = {
        unit.name: place / len(site) for site in sites.values() for place, unit in enumerate(site)
    }
    return sorted(
        members,
        key=lambda unit: (*_first(unit, target), shares[unit.name], _hash(unit.name)),
    )


def _first(unit: UnitFacts, target: str) -> tuple[bool, bool]:
    """Return the sort key that puts holders of the target first, then canaries."""
    return unit.assigned != target, not unit.canary


def _hash(name: str) -> str:
    """Return the stable random order of a name: equal in every operator and every version."""
    return hashlib.sha256(name.encode()).hexdigest()
