"""Units that have a model, and that another revision has no build for: what they keep.

An uncovered unit keeps what it has, where that is a revision that was stable once: in the history,
or the default of its cell's file. The file remembers it, so that a unit that was given a later
target goes back to what it had before, although stable is nothing for it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from skerry_operator.decide.facts import Uncovered
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.placement.place import Cell


def uncovered(fleet: Fleet, revision: str | None) -> tuple[Uncovered, ...]:
    """Return the units that have a model and are in no cell of the revision, by name.

    One that has lost its place altogether (another selector, a taint, hardware that is gone) is
    not among them: then no build would help.
    """
    if revision is None or revision not in fleet.snapshots:
        return ()
    placement = fleet.place(revision)
    left = sorted(fleet.listed.keys() - placement.cell_of.keys())
    if not left:
        return ()
    reasons = {one.node: f"{one.reason}: {one.message}" for one in placement.rejected}
    found = ((unit, keepsake(fleet, unit)) for unit in left)
    return tuple(
        Uncovered(
            name=unit,
            cell=fleet.listed_cells[unit],
            keeps=kept,
            why=reasons.get(unit, "no hardware that it has a build for is free"),
            counts=fleet.row(unit).reachable and unit not in fleet.place(kept).lost,
        )
        for unit, kept in found
        if kept is not None
    )


def keepsake(fleet: Fleet, unit: str) -> str | None:
    """Return what a unit keeps that nothing newer has a build for; None: nothing can be kept."""
    row, status = fleet.row(unit), fleet.observed.deployment.status
    if not row.berths:
        return None
    default = _default_of(fleet, row.berths[0].cell)
    bad = {status.target_revision, *(past.revision for past in status.failed_revisions)}
    candidates = (
        row.assigned if row.assigned in _trusted(fleet) else None,
        default,
        row.assigned if row.assigned not in bad else None,
    )
    fits = (one for one in candidates if one is not None and unit in fleet.place(one).cell_of)
    return next(fits, None)


def kept_cells(fleet: Fleet, excluded: Iterable[Uncovered]) -> tuple[tuple[Cell, str], ...]:
    """Return the cells of units that keep what they have, each with the revision that it keeps."""
    keeps = {one.name: one.keeps for one in excluded}
    return tuple(
        (replace(cell, units=units), revision)
        for revision in sorted(set(keeps.values()))
        for cell in fleet.place(revision).cells
        if (units := tuple(unit for unit in cell.units if keeps.get(unit) == revision))
    )


def kept_default(
    fleet: Fleet, cell: str, given: Mapping[str, str | None], trial: str | None
) -> str | None:
    """Return the default of a cell that the deployment's default has no build for.

    That is what the file says now: it was stable when it was written. Of a file that is gone, it
    is what most units have, but for the target, which is on trial.
    """
    default = _default_of(fleet, cell)
    if default in fleet.snapshots:
        return default
    kept = [revision for revision in given.values() if revision not in {None, trial}]
    return max(sorted({str(one) for one in kept}), key=kept.count, default=None)


def _default_of(fleet: Fleet, cell: str) -> str | None:
    observed = fleet.cells.get(cell)
    return observed.assignment.default if observed else None


def _trusted(fleet: Fleet) -> frozenset[str | None]:
    """Return the revisions that are, or were, stable."""
    status = fleet.observed.deployment.status
    return frozenset({status.stable_revision, *(past.revision for past in status.history)}) - {None}
