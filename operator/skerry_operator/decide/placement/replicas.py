"""Replicas: a number of units on the best hardware first.

Here only the cell of a unit is decided; the scheduler chooses the node. Free devices are those that
no pod of another EdgeDeployment holds; pods that Skerry does not know show themselves when a unit
finds no place, and then it takes the next entry of the preference. A unit goes back up only when a
rollout replaces what it runs anyway.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from skerry_operator.decide.names import unit_name
from skerry_operator.decide.placement.fitting import (
    Fit,
    Incumbents,
    Unfit,
    Wish,
    admission,
    fit,
    free_units,
    profiles_of,
)
from skerry_operator.decide.placement.hardware import Hardware, hardware_of
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.variants import variant_of


@dataclass(frozen=True)
class Offer:
    """What all usable nodes together offer in one cell."""

    seat: Fit
    rank: int
    """Place of the entry in the preference, 0 the best."""
    free: float
    """Units that it has devices for; inf: any number."""
    nodes: int

    def left(self, used: int) -> float:
        """Return how much is left: devices, or where those are not counted, nodes not yet used."""
        return (self.nodes if math.isinf(self.free) else self.free) - used

    def has_room(self, used: int) -> bool:
        """Tell whether one more unit could run."""
        return math.isinf(self.free) or self.free - used >= 1


@dataclass(frozen=True)
class Capacity:
    """The offers of all cells, and every cell that could be."""

    offers: Mapping[str, Offer]
    hardware: Mapping[str, Hardware]

    @classmethod
    def of(cls, nodes: Iterable[Node], wish: Wish, incumbents: Incumbents) -> Capacity:
        """Add up what the nodes offer; with fallback forbidden, for the first entry only.

        A node that takes nothing new (cordoned, out of reach) offers nothing, and its units stay.
        """
        fresh = Incumbents(incumbents.now, taken=incumbents.taken)
        known = tuple(nodes)
        offers: dict[str, Offer] = {}
        for node in known:
            if admission(node, wish, is_placed=False):
                continue
            for rank, entry in enumerate(wish.allowed_entries):
                for offer in _offers(node, rank, entry, wish, fresh):
                    cell = offer.seat.hardware.cell
                    offers[cell] = _sum(offers[cell], offer) if cell in offers else offer
        archs = {node.arch for node in known}
        choices = len(wish.variants)
        return cls(offers, hardware_of(wish.deployment, wish.profiles, archs, choices))


def seat_replicas(room: Capacity, wish: Wish, incumbents: Incumbents) -> dict[str, Fit | None]:
    """Return the seat of every unit; None where no hardware is left.

    Who has a seat keeps it. Then, in order of their numbers, those without one, those whose pod
    finds no place and those that may climb take the best that is left.
    """
    count = 1 if wish.placement.replicas is None else wish.placement.replicas
    units = [unit_name(wish.deployment, index) for index in range(count)]
    seats = {unit: _current(unit, room, wish, incumbents) for unit in units}
    used = Counter(seat.hardware.cell for seat in seats.values() if seat is not None)
    for unit in units:
        seat = _next(unit, seats[unit], room, used, incumbents)
        if seat is not None:
            if (before := seats[unit]) is not None:
                used[before.hardware.cell] -= 1
            used[seat.hardware.cell] += 1
            seats[unit] = seat
    return seats


def _offers(
    node: Node, rank: int, entry: str, wish: Wish, incumbents: Incumbents
) -> Iterable[Offer]:
    for profile in profiles_of(entry, wish.profiles):
        seat = fit(node, profile, wish, incumbents)
        if not isinstance(seat, Unfit):
            free = free_units(node, profile, seat.hardware.resource, incumbents)
            yield Offer(seat, rank, free, nodes=1)


def _sum(one: Offer, other: Offer) -> Offer:
    """Add two offers for one cell; a node that both entries name counts for the better one."""
    if other.rank != one.rank:
        return one
    return replace(one, free=one.free + other.free, nodes=one.nodes + other.nodes)


def _current(unit: str, room: Capacity, wish: Wish, incumbents: Incumbents) -> Fit | None:
    """Return the seat that the unit has, also while its hardware is missing."""
    cell = incumbents.cells.get(unit, "")
    if offer := room.offers.get(cell):
        # back, and the scheduler has not given it to the pod that waits for it yet
        is_due = unit in incumbents.lost and unit in incumbents.waiting
        return replace(offer.seat, lost_since=incumbents.lost[unit]) if is_due else offer.seat
    hardware = room.hardware.get(cell)
    if hardware is None or _rank(hardware, wish) is None:
        return None
    variant = variant_of(hardware, wish.variants, wish.engine)
    since = incumbents.lost.get(unit, incumbents.now)
    return None if variant is None else Fit(hardware, variant, since)


def _rank(hardware: Hardware, wish: Wish) -> int | None:
    """Return the place of the hardware in the preference; None: the spec does not want it."""
    ranks = (
        rank
        for rank, entry in enumerate(wish.allowed_entries)
        if hardware.profile in profiles_of(entry, wish.profiles)
    )
    return next(ranks, None)


def _next(
    unit: str, seat: Fit | None, room: Capacity, used: Counter[str], incumbents: Incumbents
) -> Fit | None:
    """Return a seat that the unit should take instead of its own; None: it stays."""
    if seat is None:
        return _best(room.offers.values(), used)
    is_lost = seat.lost_since is not None
    # what may only be late is waited for; what is there and taken is not
    if (is_lost and not incumbents.stays(unit)) or (not is_lost and unit in incumbents.spilled):
        others = (one for one in room.offers.values() if one.seat.hardware != seat.hardware)
        return _best(others, used)
    own = room.offers.get(seat.hardware.cell)
    if own is None or unit not in incumbents.climbing:
        return None
    return _best((one for one in room.offers.values() if one.rank < own.rank), used)


def _best(offers: Iterable[Offer], used: Counter[str]) -> Fit | None:
    """Return the seat of the best entry that has room; of equals the cell with the most left."""
    free = [one for one in offers if one.has_room(used[one.seat.hardware.cell])]
    if not free:
        return None
    return min(free, key=lambda one: (one.rank, -one.left(used[one.seat.hardware.cell]))).seat
