"""The moves of the rollout engine: each makes the next state of one decision.

A move never looks at whether it should be made; the stages do that (rollout.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, OnUncovered
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    FailedRevision,
    HistoryEntry,
    RolloutStatus,
    Stage,
)
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.planned import EventNote
from skerry_operator.decide.rollout.first import first_failed, interim_of
from skerry_operator.decide.rollout.look import Finding, Look
from skerry_operator.decide.rollout.naming import by_text, described, some
from skerry_operator.decide.rollout.state import (
    REASON_LIMIT,
    EngineState,
    clip,
    merged,
    stepping_stage,
)


@dataclass(frozen=True)
class Move:
    """Outcome of one stage's look: the next state, equal to the last one for a stay."""

    state: EngineState
    reason: Reason
    message: str
    events: tuple[EventNote, ...] = ()


def stay(look: Look, reason: Reason, message: str) -> Move:
    """Return the move that changes nothing."""
    return Move(look.state, reason, message)


def begin(look: Look) -> Move:
    """Start the rollout of the wanted revision at its first step; stable stays what it is."""
    wanted = look.facts.wanted
    state = replace(look.state.without_failed(wanted), target=wanted, interim=interim_of(look))
    base, name = state.base, look.facts.named(wanted)
    text = f"{name} replaces {look.facts.named(base)}" if base else f"first deployment of {name}"
    text += ", which serves and never was stable" if state.interim else ""
    text += f"; pods are replaced: {'; '.join(look.facts.replaced)}" if look.facts.replaced else ""
    text += _without_build(look)
    reason = Reason.ROLLOUT_STARTED if base else Reason.FIRST_DEPLOYMENT
    rollout = RolloutStatus(
        stage=stepping_stage(state),
        step=0,
        from_revision=base,
        is_return=look.facts.is_return or None,
        started_at=look.now,
        step_started_at=look.now,
        progress_at=look.now,
        reason=reason,
        message=clip(text),
    )
    return _noted(_noting_stable(look, replace(state, rollout=rollout)), reason, text)


def _without_build(look: Look) -> str:
    """Return who has a model and will not get this one, and what becomes of them."""
    units = look.facts.uncovered
    if not units:
        return ""
    loses = look.spec.on_uncovered is OnUncovered.ALLOW
    fate = "lose their model when it is stable" if loses else "keep what they have"
    return f"; {len(units)} units have no build of it and {fate}: {some([u.name for u in units])}"


def _noting_stable(look: Look, state: EngineState) -> EngineState:
    """Return the state with what stable does now, for when the step has taken its units."""
    known = look.state.rollout.baseline
    baseline = merged(known, look.facts.baseline)
    return state.with_rollout(baseline=baseline) if baseline else state


def enter_step(look: Look, index: int) -> EngineState:
    """Return the state at the beginning of a step; a new step is progress."""
    step = look.steps[index]
    state = look.state.with_rollout(
        stage=Stage.PAUSED if step.pause else stepping_stage(look.state),
        step=index,
        step_started_at=look.now,
        soak_started_at=None,
        progress_at=look.now,
        best_serving=0,
        paused_at=look.now if step.pause else None,
        pause_reason=f"step {index + 1} waits for promote" if step.pause else None,
    )
    return _noting_stable(look, state)


def advance(look: Look, why: str) -> Move:
    """Go on to the next step, or after the last one promote the target."""
    done = f"step {look.label()} of {look.name} is done: {why}"
    if look.index + 1 >= len(look.steps):
        return _decided(_promoting(look), Reason.STEP_COMPLETED, done)
    state = enter_step(look, look.index + 1)
    reason = Reason.PAUSED if state.rollout.stage is Stage.PAUSED else Reason.STEP_COMPLETED
    return _decided(state, reason, done)


def _promoting(look: Look) -> EngineState:
    """Return the state in which the target becomes everyone's default."""
    return look.state.with_rollout(
        stage=Stage.PROMOTING,
        soak_started_at=None,
        progress_at=look.now,
        paused_at=None,
        pause_reason=None,
    )


