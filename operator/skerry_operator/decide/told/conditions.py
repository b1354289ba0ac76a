"""Conditions and phase: the state of a deployment in the words that tools and people read.

kstatus reads Reconciling, then Stalled, then Ready, so at most one of the first two is there:
a rollback that is under way is Reconciling, and Stalled only when it is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase, Stage
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.facts import RolloutFacts, UnitFacts
from skerry_operator.decide.rollout.engine import Transition
from skerry_operator.decide.rollout.look import Finding
from skerry_operator.decide.rollout.naming import by_text
from skerry_operator.decide.rollout.state import clip

MESSAGE_LIMIT = 4096
"""Bound of a condition's message."""

NOTHING_ASKED = "spec.placement.replicas is 0: no unit is asked for"

NEEDS_A_PERSON = frozenset(
    {
        Reason.ROLLED_BACK,
        Reason.FAILED_BEFORE,
        Reason.FIRST_DEPLOYMENT_FAILED,
        Reason.ABORTED,
        Reason.UNIT_FAILED,
        Reason.METRIC_FAILED,
        Reason.CRASH_LOOP,
        Reason.DEADLINE_EXCEEDED,
        Reason.UNITS_UNCOVERED,
        Reason.MODEL_INVALID,
        Reason.INVALID_SPEC,
        Reason.PLACEMENT_HELD,
        Reason.OPTIMIZATION_FAILED,
    }
)
"""What does not mend itself: Stalled. A model or a node that is missing may still come."""

_UNDER_WAY = {
    Stage.DEPLOYING: Phase.DEPLOYING,
    Stage.STEPPING: Phase.PROGRESSING,
    Stage.SOAKING: Phase.PROGRESSING,
    Stage.PROMOTING: Phase.PROGRESSING,
    Stage.PAUSED: Phase.PAUSED,
    Stage.ROLLING_BACK: Phase.ROLLING_BACK,
}


@dataclass(frozen=True)
class Hindrance:
    """What keeps the operator from its work, apart from the rollout itself."""

    reason: Reason
    """ModelNotFound, ModelInvalid, InvalidSpec, NoEligibleNodes or ApplyFailed."""
    message: str


@dataclass(frozen=True)
class Placedness:
    """Whether every unit that is asked for has hardware, and which has none."""

    is_complete: bool
    finding: Finding


@dataclass(frozen=True)
class Exclusion:
    """Units that keep what they have, as there is no build of the wanted revision for them."""

    units: tuple[UnitFacts, ...]
    is_tolerated: bool
    """The spec lets the others go on without them."""
    message: str


@dataclass(frozen=True)
class Standing:
    """Everything that conditions are made from."""

    generation: int
    facts: RolloutFacts
    """`wanted` may be empty when there is no model."""
    transition: Transition | None
    """None: no step could be taken."""
    hindrance: Hindrance | None = None
    placed: Placedness | None = None
    """Whether all units have their hardware; None keeps what was last known."""
    polled: bool = True
    """The pods were asked in this reconcile; False keeps what was last known of availability."""
    is_scaled_to_zero: bool = False
    """No unit is asked for, so nothing that serves is what the spec says."""
    failure_limit: int = 0
    """Units that may refuse the stable revision, and it still counts as running everywhere."""
    excluded: Exclusion | None = None
    others: tuple[UnitFacts, ...] = ()
    """Other units on which the wanted revision has no place, and that keep what they have."""

    offer: str = ""
    """Which images of the operator the pods do not run in; empty: they run in them."""

    @property
    def units(self) -> tuple[UnitFacts, ...]:
        """All units that have a model, or are to have one."""
        excluded = self.excluded.units if self.excluded else ()
        return (*self.facts.units, *excluded, *self.others)


