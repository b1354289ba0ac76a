"""What holds of every look of the rollout engine, whatever happened before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered, Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts
from skerry_operator.decide.rollout.engine import EngineState, Transition, step


def hold(spec: Rollout, before: EngineState, seen: RolloutFacts, result: Transition) -> None:
    """Assert all that must hold of one look of the engine."""
    after = result.state
    # the same facts again: the same state, the same desires, nothing more to tell
    again = step(spec, after, seen)
    assert (again.state, again.desired, again.events) == (after, result.desired, ())
    # stable is never lost, and changes only by promotion or adoption
    events = {note.reason for note in result.events}
    if after.stable != before.stable:
        assert after.stable is not None
        assert events & {Reason.PROMOTED, Reason.ADOPTED}
    # never two targets; a status that knows nothing leaves everyone what it was given
    assert set(result.desired) == {one.name for one in seen.units}
    for one in seen.units:
        given = result.desired[one.name]
        is_kept = result.default is None and given == one.assigned
        assert is_kept or given in {after.base, after.target}
    _hold_interim(before, seen, result)
    # a revision that failed is given to nobody anew, unless there is nothing else
    refused = {entry.revision for entry in after.failed if entry.retry == spec.retry}
    if after.base is not None:
        for one in seen.units:
            given = result.desired[one.name]
            assert given not in refused or given in {one.assigned, after.base}
    _hold_uncovered(spec, before, seen, after)
    # promotion only when all who can be reached and were asked serve the target
    is_promoting = after.rollout.stage is Stage.PROMOTING or Reason.PROMOTED in events
    if is_promoting and before.rollout.stage is not Stage.PROMOTING:
        promoted = after.target if after.rollout.stage is Stage.PROMOTING else after.stable
        asked = [one for one in seen.units if one.reachable and one.assigned == promoted]
        assert asked
        if before.base is not None:
            assert all(one.serving == promoted for one in asked)
        # of a first deployment that ran into its deadline, late units join what is stable
        served = {one.cell for one in asked if one.serving == promoted}
        assert served == {one.cell for one in asked}
        assert promoted not in refused
    # at rest nothing but the world sets it in motion
    if after.rollout.stage is Stage.IDLE:
        assert not result.active
    if after.rollout.stage is Stage.IDLE and result.requeue_after_s is None:
        tomorrow = replace(seen, now=seen.now + timedelta(days=1), target=seen.wanted)
        assert step(spec, after, tomorrow).state == after


def _hold_interim(before: EngineState, seen: RolloutFacts, result: Transition) -> None:
    """Assert what holds while nothing is stable."""
    after = result.state
    # what serves without having passed is never called stable, nor lost before something is
    assert after.stable is None or after.interim is None
    if before.interim is not None and after.stable is None:
        assert after.interim in {before.interim, None} or seen.wanted == before.interim
        assert after.interim is not None or after.target == seen.wanted == before.interim
    # where something serves, nothing begins for everyone at once
    if any(note.reason is Reason.FIRST_DEPLOYMENT for note in result.events):
        assert {one.serving for one in seen.units} & seen.restorable <= {seen.wanted}


def _hold_uncovered(
    spec: Rollout, before: EngineState, seen: RolloutFacts, after: EngineState
) -> None:
    """Assert what holds of a revision without a build for some units."""
    # what has no build for units that serve is not begun: who may lose it, or keep it, must be told
    counted = sum(one.counts for one in seen.uncovered)
    if spec.on_uncovered is OnUncovered.HOLD and counted > spec.failure_limit:
        known = {before.stable, before.target, *(past.revision for past in before.history)}
        if before.stable is not None and seen.wanted not in known:
            assert after.target != seen.wanted, "begun without a build for units that serve"