def promote(look: Look, late: list[str]) -> Move:
    """Make the target the stable revision: the rollout is over; who is `late` is given it next."""
    target, former = look.target, look.state.base
    state = look.state.with_stable(_history_entry(look, target), look.spec.history_limit)
    named = look.facts.named
    text = f"{named(target)} is stable" + (f", it replaced {named(former)}" if former else "")
    text += f"; {len(late)} units wait for their turn: {some(late)}" if late else ""
    return _noted(_ended(state, look.now, Reason.PROMOTED, text), Reason.PROMOTED, text)


def adopt(look: Look, revision: str) -> Move:
    """Take what runs as the stable revision: the status knows of none."""
    state = look.state.with_stable(_history_entry(look, revision), look.spec.history_limit)
    text = f"{revision} was found running and is taken as stable"
    return _noted(_ended(state, look.now, Reason.ADOPTED, text), Reason.ADOPTED, text)


def observe_soak(look: Look) -> Move:
    """Begin to watch a step whose units all serve."""
    state = look.state.with_rollout(stage=Stage.SOAKING, soak_started_at=look.now)
    return Move(state, Reason.SOAKING, look.count())


def break_soak_off(look: Look) -> Move:
    """Wait for the step's units again; the soak starts anew and nothing counts as progress.

    `soak_started_at` stays as the mark that this step was watched once (see `deadline_base`).
    """
    state = look.state.with_rollout(stage=stepping_stage(look.state))
    return Move(state, Reason.WAITING_FOR_UNITS, look.count())


def wait_for_metrics(look: Look) -> Move:
    """Pause until the missing numbers come: they are no failure of the target."""
    why = f"{look.assessment.message}: too few for {look.spec.progress_deadline}"
    return _paused(look.state, look.now, Finding(Reason.WAITING_FOR_METRICS, why))


def watch_again(look: Look) -> Move:
    """Leave the wait for metrics: there is a verdict."""
    state = look.state.with_rollout(
        stage=Stage.SOAKING, paused_at=None, pause_reason=None, progress_at=look.now
    )
    return _decided(state, Reason.RESUMED, look.assessment.message)


def halt(look: Look, why: Finding) -> Move:
    """Stop the clock; the stage stays. Equal to the last state when it is stopped already."""
    state = look.state.with_rollout(
        paused_at=look.state.rollout.paused_at or look.now,
        pause_reason=clip(why.message, REASON_LIMIT),
    )
    return Move(state, why.reason, why.message)


def resume(look: Look, paused_at: datetime) -> Move:
    """Let the clock run on: the time that stood still counts as neither progress nor delay.

    With p = last progress, b = deadline base at the halt, h = begin of the halt:
        Stepping  p' = p + (now - h)
        Soaking   p' = now - max(0, h - b)      (the soak itself counted on)
    """
    progress = look.state.rollout.progress_at or look.now
    if look.stage is Stage.SOAKING:
        used = max(timedelta(0), paused_at - look.deadline_base)
        progress = look.now - used
    else:
        progress += max(timedelta(0), look.now - paused_at)
    state = look.state.with_rollout(paused_at=None, pause_reason=None, progress_at=progress)
    return Move(state, Reason.RESUMED, look.count())


def progressed(look: Look, serving: int) -> Move:
    """Note that more units than ever serve what they were given in this step or rollback."""
    state = look.state.with_rollout(best_serving=serving, progress_at=look.now)
    return Move(state, Reason.WAITING_FOR_UNITS, look.count())


def fail(look: Look, finding: Finding) -> Move:
    """Remember that the target failed, and do what the spec says about it."""
    entry = FailedRevision(
        revision=look.target,
        reason=finding.reason,
        message=clip(finding.message),
        at=look.now,
        retry=look.spec.retry,
        version=clip(look.facts.versions.get(look.target, ""), REASON_LIMIT) or None,
    )
    state = look.state.with_failed(entry)
    is_asked_for = finding.reason is Reason.ABORTED
    if look.spec.on_failure is OnFailure.PAUSE and not is_asked_for:
        return _paused(state, look.now, finding, warning=True)
    if look.is_first:
        text = first_failed(entry)
        state = _ended(state, look.now, Reason.FIRST_DEPLOYMENT_FAILED, text)
        return _noted(state, Reason.FIRST_DEPLOYMENT_FAILED, text, warning=True)
    return _going_back(look, state, finding, warning=True)


