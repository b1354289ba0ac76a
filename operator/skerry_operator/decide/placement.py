"""Placement: nodes and hardware in, cells and rejected nodes out.

A node fits a profile when its extended resource is allocatable (the proof that a pod can get
one) or, for a profile without a resource, when a label alternative matches. PerNode looks at one
node alone, so a node that comes or goes never moves another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from skerry_operator.api.v1alpha1.edgedeployment import Placement, PlacementMode
from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import DEFAULT_PREFERENCE, Profile
from skerry_operator.constants import RejectReason
from skerry_operator.decide.fitting import (
    DEFAULT_GRACE_S,
    NODE,
    Incumbents,
    Refusal,
    Seat,
    Wish,
    admission,
    closest,
    fit,
    no_profile,
    profiles_of,
)
from skerry_operator.decide.hardware import Hardware, has_labels
from skerry_operator.decide.kinds import kind_of, traits_of
from skerry_operator.decide.observed import Node
from skerry_operator.decide.replicas import Room, seat_replicas

__all__ = [
    "DEFAULT_GRACE_S",
    "Cell",
    "Incumbents",
    "PlacementResult",
    "Wish",
    "accelerator_problem",
    "place",
    "replicas_problem",
]

_MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class Cell:
    """Units that share their hardware; they get one variant and one pod template."""

    hardware: Hardware
    variant: Variant
    units: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the cell's name."""
        return self.hardware.cell


@dataclass(frozen=True)
class PlacementResult:
    """Where the units are, and why the other nodes have none."""

    cells: tuple[Cell, ...] = ()
    rejected: tuple[RejectedNode, ...] = ()
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Unit -> since when it is placed without its hardware."""
    unplaced: int = 0
    """Replicas for which no hardware is left."""
    counts_replicas: bool = False
    """The units are replicas: a node that is rejected leaves no gap by itself."""

    @cached_property
    def cell_of(self) -> dict[str, str]:
        """Return the name of every unit's cell."""
        return {unit: cell.name for cell in self.cells for unit in cell.units}


def place(nodes: Iterable[Node], wish: Wish, incumbents: Incumbents) -> PlacementResult:
    """Give every node that matches the selector a cell, or a reason why it has none.

    With Replicas, as many units as are asked for get cells; a node that could take none of them
    has a reason.
    """
    selector = wish.placement.node_selector
    selected = [node for node in nodes if has_labels(node, selector)] if selector else list(nodes)
    if wish.placement.mode is PlacementMode.REPLICAS:
        return _place_replicas(selected, wish, incumbents)
    return _place_per_node(selected, wish, incumbents)


def accelerator_problem(placement: Placement, profiles: Iterable[Profile]) -> str | None:
    """Return what is wrong with `accelerators`, naming the field, the value and the known ones."""
    known = [*DEFAULT_PREFERENCE, *sorted(profile.name for profile in profiles)]
    known = list(dict.fromkeys(str(name) for name in known))
    entries = placement.accelerators
    if unknown := [entry for entry in entries if entry not in known]:
        named = ", ".join(repr(entry) for entry in unknown)
        return (
            f"spec.placement.accelerators names {named}, which is no class and no profile. "
            f"Known: {', '.join(known)}. Correct the entry, or add a profile with the chart value "
            "`accelerators`."
        )
    if repeated := sorted({entry for entry in entries if entries.count(entry) > 1}):
        return f"spec.placement.accelerators names {repeated[0]!r} twice: remove one"
    return None


def replicas_problem(placement: Placement) -> str | None:
    """Return what is wrong with `replicas`."""
    if placement.mode is PlacementMode.PER_NODE and placement.replicas is not None:
        return (
            f"spec.placement.replicas is {placement.replicas} with mode PerNode, which has one "
            "unit on every matching node: remove it, or set mode: Replicas"
        )
    if placement.replicas == 0:
        return (
            "spec.placement.replicas is 0, so nothing would serve: write 1 or more, or delete the "
            "EdgeDeployment. Pods that run go on serving."
        )
    return None


def _place_per_node(nodes: list[Node], wish: Wish, incumbents: Incumbents) -> PlacementResult:
    judge = _Judge(wish, incumbents)
    verdicts = {node.name: judge(node) for node in nodes}
    seats = {name: seat for name, seat in verdicts.items() if isinstance(seat, Seat)}
    return PlacementResult(
        cells=_cells(seats),
        rejected=_rejected(verdicts),
        lost={name: seat.lost_since for name, seat in sorted(seats.items()) if seat.lost_since},
    )


