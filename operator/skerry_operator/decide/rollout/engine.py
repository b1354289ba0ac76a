"""The rollout engine: one look at the fleet in, the next state and every unit's revision out.

`step` is a function of its arguments alone: no clock, no IO, nothing remembered. Its state is
written to the status before anything follows from it; what every unit must run is then a function
of (spec, new state, facts), so an operator that dies between the two does the same again.

    Idle --> Deploying | Stepping --> Soaking --> next step ... --> Promoting --> Idle
                  ^                      |
                  +--- a unit lost it ---+      each of them --> Paused, RollingBack --> Idle

Moves that follow from the same facts are made in one call, until the state settles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import FailedRevision, Stage
from skerry_operator.constants import ANNOTATION_ABORT, Reason
from skerry_operator.decide.facts import RolloutFacts, Verdict
from skerry_operator.decide.planned import EventNote
from skerry_operator.decide.rollout.desire import default, desired
from skerry_operator.decide.rollout.first import (
    first_failed,
    interim_failed,
    is_late,
    serves_after_all,
)
from skerry_operator.decide.rollout.hold import hold
from skerry_operator.decide.rollout.look import Finding, Look, label
from skerry_operator.decide.rollout.moves import (
    Move,
    adopt,
    advance,
    begin,
    break_soak_off,
    enter_step,
    fail,
    go_back,
    gone_back,
    halt,
    observe_soak,
    progressed,
    promote,
    resume,
    stay,
    wait_for_metrics,
    watch_again,
)
from skerry_operator.decide.rollout.naming import some
from skerry_operator.decide.rollout.requeue import interval_s, requeue_after_s
from skerry_operator.decide.rollout.state import MEASURED_STAGES, EngineState, sane

__all__ = ["EngineState", "Transition", "interval_s", "step", "step_label", "subject_of"]

MOST_MOVES = 200
"""More moves than the longest chain at one instant: 33 steps of no soak, 3 moves each."""


@dataclass(frozen=True)
class Transition:
    """What one engine step decided."""

    state: EngineState
    desired: Mapping[str, str | None]
    """Every eligible unit -> the revision it must be given now."""
    default: str | None
    """Revision of units without an entry: new ones, returning ones."""
    reason: Reason
    message: str
    """Also for a stay: why nothing moves."""
    events: tuple[EventNote, ...]
    requeue_after_s: float | None
    active: bool
    """A rollout or rollback is under way: poll the pods."""


def subject_of(state: EngineState, wanted: str) -> str:
    """Return the revision that failures, waiting texts and the assessment must speak of."""
    if state.rollout.stage is Stage.IDLE or state.target is None:
        return wanted
    return state.target


def step_label(spec: Rollout, state: EngineState) -> str | None:
    """Return the step for people, for example `2/4`; None when no rollout is under way."""
    if state.rollout.stage in {Stage.IDLE, Stage.ROLLING_BACK}:
        return None
    return label(spec, state)


def step(spec: Rollout, state: EngineState, facts: RolloutFacts) -> Transition:
    """Return the next state and what follows from it.

    The state is moved until it settles, so the same facts again move it no further.
    """
    state = sane(state, facts.now)
    # facts that name no subject speak of what was the target when they were gathered
    facts = replace(facts, target=facts.target or subject_of(state, facts.wanted))
    look = Look(spec, _with_measured(state, facts), facts)
    events: list[EventNote] = []
    for _ in range(MOST_MOVES):
        move = _move(look)
        events.extend(move.events)
        if move.state == look.state:
            break
        look = replace(look, state=move.state)
    return Transition(
        state=look.state,
        desired=desired(look),
        default=default(look),
        reason=move.reason,
        message=move.message,
        events=tuple(events),
        requeue_after_s=requeue_after_s(look),
        active=look.stage is not Stage.IDLE,
    )


def _with_measured(state: EngineState, facts: RolloutFacts) -> EngineState:
    """Return the state with the measurements that were taken of its target."""
    is_of_target = state.rollout.stage in MEASURED_STAGES and facts.target == state.target
    if not is_of_target or facts.measured == state.rollout.measured:
        return state
    return state.with_rollout(measured=facts.measured)


def _move(look: Look) -> Move:
    """Return the one move that the stage makes of the facts."""
    match look.stage:
        case Stage.IDLE:
            return _idle(look)
        case Stage.DEPLOYING | Stage.STEPPING:
            return _under_way(look) or _clock(look) or _stepping(look)
        case Stage.SOAKING:
            return _under_way(look) or _clock(look) or _soaking(look)
        case Stage.PAUSED:
            return _under_way(look) or _paused(look)
        case Stage.ROLLING_BACK:
            return _rolling_back(look)
        case Stage.PROMOTING:
            return _promoting(look)


def _idle(look: Look) -> Move:  # noqa: PLR0911 (a ladder: one return for each rung)
    """Decide what to do when nothing is under way."""
    state, wanted = look.state, look.facts.wanted
    # a status that knows nothing, and units that serve something: it was wiped
    if state.stable is None and state.target is None and (found := _adoptable(look)):
        return adopt(look, found)
    # nothing is under way, so the target is what is there
    if state.stable is not None and state.target != state.stable:
        return Move(replace(state, target=state.stable), Reason.STABLE, "")
    # the spec as written is stable already; an abort annotation changes nothing here
    if wanted == state.stable:
        return stay(look, Reason.STABLE, f"{wanted} is stable")
    # a first deployment that only came late: it is watched again
    if is_late(look) and not look.spec.paused:
        return begin(look)
    # it failed, or a person forbids it: stable goes on
    if hindered := _hindered(look):
        return stay(look, hindered.reason, hindered.message)
    # nothing new is started while paused
    if look.spec.paused:
        return stay(look, Reason.PAUSED, f"spec.rollout.paused is true: {wanted} is not started")
    # nobody could take it
    if not look.facts.units:
        return stay(look, Reason.NO_ELIGIBLE_NODES, f"no node can take {wanted}")
    return begin(look)


def _adoptable(look: Look) -> str | None:
    """Return the revision that a status without memory takes as stable, if there is one.

    What serves on most units counts. When nothing answers, what most units were given counts,
    except the wanted revision itself: that nobody was seen to serve it proves nothing.
    """
    known = look.facts.restorable
    serving = Counter(unit.serving for unit in look.facts.units if unit.serving in known)
    given = Counter(
        unit.assigned
        for unit in look.facts.units
        if unit.assigned in known and unit.assigned != look.facts.wanted
    )
    counted = serving or given
    return max(counted, key=lambda revision: (counted[revision], revision or ""), default=None)


def _hindered(look: Look) -> Finding | None:
    """Return why the wanted revision must not be started, if so."""
    wanted, stable, named = look.facts.wanted, look.state.stable, look.facts.named
    entry = look.refusal
    # nothing serves that could be harmed, and the spec went back: that is always possible
    if look.is_first and wanted != look.state.target:
        entry = None
    # it failed under this retry text; a new text tries again
    if entry is not None:
        why = f"{entry.reason}: {entry.message}"
        if stable is None:
            return Finding(Reason.FIRST_DEPLOYMENT_FAILED, _without_stable(look, entry))
        is_last = entry == look.state.failed[0]
        reason = Reason.ROLLED_BACK if is_last else Reason.FAILED_BEFORE
        return Finding(reason, f"{named(wanted)} was taken back, {named(stable)} is stable: {why}")
    # a person forbids it, before it began
    if look.facts.abort == wanted:
        rule = f"annotation {ANNOTATION_ABORT} names it: remove the annotation to roll it out"
        return Finding(Reason.ABORTED, f"{wanted} is not started: {rule}")
    # units that serve would lose their model, or fall behind
    return hold(look.spec, look.state, wanted, look.facts.uncovered)


def _without_stable(look: Look, entry: FailedRevision) -> str:
    interim = look.state.interim
    if interim is None or interim == entry.revision:
        return first_failed(entry)
    return interim_failed(entry, interim)


def _under_way(look: Look) -> Move | None:  # noqa: PLR0911 (a ladder)
    """Return what ends or restarts a rollout, whatever its stage."""
    wanted, target = look.facts.wanted, look.target
    # the spec is back at stable: immediate, no steps, no analysis, no failure
    if wanted == look.state.base:
        return go_back(look, Finding(Reason.REVERTED, f"the spec is back at {wanted}"))
    # the spec wants something else that may not be started: the target is wanted no longer
    if wanted != target and (hindered := _hindered(look)):
        return go_back(look, hindered)
    # the newest revision counts, from step 1; stable stays the last promoted one
    if wanted != target and not look.spec.paused:
        return begin(look)
    # a person ends it
    if look.facts.abort == target:
        return fail(look, Finding(Reason.ABORTED, f"annotation {ANNOTATION_ABORT} names it"))
    # it failed, was paused for that, and the retry text is new
    if _is_failure_pause(look):
        return begin(look) if look.refusal is None and not look.spec.paused else None
    # it fails
    if failure := look.failure():
        return fail(look, failure)
    return None


def _is_failure_pause(look: Look) -> bool:
    """Tell whether the rollout waits because its target failed (onFailure: Pause)."""
    return look.stage is Stage.PAUSED and look.state.failure_of(look.target) is not None


def _clock(look: Look) -> Move | None:
    """Stop the rollout's clock, keep it stopped, or let it run on."""
    paused_at = look.state.rollout.paused_at
    if halted := look.halted:
        return halt(look, halted)
    return None if paused_at is None else resume(look, paused_at)


