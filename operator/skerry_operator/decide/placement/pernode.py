"""PerNode: every node is judged by itself, and again only when something about it changed.

When one of a thousand nodes flaps, one node is judged and the cells that it leaves or joins are
made anew; for the others it is only seen that they are the very same values as before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import replace

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.constants import RejectReason
from skerry_operator.decide.placement.fitting import (
    Fit,
    Incumbents,
    Unfit,
    Wish,
    admission,
    closest,
    fit,
    no_profile,
    profiles_of,
)
from skerry_operator.decide.placement.kinds import kind_of, traits_of
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.placed import (
    Basis,
    Cell,
    PlacementResult,
    cells_of,
    lost_of,
    passes_of,
    rejected_of,
)

MOST_CHANGES = 0.2
"""Share of nodes beyond which to start afresh is cheaper than to mend."""


def place_per_node(
    nodes: Iterable[Node], wish: Wish, incumbents: Incumbents, earlier: PlacementResult | None
) -> PlacementResult:
    """Give every node a cell or a reason; `earlier` saves work and changes nothing."""
    by_name = {node.name: node for node in nodes}
    basis = earlier.basis if earlier else None
    if earlier is not None and basis is not None and basis.wish == wish:
        changed = _changed(basis, by_name, incumbents)
        if len(changed) <= MOST_CHANGES * len(by_name):
            return _mended(earlier, Basis(wish, incumbents, by_name, basis.verdicts), changed)
    judge = Judge(wish, incumbents)
    verdicts = {name: judge(node) for name, node in by_name.items()}
    seats = {name: seat for name, seat in verdicts.items() if isinstance(seat, Fit)}
    return PlacementResult(
        cells=cells_of(seats),
        rejected=rejected_of(verdicts),
        lost=lost_of(seats.items()),
        passes=passes_of(verdicts),
        basis=Basis(wish, incumbents, by_name, verdicts),
    )


def _changed(basis: Basis, nodes: Mapping[str, Node], incumbents: Incumbents) -> set[str]:
    """Return the nodes about which the verdict may be another one, those that are gone included."""
    before, after = basis.incumbents, incumbents
    changed = {name for name, node in nodes.items() if basis.nodes.get(name) is not node}
    changed |= basis.nodes.keys() - nodes.keys()
    changed |= _differing(before.cells, after.cells) | _differing(before.taken, after.taken)
    changed |= before.lost.keys() | after.lost.keys()  # time alone changes these
    changed |= before.waiting ^ after.waiting
    if before.grace_s != after.grace_s:
        changed |= nodes.keys()
    return changed & (nodes.keys() | basis.nodes.keys())


def _differing(one: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    if one == other:
        return set()
    names = one.keys() | other.keys()
    return {name for name in names if one.get(name) != other.get(name)}


def _mended(earlier: PlacementResult, question: Basis, changed: Collection[str]) -> PlacementResult:
    """Return the earlier result with the changed nodes judged anew."""
    if not changed:
        return replace(earlier, basis=question)
    judge = Judge(question.wish, question.incumbents)
    verdicts = dict(question.verdicts)
    fresh = {name: judge(question.nodes[name]) for name in changed if name in question.nodes}
    for name in changed:
        verdicts.pop(name, None)
    verdicts |= fresh
    seats = [(name, seat) for name, seat in fresh.items() if isinstance(seat, Fit)]
    lost = {name: since for name, since in earlier.lost.items() if name not in changed}
    return PlacementResult(
        cells=_mended_cells(earlier.cells, question.verdicts, fresh, changed),
        rejected=_merged_rows(earlier.rejected, rejected_of(fresh), changed),
        lost=dict(sorted({**lost, **lost_of(seats)}.items())),
        passes={
            **{name: one for name, one in earlier.passes.items() if name not in changed},
            **passes_of(fresh),
        },
        basis=replace(question, verdicts=verdicts),
    )


def _merged_rows(
    rows: Iterable[RejectedNode], fresh: Iterable[RejectedNode], changed: Collection[str]
) -> tuple[RejectedNode, ...]:
    """Return the rows of nodes that did not change and the fresh ones, by node."""
    kept = [row for row in rows if row.node not in changed]
    return tuple(sorted([*kept, *fresh], key=lambda row: row.node))


def _mended_cells(
    cells: tuple[Cell, ...],
    before: Mapping[str, Fit | Unfit],
    fresh: Mapping[str, Fit | Unfit],
    changed: Collection[str],
) -> tuple[Cell, ...]:
    """Take the changed nodes out of the cells that they were in, and put them where they go."""
    known = {cell.name: cell for cell in cells}
    touched: dict[str, list[str]] = {}
    for name in changed:
        old, new = before.get(name), fresh.get(name)
        if isinstance(old, Fit):
            cell = old.hardware.cell
            units = touched.setdefault(cell, list(known[cell].units))
            del units[bisect_left(units, name)]
        if isinstance(new, Fit):
            cell = new.hardware.cell
            if cell not in known:
                known[cell] = Cell(new.hardware, new.variant, ())
            insort(touched.setdefault(cell, list(known[cell].units)), name)
    known |= {name: replace(known[name], units=tuple(units)) for name, units in touched.items()}
    return tuple(cell for _, cell in sorted(known.items()) if cell.units)


class Judge:
    """Judges nodes, those of one kind and history once."""

    def __init__(self, wish: Wish, incumbents: Incumbents) -> None:
        self._wish = wish
        self._incumbents = incumbents
        self._traits = traits_of(wish.profiles)
        self._known: dict[Hashable, Fit | Unfit] = {}
        needs = {quantity(one.memory) for one in wish.variants if one.memory is not None}
        self._needs = sorted(needs)
        self._with_history = (
            incumbents.cells.keys()
            | incumbents.lost.keys()
            | incumbents.taken.keys()
            | incumbents.waiting
        )

    def __call__(self, node: Node) -> Fit | Unfit:
        """Return the node's seat, or why it has none."""
        key = self._key(node)
        verdict = self._known.get(key)
        if verdict is None:
            verdict = self._known[key] = _judge(node, self._wish, self._incumbents)
        return verdict

    def _key(self, node: Node) -> Hashable:
        """Return all that the verdict on a node depends on."""
        kind = kind_of(node, self._traits)
        if node.name not in self._with_history:
            return (kind, self._memory_of(node)) if self._needs else kind
        name, known = node.name, self._incumbents
        taken = known.taken.get(name)
        return (
            kind,
            known.cells.get(name),
            known.lost.get(name),
            name in known.waiting,
            tuple(sorted(taken.items())) if taken else None,
            self._memory_of(node),
        )

    def _memory_of(self, node: Node) -> float | None:
        """Return what counts of the memory: how many variants would fit; of too little, all."""
        has = node.allocatable.get("memory")
        if not self._needs or has is None:
            return None
        return bisect_right(self._needs, has) or has