class _Judge:
    """Judges nodes, those of one kind and history once."""

    def __init__(self, wish: Wish, incumbents: Incumbents) -> None:
        self._wish = wish
        self._incumbents = incumbents
        self._traits = traits_of(wish.profiles)
        self._known: dict[Hashable, Seat | Refusal] = {}
        self._counts_memory = any(variant.memory for variant in wish.variants)

    def __call__(self, node: Node) -> Seat | Refusal:
        key = self._key(node)
        verdict = self._known.get(key)
        if verdict is None:
            verdict = self._known[key] = _judge(node, self._wish, self._incumbents)
        return verdict

    def _key(self, node: Node) -> Hashable:
        """Return all that the verdict on a node depends on."""
        name, known = node.name, self._incumbents
        taken = known.taken.get(name)
        return (
            kind_of(node, self._traits),
            known.cells.get(name),
            known.lost.get(name),
            name in known.waiting,
            tuple(sorted(taken.items())) if taken else None,
            node.allocatable.get("memory") if self._counts_memory else None,
        )


def _judge(node: Node, wish: Wish, incumbents: Incumbents) -> Seat | Refusal:
    refusal = admission(node, wish, is_placed=node.name in incumbents.cells)
    return refusal or _walk(node, wish, incumbents)


def _walk(node: Node, wish: Wish, incumbents: Incumbents) -> Seat | Refusal:
    """Take the first entry of the preference that the node fits."""
    refusals: list[Refusal] = []
    for entry in wish.entries:
        outcome = _fit_entry(node, entry, wish, incumbents)
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        elif refusals and not wish.may_fall_back:
            return _fallback_forbidden(wish.entries[0], refusals[0], outcome)
        else:
            return outcome
    return closest(refusals) if wish.may_fall_back else refusals[0]


def _fallback_forbidden(entry: str, first: Refusal, later: Seat) -> Refusal:
    return Refusal(
        RejectReason.FALLBACK_FORBIDDEN,
        f"{entry} is asked for: {first.message}. The node could serve on "
        f"{later.hardware.profile.name}: set spec.placement.fallback to Allow to let it",
    )


def _fit_entry(node: Node, entry: str, wish: Wish, incumbents: Incumbents) -> Seat | Refusal:
    """Take the first profile of an entry that the node fits."""
    profiles = profiles_of(entry, wish.profiles)
    if not profiles:
        return no_profile(entry)
    refusals: list[Refusal] = []
    for profile in profiles:
        outcome = fit(node, profile, wish, incumbents)
        if isinstance(outcome, Seat):
            return outcome
        refusals.append(outcome)
    return closest(refusals)


def _place_replicas(nodes: list[Node], wish: Wish, incumbents: Incumbents) -> PlacementResult:
    judge = _Judge(wish, Incumbents(incumbents.now, taken=incumbents.taken))
    verdicts = {node.name: judge(node) for node in nodes}
    seats = seat_replicas(Room.of(nodes, wish, incumbents), wish, incumbents)
    placed = {unit: seat for unit, seat in seats.items() if seat is not None}
    return PlacementResult(
        cells=_cells(placed),
        rejected=_rejected(verdicts),
        lost={unit: seat.lost_since for unit, seat in placed.items() if seat.lost_since},
        unplaced=len(seats) - len(placed),
        counts_replicas=True,
    )


def _rejected(verdicts: Mapping[str, Seat | Refusal]) -> tuple[RejectedNode, ...]:
    return tuple(
        RejectedNode(
            node=name,
            reason=verdict.reason,
            message=verdict.message.replace(NODE, name)[:_MESSAGE_LIMIT],
        )
        for name, verdict in sorted(verdicts.items())
        if isinstance(verdict, Refusal)
    )


def _cells(seats: Mapping[str, Seat]) -> tuple[Cell, ...]:
    members: dict[str, list[str]] = defaultdict(list)
    for unit, seat in seats.items():
        members[seat.hardware.cell].append(unit)
    return tuple(
        Cell(seats[units[0]].hardware, seats[units[0]].variant, tuple(sorted(units)))
        for _, units in sorted(members.items())
    )