@dataclass(frozen=True)
class _Statement:
    """A condition before it has a time."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    """A Reason, or one that a newer operator knew."""
    message: str


def conditions(previous: tuple[Condition, ...], standing: Standing) -> tuple[Condition, ...]:
    """Return all conditions; a lastTransitionTime moves only when its status does."""
    known = {condition.type: condition for condition in previous}
    return tuple(
        _timed(known.get(statement.type), statement, standing)
        for statement in _statements(known, standing)
    )


def phase(standing: Standing, previous: tuple[Condition, ...] = ()) -> Phase:
    """Return the one word for people; `previous` matters when the pods were not asked."""
    transition = standing.transition
    # nothing is meant to run, and nothing does
    if standing.is_scaled_to_zero:
        return Phase.STABLE if standing.hindrance is None else Phase.DEGRADED
    # nothing was ever rolled out
    if transition is None or (transition.state.stable is None and not transition.active):
        return _phase_without_stable(standing)
    # frozen by the spec, or waiting for a person
    if transition.reason is Reason.PAUSED:
        return Phase.PAUSED
    if transition.active:
        return _phase_under_way(transition)
    if transition.reason in NEEDS_A_PERSON:
        is_held = transition.reason is Reason.UNITS_UNCOVERED
        return Phase.PAUSED if is_held else Phase.ROLLED_BACK
    available = _available({condition.type: condition for condition in previous}, standing)
    return _phase_at_rest(_ready(standing, available))


def _phase_at_rest(ready: _Statement) -> Phase:
    """Return the phase while nothing is rolled out: the same as Ready says."""
    if ready.status is not ConditionStatus.FALSE:
        return Phase.STABLE
    # units that came back are on their way
    return Phase.PROGRESSING if ready.reason == Reason.WAITING_FOR_UNITS else Phase.DEGRADED


def _phase_without_stable(standing: Standing) -> Phase:
    """Return the phase of a deployment that has no stable revision, or no model any longer."""
    transition = standing.transition
    if transition is not None and transition.reason in NEEDS_A_PERSON:
        return Phase.FAILED
    # the model was taken away: what runs goes on, but nothing can be decided
    is_running = any(unit.assigned for unit in standing.facts.units)
    return Phase.DEGRADED if transition is None and is_running else Phase.PENDING


def _phase_under_way(transition: Transition) -> Phase:
    """Return the phase of a stage; a first deployment is Deploying while it is watched, too."""
    stage = transition.state.rollout.stage
    if stage is Stage.SOAKING and transition.state.base is None:
        return Phase.DEPLOYING
    return _UNDER_WAY.get(stage, Phase.PROGRESSING)


def _statements(known: dict[str, Condition], standing: Standing) -> Iterator[_Statement]:
    """Yield every condition that is to be there, in order."""
    available = _available(known, standing)
    progressing = _progressing(standing)
    ready = _ready(standing, available)
    yield ready
    yield available
    yield progressing
    if placed := _placed(known, standing):
        yield placed
    if _is_reconciling(standing, progressing):
        yield _as(ConditionType.RECONCILING, _hindered(standing) or _brief(progressing, "; "))
    elif ready.status is not ConditionStatus.TRUE and ready.reason in NEEDS_A_PERSON:
        yield _as(ConditionType.STALLED, ready, ConditionStatus.TRUE)


def _available(known: dict[str, Condition], standing: Standing) -> _Statement:
    """Return whether a model serves on every reachable unit."""
    units = standing.units
    reachable = [unit for unit in units if unit.reachable]
    # nobody is to have it
    if standing.is_scaled_to_zero:
        return _nothing_asked(ConditionType.AVAILABLE, ConditionStatus.TRUE)
    # nobody has it
    if not units:
        hindrance = standing.hindrance
        reason = hindrance.reason if hindrance else Reason.NO_ELIGIBLE_NODES
        message = hindrance.message if hindrance else "no unit has the model"
        return _statement(ConditionType.AVAILABLE, ConditionStatus.FALSE, reason, message)
    # nobody can be asked
    if not reachable:
        message = f"none of {len(units)} units can be reached"
        return _statement(
            ConditionType.AVAILABLE, ConditionStatus.UNKNOWN, Reason.NOT_SERVING, message
        )
    # nobody was asked: what was known goes on
    if not standing.polled:
        return _as_known(known.get(ConditionType.AVAILABLE))
    silent = sorted(
        (unit for unit in reachable if unit.serving is None), key=lambda unit: unit.name
    )
    offline = len(units) - len(reachable)
    message = f"{len(reachable) - len(silent)} of {len(reachable)} reachable units serve"
    message = f"{message}, {offline} offline" if offline else message
    if silent:
        states = by_text((unit.name, unit.state) for unit in silent)
        message = f"{message}; not serving: {states}"
        return _statement(
            ConditionType.AVAILABLE, ConditionStatus.FALSE, Reason.NOT_SERVING, message
        )
    return _statement(ConditionType.AVAILABLE, ConditionStatus.TRUE, Reason.SERVING, message)


def _as_known(condition: Condition | None) -> _Statement:
    """Return what the last condition said of availability."""
    if condition is None:
        return _statement(
            ConditionType.AVAILABLE,
            ConditionStatus.UNKNOWN,
            Reason.WAITING_FOR_UNITS,
            "no unit was asked yet",
        )
    serving = condition.status is ConditionStatus.TRUE
    reason = Reason.SERVING if serving else Reason.NOT_SERVING
    return _statement(ConditionType.AVAILABLE, condition.status, reason, condition.message)


def _ready(standing: Standing, available: _Statement) -> _Statement:
    """Return whether the spec as written is what runs."""
    transition = standing.transition
    # something is in the way
    if hindered := _hindered(standing):
        return _as(ConditionType.READY, hindered, ConditionStatus.FALSE)
    # nothing is meant to run
    if standing.is_scaled_to_zero:
        return _nothing_asked(ConditionType.READY, ConditionStatus.TRUE)
    # no step was taken, and nothing says why
    if transition is None:
        return _as(ConditionType.READY, available, ConditionStatus.UNKNOWN)
    # something else than the spec runs, or it runs not everywhere yet
    is_settled = not transition.active and transition.state.stable == standing.facts.wanted
    if not is_settled:
        return _statement(
            ConditionType.READY, ConditionStatus.FALSE, transition.reason, transition.message
        )
    # it is stable, but does it serve?
    if available.status is not ConditionStatus.TRUE:
        return _as(ConditionType.READY, available)
    ready = _or_uncovered(standing, _everywhere(standing, transition.message))
    return _with_offer(standing, ready)


def _with_offer(standing: Standing, ready: _Statement) -> _Statement:
    """Return the statement with the images that are on offer: what runs is right without them."""
    if not standing.offer or ready.status is not ConditionStatus.TRUE:
        return ready
    return _statement(ready.type, ready.status, ready.reason, f"{ready.message}; {standing.offer}")


def _or_uncovered(standing: Standing, ready: _Statement) -> _Statement:
    """Return the statement with the units that keep what they have; too many make it False."""
    if standing.excluded is None or ready.status is not ConditionStatus.TRUE:
        return ready
    message = f"{ready.message}; {standing.excluded.message}"
    if standing.excluded.is_tolerated:
        return _statement(ready.type, ready.status, ready.reason, message)
    return _statement(ready.type, ConditionStatus.FALSE, Reason.UNITS_UNCOVERED, message)


def _everywhere(standing: Standing, message: str) -> _Statement:
    """Return whether the stable revision is what every reachable unit serves.

    A unit that came back may still be on its way to it, or refuse it and serve an earlier one.
    """
    behind = _behind(standing)
    refusing = [unit for unit in behind if unit.failure is not None]
    if not behind:
        return _statement(ConditionType.READY, ConditionStatus.TRUE, Reason.STABLE, message)
    others = by_text((unit.name, unit.state or str(unit.serving)) for unit in behind)
    message = f"{message}; {len(behind)} reachable units serve another revision: {others}"
    if len(refusing) > standing.failure_limit:
        return _statement(ConditionType.READY, ConditionStatus.FALSE, Reason.UNIT_FAILED, message)
    if len(behind) > len(refusing):
        reason = Reason.WAITING_FOR_UNITS
        return _statement(ConditionType.READY, ConditionStatus.FALSE, reason, message)
    return _statement(ConditionType.READY, ConditionStatus.TRUE, Reason.STABLE, message)


def _behind(standing: Standing) -> list[UnitFacts]:
    """Return the reachable units that are known to serve another revision than the wanted one."""
    known = {None, standing.facts.wanted}
    return [u for u in standing.facts.units if u.reachable and u.serving not in known]


def _placed(known: dict[str, Condition], standing: Standing) -> _Statement | None:
    """Return whether all units have their hardware; None: nobody ever found out."""
    found = standing.placed
    if found is not None:
        status = ConditionStatus.TRUE if found.is_complete else ConditionStatus.FALSE
        finding = found.finding
        return _statement(ConditionType.PLACED, status, finding.reason, finding.message)
    before = known.get(ConditionType.PLACED)
    if before is None:
        return None
    return _statement(ConditionType.PLACED, before.status, before.reason, before.message)


def _progressing(standing: Standing) -> _Statement:
    """Return whether a rollout is under way; one that waits after a failure is not."""
    transition = standing.transition
    if standing.is_scaled_to_zero and standing.hindrance is None:
        return _nothing_asked(ConditionType.PROGRESSING, ConditionStatus.FALSE)
    if transition is None:
        basis = _hindered(standing)
        reason = basis.reason if basis else Reason.STABLE
        message = basis.message if basis else ""
        return _statement(ConditionType.PROGRESSING, ConditionStatus.FALSE, reason, message)
    is_moving = transition.active and not _is_failure_pause(transition)
    status = ConditionStatus.TRUE if is_moving else ConditionStatus.FALSE
    told = _statement(ConditionType.PROGRESSING, status, transition.reason, transition.message)
    return told if is_moving else _brief(told, ": ")


def _brief(statement: _Statement, end: str) -> _Statement:
    """Return what a statement says first: Ready has the whole, and nobody reads it three times."""
    message = statement.message.partition(end)[0]
    return _Statement(statement.type, statement.status, statement.reason, message)


def _is_failure_pause(transition: Transition) -> bool:
    """Tell whether a failed rollout waits for a person (onFailure: Pause)."""
    is_paused = transition.state.rollout.stage is Stage.PAUSED
    return is_paused and transition.reason in NEEDS_A_PERSON


def _is_reconciling(standing: Standing, progressing: _Statement) -> bool:
    """Tell whether the operator itself is at work; an apply that failed is tried again.

    Builds of the model that are being made are work, too.
    """
    hindrance = standing.hindrance
    if hindrance is not None and hindrance.reason in (Reason.APPLY_FAILED, Reason.OPTIMIZING):
        return True
    return progressing.status is ConditionStatus.TRUE


def _hindered(standing: Standing) -> _Statement | None:
    """Return the hindrance as a statement to build on."""
    hindrance = standing.hindrance
    if hindrance is None:
        return None
    return _statement(
        ConditionType.STALLED, ConditionStatus.TRUE, hindrance.reason, hindrance.message
    )


def _nothing_asked(type_: ConditionType, status: ConditionStatus) -> _Statement:
    """Return a statement about a deployment without units."""
    return _Statement(type_, status, Reason.SCALED_TO_ZERO, NOTHING_ASKED)


def _statement(
    type_: ConditionType, status: ConditionStatus, reason: str, message: str
) -> _Statement:
    """Return a statement whose message fits."""
    return _Statement(type_, status, reason, clip(message, MESSAGE_LIMIT))


def _as(
    type_: ConditionType, basis: _Statement, status: ConditionStatus | None = None
) -> _Statement:
    """Return the same statement under another type."""
    return _Statement(type_, status or basis.status, basis.reason, basis.message)


def _timed(previous: Condition | None, statement: _Statement, standing: Standing) -> Condition:
    """Return the condition; it keeps its time while its status is the same."""
    is_same = previous is not None and previous.status is statement.status
    return Condition(
        type=statement.type,
        status=statement.status,
        reason=statement.reason,
        message=statement.message,
        last_transition_time=previous.last_transition_time
        if previous is not None and is_same
        else standing.facts.now,
        observed_generation=standing.generation,
    )
