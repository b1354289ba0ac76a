"""What holds of every look of the rollout engine, whatever happened before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from skerry_operator.api.v1alpha1.edgedeployment import Rollout
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
        assert is_kept or given in {after.stable, after.target}
    # a revision that failed is given to nobody anew, unless there is nothing else
    refused = {entry.revision for entry in after.failed if entry.retry == spec.retry}
    if after.stable is not None:
        for one in seen.units:
            given = result.desired[one.name]
            assert given not in refused or given in {one.assigned, after.stable}
    # promotion only when all who can be reached and were asked serve the target
    is_promoting = after.rollout.stage is Stage.PROMOTING or Reason.PROMOTED in events
    if is_promoting and before.rollout.stage is not Stage.PROMOTING:
        promoted = after.target if after.rollout.stage is Stage.PROMOTING else after.stable
        asked = [one for one in seen.units if one.reachable and one.assigned == promoted]
        assert asked
        assert all(one.serving == promoted for one in asked)
        assert promoted not in refused
    # at rest nothing but the world sets it in motion
    if after.rollout.stage is Stage.IDLE:
        assert not result.active
        tomorrow = replace(seen, now=seen.now + timedelta(days=1), target=seen.wanted)
        assert step(spec, after, tomorrow).state == after