def go_back(look: Look, finding: Finding) -> Move:
    """Give up the target without holding anything against it."""
    if look.is_first:
        state = _ended(look.state, look.now, finding.reason, finding.message)
        return _noted(state, finding.reason, finding.message)
    return _going_back(look, look.state, finding, warning=False)


def gone_back(look: Look, missing: list[UnitFacts]) -> Move:
    """End a rollback: every reachable unit serves stable again, but for those that are missing."""
    rollout, base = look.state.rollout, look.state.base
    seconds = (look.now - (rollout.rollback_at or look.now)).total_seconds()
    count = f" on {len(look.reachable) - len(missing)} of {len(look.reachable)} units"
    again = f"{look.facts.named(base)} serves again{count if missing else ''}"
    text = f"{look.name} was taken back, {again}"
    text += f" {seconds:.1f} s after the decision: {rollout.reason}: {rollout.message}"
    waiting = by_text((unit.name, described(unit)) for unit in missing)
    text += f"; not serving it: {waiting}" if missing else ""
    warning = bool(missing) or rollout.reason != Reason.REVERTED
    state = _ended(replace(look.state, target=base), look.now, Reason.ROLLED_BACK, text)
    state = state.with_rollout(rollback_at=rollout.rollback_at)
    return _noted(state, Reason.ROLLED_BACK, text, warning=warning)


def _going_back(look: Look, state: EngineState, finding: Finding, *, warning: bool) -> Move:
    """Return the move to RollingBack: from now on every unit is to have what was before."""
    text = f"{look.name} goes back to {look.facts.named(look.state.base)}: {finding.message}"
    state = state.with_rollout(
        stage=Stage.ROLLING_BACK,
        soak_started_at=None,
        progress_at=look.now,
        best_serving=0,
        paused_at=None,
        pause_reason=None,
        rollback_at=look.now,
        reason=finding.reason,
        message=clip(finding.message),
    )
    return _noted(state, finding.reason, text, warning=warning)


def _paused(state: EngineState, now: datetime, finding: Finding, *, warning: bool = False) -> Move:
    """Return the move to Paused, for a reason that only new numbers or a person can lift."""
    state = state.with_rollout(
        stage=Stage.PAUSED,
        paused_at=now,
        pause_reason=clip(f"{finding.reason}: {finding.message}", REASON_LIMIT),
    )
    return _decided(state, finding.reason, finding.message, warning=warning)


def _ended(state: EngineState, now: datetime, reason: Reason, message: str) -> EngineState:
    """Return the state in Idle, with what the rollout leaves behind."""
    ended = RolloutStatus(
        stage=Stage.IDLE,
        from_revision=state.rollout.from_revision,
        started_at=state.rollout.started_at,
        reason=reason,
        message=clip(message),
        finished_at=now,
    )
    return replace(state, rollout=ended)


def _decided(state: EngineState, reason: Reason, message: str, *, warning: bool = False) -> Move:
    """Return a move that writes its reason into the state and tells people."""
    decided = state.with_rollout(reason=reason, message=clip(message))
    return _noted(decided, reason, message, warning=warning)


def _noted(state: EngineState, reason: Reason, message: str, *, warning: bool = False) -> Move:
    """Return a move that tells people."""
    return Move(state, reason, message, (EventNote(warning, reason, clip(message)),))


def _history_entry(look: Look, revision: str) -> HistoryEntry:
    """Return the entry of a revision that becomes stable now."""
    version = clip(look.facts.versions.get(revision, ""), REASON_LIMIT)
    return HistoryEntry(revision=revision, version=version, promoted_at=look.now)
