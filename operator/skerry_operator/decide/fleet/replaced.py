"""Why units need new pods for a revision, for people."""

from __future__ import annotations

from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.podtemplate import causes_of
from skerry_operator.decide.placement.placed import Cell


def why_replaced(fleet: Fleet, revision: str, cell: Cell) -> tuple[str, ...]:
    """Return what keeps a revision out of pods that a cell's units have; empty: nothing does.

    Raises:
        KeyError: no such snapshot.
    """
    after = fleet.template(revision, cell.hardware)
    berths = {berth for unit in cell.units for berth in fleet.row(unit).berths[:1]}
    others = {one for one in berths if one.cell == cell.name and not fleet.suits(one, revision)}
    known = (before for berth in others for before in fleet.named_after(berth))
    found = {cause for before in known for cause in causes_of(before, after)}
    lacking = {supply for berth in others for supply in fleet.lacks(berth, revision)}
    found |= {f"{supply.replace('/', ' ')} of a source" for supply in lacking}
    moved = {f"from cell {berth.cell}" for berth in berths if berth.cell != cell.name}
    return tuple(sorted(found | moved))