def _stepping(look: Look) -> Move:
    """Wait until every asked unit serves the target."""
    # the steps were edited, and this one is a pause now
    if look.step.pause:
        return Move(enter_step(look, look.index), Reason.PAUSED, "")
    # more units than ever: real progress, the deadline begins anew
    if len(look.serving) > look.state.rollout.best_serving:
        return progressed(look, len(look.serving))
    # the step takes units that have to wait for a window
    if look.due:
        so_far = f"{look.count()}; " if look.asked else f"{look.name}: "
        return _outside(look, f"step {look.label()}: {so_far}", len(look.due))
    # nobody is waited for, and somebody serves it
    if look.serving and not look.awaited:
        return observe_soak(look) if look.is_confirmed else _unconfirmed(look)
    # too long without progress; checked before anything that may hold
    if look.is_overdue:
        return _overdue(look)
    return stay(look, Reason.WAITING_FOR_UNITS, f"step {look.label()}: {look.waiting()}")


def _soaking(look: Look) -> Move:
    """Watch the step until its soak is over and the verdict is good."""
    # a unit says that it serves the target no longer, or nobody is left to watch: in a cell, or
    # at all, when the one canary went offline or away
    if look.lost or look.uncovered or not look.asked:
        return break_soak_off(look)
    # not long enough
    if look.now < look.soak_ends_at:
        until = look.soak_ends_at.isoformat(timespec="seconds")
        return stay(look, Reason.SOAKING, f"step {look.label()}: {look.count()}, until {until}")
    return _judging(look)


