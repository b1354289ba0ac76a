"""What every unit must have, as the state of a rollout says."""

from __future__ import annotations

from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.rollout.look import Look


def default(look: Look) -> str | None:
    """Return the revision of units that have no entry."""
    state = look.state
    if look.stage is Stage.PROMOTING or state.base is None:
        return state.target
    return state.base


def desired(look: Look) -> dict[str, str | None]:
    """Return every unit's revision: the default, the target for chosen ones.

    A status that knows nothing takes nothing away: then a unit keeps what it was given.
    """
    usual = default(look)
    if usual is None:
        return {unit.name: unit.assigned for unit in look.facts.units}
    if look.stage is Stage.PROMOTING and look.is_shut:
        return {unit.name: _kept(look, unit, usual) for unit in look.facts.units}
    chosen = look.chosen if _gives_target(look.stage) else frozenset()
    return {unit.name: look.target if unit.name in chosen else usual for unit in look.facts.units}


def _kept(look: Look, unit: UnitFacts, usual: str) -> str:
    """Return what a unit has while the promotion waits for a window."""
    has_other = unit.name in look.late and unit.assigned is not None
    return look.state.base or usual if has_other else usual


def _gives_target(stage: Stage) -> bool:
    """Tell whether chosen units differ from the default in this stage."""
    return stage in {Stage.STEPPING, Stage.SOAKING, Stage.PAUSED}
