"""Placement: nodes and hardware in, cells and rejected nodes out.

A node fits a profile when its extended resource is allocatable (the proof that a pod can get
one) or, for a profile without a resource, when a label alternative matches. PerNode looks at one
node alone, so a node that comes or goes never moves another.
"""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.api.v1alpha1.edgedeployment import Placement, PlacementMode
from skerry_operator.catalogue.profiles import DEFAULT_PREFERENCE, Profile
from skerry_operator.decide.placement.fitting import DEFAULT_GRACE_S, Incumbents, Wish
from skerry_operator.decide.placement.hardware import has_labels
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.pernode import Judge, place_per_node
from skerry_operator.decide.placement.placed import (
    Cell,
    PlacementResult,
    cells_of,
    lost_of,
    passes_of,
    rejected_of,
)
from skerry_operator.decide.placement.replicas import Capacity, seat_replicas

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


def place(
    nodes: Iterable[Node],
    wish: Wish,
    incumbents: Incumbents,
    earlier: PlacementResult | None = None,
) -> PlacementResult:
    """Give every node that matches the selector a cell, or a reason why it has none.

    With Replicas, as many units as are asked for get cells; a node that could take none of them
    has a reason. `earlier` is the last result for the same deployment: it saves work, and the
    outcome is the same without it.
    """
    selector = wish.placement.node_selector
    selected = [node for node in nodes if has_labels(node, selector)] if selector else list(nodes)
    if wish.placement.mode is PlacementMode.REPLICAS:
        return _place_replicas(selected, wish, incumbents)
    return place_per_node(selected, wish, incumbents, earlier)


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
    return None


def _place_replicas(nodes: list[Node], wish: Wish, incumbents: Incumbents) -> PlacementResult:
    judge = Judge(wish, Incumbents(incumbents.now, taken=incumbents.taken))
    verdicts = {node.name: judge(node) for node in nodes}
    seats = seat_replicas(Capacity.of(nodes, wish, incumbents), wish, incumbents)
    placed = {unit: seat for unit, seat in seats.items() if seat is not None}
    return PlacementResult(
        cells=cells_of(placed),
        rejected=rejected_of(verdicts),
        passes=passes_of(verdicts),
        lost=lost_of(placed.items()),
        unplaced=len(seats) - len(placed),
        counts_replicas=True,
    )