def _judging(look: Look) -> Move:
    """Decide at the end of a soak."""
    # everyone answers, the numbers are good, or a person vouches for those that are missing
    if look.serving and not look.awaited and _is_good(look):
        return advance(look, look.assessment.message) if look.is_confirmed else _unconfirmed(look)
    # missing numbers that the spec counts as a failure had the whole soak to come
    if look.assessment.verdict is Verdict.FAILED:
        return fail(look, Finding(Reason.METRIC_FAILED, look.assessment.message))
    # too long without a verdict: a failure, unless the numbers are merely missing
    if look.is_overdue and look.assessment.no_data and not look.awaited:
        return wait_for_metrics(look)
    if look.is_overdue:
        return _overdue(look)
    # a unit did not answer this time
    if look.awaited:
        return stay(look, Reason.WAITING_FOR_UNITS, f"step {look.label()}: {look.waiting()}")
    message = f"step {look.label()}: {look.assessment.message}"
    return stay(look, Reason.WAITING_FOR_METRICS, message)


def _overdue(look: Look) -> Move:
    """Decide at the deadline: a first deployment that serves is stable, and late units join."""
    finding = look.overdue()
    if look.is_first and serves_after_all(look):
        return advance(look, finding.message)
    return fail(look, finding)


def _outside(look: Look, so_far: str, count: int) -> Move:
    """Wait for a window; what was given already is watched, and fails as ever."""
    who = "1 unit waits" if count == 1 else f"{count} units wait"
    text = f"{so_far}{who} for a window of spec.rollout.windows, {look.outlook.why}"
    return stay(look, Reason.WAITING_FOR_WINDOW, text)