def _judge(node: Node, wish: Wish, incumbents: Incumbents) -> Fit | Unfit:
    refusal = admission(node, wish, is_placed=node.name in incumbents.cells)
    return refusal or _walk(node, wish, incumbents)


def _walk(node: Node, wish: Wish, incumbents: Incumbents) -> Fit | Unfit:
    """Take the first entry of the preference that the node fits."""
    refusals: list[Unfit] = []
    for entry in wish.entries:
        outcome = _fit_entry(node, entry, wish, incumbents)
        if isinstance(outcome, Unfit):
            refusals.append(outcome)
        elif refusals and not wish.may_fall_back:
            return _fallback_forbidden(wish.entries[0], refusals[0], outcome)
        else:
            return replace(outcome, passed=_passed(refusals))
    return closest(refusals) if wish.may_fall_back else refusals[0]


def _passed(refusals: list[Unfit]) -> Unfit | None:
    """Return why better hardware that is there is not used; what the node lacks is no matter."""
    found = [one for one in refusals if one.reason is not RejectReason.NO_MATCHING_LABEL]
    return closest(found) if found else None


def _fallback_forbidden(entry: str, first: Unfit, later: Fit) -> Unfit:
    return Unfit(
        RejectReason.FALLBACK_FORBIDDEN,
        lambda: (
            f"{entry} is asked for: {first.message}. The node could serve on "
            f"{later.hardware.profile.name}: set spec.placement.fallback to Allow to let it"
        ),
    )


def _fit_entry(node: Node, entry: str, wish: Wish, incumbents: Incumbents) -> Fit | Unfit:
    """Take the first profile of an entry that the node fits."""
    profiles = profiles_of(entry, wish.profiles)
    if not profiles:
        return no_profile(entry)
    refusals: list[Unfit] = []
    for profile in profiles:
        outcome = fit(node, profile, wish, incumbents)
        if isinstance(outcome, Fit):
            return outcome
        refusals.append(outcome)
    return closest(refusals)
