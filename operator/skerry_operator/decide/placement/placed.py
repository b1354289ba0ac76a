"""The outcome of a placement, and what it was made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import itemgetter

from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.decide.placement.fitting import NODE, Fit, Incumbents, Unfit, Wish
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.placement.nodes import Node

_MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class Basis:
    """The question that a placement answered, and its answer node by node."""

    wish: Wish
    incumbents: Incumbents
    nodes: Mapping[str, Node]
    verdicts: Mapping[str, Fit | Unfit]


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
    passes: Mapping[str, Unfit] = field(default_factory=dict, compare=False, repr=False)
    """Node -> why hardware that it has, and the spec prefers, is not used."""
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Unit -> since when it is placed without its hardware."""
    unplaced: int = 0
    """Replicas for which no hardware is left."""
    counts_replicas: bool = False
    """The units are replicas: a node that is rejected leaves no gap by itself."""
    basis: Basis | None = field(default=None, compare=False, repr=False)
    """What it was made from, for the next placement to begin with."""

    @cached_property
    def cell_of(self) -> dict[str, str]:
        """Return the name of every unit's cell."""
        return {unit: cell.name for cell in self.cells for unit in cell.units}

    @cached_property
    def passed_over(self) -> tuple[RejectedNode, ...]:
        """Return the nodes with better hardware that is not used, by name, as people read them."""
        return _rows(self.passes.items())


def cells_of(seats: Mapping[str, Fit]) -> tuple[Cell, ...]:
    """Return the cells of all seats (unit -> seat), by name."""
    members: dict[str, list[str]] = defaultdict(list)
    for unit, seat in seats.items():
        members[seat.hardware.cell].append(unit)
    return tuple(
        Cell(seats[units[0]].hardware, seats[units[0]].variant, tuple(sorted(units)))
        for _, units in sorted(members.items())
    )


def rejected_of(verdicts: Mapping[str, Fit | Unfit]) -> tuple[RejectedNode, ...]:
    """Return the nodes that were refused, by name."""
    return _rows((name, one) for name, one in verdicts.items() if isinstance(one, Unfit))


def passes_of(verdicts: Mapping[str, Fit | Unfit]) -> dict[str, Unfit]:
    """Return why better hardware of nodes is not used."""
    return {
        name: verdict.passed
        for name, verdict in verdicts.items()
        if isinstance(verdict, Fit) and verdict.passed is not None
    }


def _rows(refusals: Iterable[tuple[str, Unfit]]) -> tuple[RejectedNode, ...]:
    return tuple(_row(*item) for item in sorted(refusals, key=itemgetter(0)))


def _row(name: str, refusal: Unfit) -> RejectedNode:
    message = refusal.message.replace(NODE, name)[:_MESSAGE_LIMIT]
    return RejectedNode(node=name, reason=refusal.reason, message=message)


def lost_of(seats: Iterable[tuple[str, Fit]]) -> dict[str, datetime]:
    """Return since when units are seated without their hardware, by name."""
    lost = {unit: seat.lost_since for unit, seat in seats if seat.lost_since}
    return dict(sorted(lost.items()))