def _unconfirmed(look: Look) -> Move:
    """Wait until every unit has said so after the last write: what it said before proves nothing.

    Not for long: each is asked at once, and one that stays silent counts as awaited soon.
    """
    return stay(look, Reason.WAITING_FOR_UNITS, f"step {look.label()}: {look.waiting()}")


def _is_good(look: Look) -> bool:
    """Tell whether the verdict lets the step pass."""
    verdict = look.assessment.verdict
    return verdict is Verdict.SUCCESSFUL or (verdict is Verdict.RUNNING and look.is_promoted)


def _paused(look: Look) -> Move:  # noqa: PLR0911 (a ladder)
    """Wait for a person, or for the numbers."""
    rollout = look.state.rollout
    # it failed: a new retry text, an abort or another spec ends this, nothing else
    if entry := look.state.failure_of(look.target):
        message = f"paused after a failure: {entry.message}; set spec.rollout.retry to try again"
        return stay(look, _known(entry.reason), message)
    # frozen: no stage progress
    if look.spec.paused:
        return stay(look, Reason.PAUSED, "spec.rollout.paused is true")
    # the numbers were missing: go on as soon as there is a verdict, or a person vouches
    if rollout.reason == Reason.WAITING_FOR_METRICS:
        if look.assessment.verdict is Verdict.RUNNING and not look.is_promoted:
            return stay(look, Reason.WAITING_FOR_METRICS, look.assessment.message)
        return watch_again(look)
    # a person promotes
    if look.step.pause and look.is_promoted:
        return advance(look, "promoted by annotation")
    # the steps were edited: this one is no pause any longer
    if not look.step.pause:
        return Move(enter_step(look, look.index), Reason.RESUMED, "")
    return stay(look, Reason.PAUSED, f"step {look.label()} waits for promote")


def _known(reason: str) -> Reason:
    """Return the reason of a failure; one that only a newer operator knew came from a unit."""
    return Reason(reason) if reason in set(Reason) else Reason.UNIT_FAILED


def _rolling_back(look: Look) -> Move:
    """Wait until stable serves again, or let a fix go out."""
    wanted, base = look.facts.wanted, look.state.base
    # a fix goes out at once: stable itself may be what cannot be served
    if wanted != base and not look.spec.paused and _hindered(look) is None:
        return begin(look)
    missing = [
        unit
        for unit in look.reachable
        if not (unit.is_confirmed and unit.assigned == base == unit.serving)
    ]
    # everyone who can be reached says so; who cannot takes stable when it returns
    if not missing:
        return gone_back(look, missing)
    back = len(look.reachable) - len(missing)
    if back > look.state.rollout.best_serving:
        return progressed(look, back)
    # all were given stable, and more than that cannot be done for who does not take it
    if look.is_overdue:
        return gone_back(look, missing)
    message = f"{back} of {len(look.reachable)} units serve {base} again"
    return stay(look, Reason.ROLLING_BACK, f"{message}: {look.state.rollout.message}")


def _promoting(look: Look) -> Move:
    """Wait until the cluster's assignment gives the target to everyone, with no exceptions.

    Who has to wait for a new pod may wait for ever, because of one at its site that does not
    start. The target has passed, so that neither takes it back nor keeps a newer one waiting.
    """
    late = sorted(look.late)
    # new pods wait for a window, but not for one that nobody needs: the spec went back
    count = len(late) + look.takes_away
    if count and look.is_shut and look.facts.wanted != look.state.base:
        return _outside(look, f"{look.name} becomes stable: ", count)
    if not late or look.is_overdue or look.facts.wanted != look.target:
        return promote(look, late)
    given = len(look.reachable) - len(late)
    message = f"{look.name} becomes stable: given to {given} of {len(look.reachable)} units"
    return stay(look, Reason.STEP_COMPLETED, f"{message}; not yet: {some(late)}")
