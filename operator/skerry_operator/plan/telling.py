"""What a decision, or what keeps one from being made, says in status and events."""

from __future__ import annotations

from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.constants import (
    ConditionType,
    Reason,
)
from skerry_operator.decide.facts import Assessment, RolloutFacts, Verdict
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.planned import EventNote, Plan
from skerry_operator.decide.rollout.engine import (
    EngineState,
    Transition,
)
from skerry_operator.decide.rollout.look import Finding
from skerry_operator.decide.told.conditions import (
    NOTHING_ASKED,
    Hindrance,
    Placedness,
    Standing,
)
from skerry_operator.decide.told.explain import (
    NOBODY_SELECTED,
    is_all_placed,
    placed_finding,
    shortage,
)
from skerry_operator.decide.told.status import Decided, changed, hindered_status, next_status
from skerry_operator.plan.decision import RolloutDecision
from skerry_operator.plan.settings import PlanSettings


def hindered_plan(fleet: Fleet, hindrance: Hindrance, settings: PlanSettings) -> Plan:
    """Return a plan that says why, and leaves everything that runs as it is."""
    observed = fleet.observed
    state = EngineState.from_status(observed.deployment.status)
    subject = state.target or state.stable or ""
    trial = OnTrial(subject, observed.deployment.spec.rollout.retry, subject == state.stable)
    facts = RolloutFacts(
        now=observed.now,
        wanted="",
        units=unit_facts(fleet, fleet.listed_cells, trial),
        assessment=Assessment(Verdict.INCONCLUSIVE, hindrance.message),
    )
    status = hindered_status(fleet, _standing(fleet, facts, None, hindrance))
    return Plan(
        status=changed(observed.deployment.status, status),
        events=hindrance_events(observed, hindrance),
        requeue_after_s=settings.resync_s,
    )


def hindrance_events(observed: Observed, hindrance: Hindrance) -> tuple[EventNote, ...]:
    """Say it once: while Ready gives the same reason, people have been told."""
    told = any(
        condition.type == ConditionType.READY and condition.reason == hindrance.reason
        for condition in observed.deployment.status.conditions
    )
    return () if told else (EventNote(True, hindrance.reason, hindrance.message),)


def _standing(
    fleet: Fleet,
    facts: RolloutFacts,
    transition: Transition | None,
    hindrance: Hindrance | None,
    placement: PlacementResult | None = None,
) -> Standing:
    return Standing(
        generation=fleet.observed.deployment.metadata.generation,
        facts=facts,
        transition=transition,
        hindrance=hindrance,
        placed=None if placement is None else _placedness(fleet, placement),
        is_scaled_to_zero=fleet.is_scaled_to_zero,
        polled=fleet.observed.polled,
        failure_limit=fleet.observed.deployment.spec.rollout.failure_limit,
    )


def _placedness(fleet: Fleet, placement: PlacementResult) -> Placedness:
    if fleet.is_scaled_to_zero:
        return Placedness(True, Finding(Reason.SCALED_TO_ZERO, NOTHING_ASKED))
    return Placedness(is_all_placed(placement), placed_finding(placement))


def decided_status(decision: RolloutDecision) -> EdgeDeploymentStatus:
    """Return the status that a decision makes."""
    standing = _standing(
        decision.fleet,
        decision.facts,
        decision.transition,
        _reservation(decision),
        decision.placement,
    )
    return next_status(
        Decided(decision.fleet, decision.placement, standing, decision.transition, decision.seats)
    )


def _reservation(decision: RolloutDecision) -> Hindrance | None:
    """Return what is wrong although decisions are made."""
    error = decision.fleet.observed.apply_error
    if error is not None:
        return Hindrance(Reason.APPLY_FAILED, error)
    if decision.trouble is not None:
        return decision.trouble
    if decision.placement.unplaced:
        return Hindrance(Reason.INSUFFICIENT_CAPACITY, shortage(decision.placement))
    if decision.placement.cells or decision.fleet.is_scaled_to_zero:
        return None
    rejected = decision.placement.rejected
    if not rejected:
        return Hindrance(
            Reason.NO_ELIGIBLE_NODES,
            NOBODY_SELECTED,
        )
    first = rejected[0]
    return Hindrance(
        Reason.NO_ELIGIBLE_NODES,
        f"none of {len(rejected)} matching nodes fits; "
        f"{first.node}: {first.reason}: {first.message}",
    )
