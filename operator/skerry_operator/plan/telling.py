"""What a decision, or what keeps one from being made, says in status and events."""

from __future__ import annotations

from dataclasses import replace

from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    DownloadStatus,
    EdgeDeploymentStatus,
    UpgradeOffer,
)
from skerry_operator.constants import (
    ConditionType,
    Reason,
)
from skerry_operator.decide.facts import Assessment, RolloutFacts, Uncovered, UnitFacts, Verdict
from skerry_operator.decide.fleet.covering import kept_cells
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.planned import EventNote, Plan
from skerry_operator.decide.rollout.engine import (
    EngineState,
    Transition,
)
from skerry_operator.decide.rollout.hold import lacking
from skerry_operator.decide.rollout.look import Finding
from skerry_operator.decide.rollout.naming import some
from skerry_operator.decide.told.conditions import (
    NOTHING_ASKED,
    Exclusion,
    Hindrance,
    Placedness,
    Standing,
)
from skerry_operator.decide.told.downloads import download_text, next_download
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


def offer_events(observed: Observed, offer: UpgradeOffer | None) -> tuple[EventNote, ...]:
    """Say once what images the operator has that pods do not run in."""
    before = observed.deployment.status.upgrade
    if offer is None or (before is not None and before.image_set == offer.image_set):
        return ()
    return (EventNote(False, Reason.UPGRADE_OFFERED, offer.message),)


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
    fleet = decision.fleet
    standing = replace(
        _standing(
            fleet,
            decision.facts,
            decision.transition,
            _reservation(decision),
            decision.placement,
        ),
        excluded=_exclusion(decision),
        others=decision.others,
        offer=decision.offer.message if decision.offer else "",
    )
    kept = kept_cells(fleet, decision.excluded)
    before = fleet.observed.deployment.status.download
    download = next_download(before, decision.facts.units, decision.facts.now)
    return next_status(
        Decided(
            fleet,
            decision.placement,
            decision.rejected,
            _with_download(standing, download),
            decision.transition,
            decision.seats,
            kept,
            download,
            decision.offer,
        )
    )


def _with_download(standing: Standing, download: DownloadStatus | None) -> Standing:
    """Return the standing whose message has the numbers of the downloads that are waited for."""
    transition = standing.transition
    if download is None or transition is None or transition.reason is not Reason.WAITING_FOR_UNITS:
        return standing
    message = f"{transition.message}; {download_text(download)}"
    return replace(standing, transition=replace(transition, message=message))


def _exclusion(decision: RolloutDecision) -> Exclusion | None:
    """Return the units that keep what they have, and whether that is all right."""
    if not decision.excluded:
        return None
    fleet = decision.fleet
    rollout = fleet.observed.deployment.spec.rollout
    counted = [one for one in decision.excluded if one.counts]
    is_tolerated = (
        rollout.on_uncovered is not OnUncovered.HOLD or len(counted) <= rollout.failure_limit
    )
    told = [f"{one.name}: {one.keeps} ({one.why})" for one in decision.excluded]
    text = f"{len(told)} units keep what they have, as there is no build for them: {some(told)}"
    return Exclusion(
        units=tuple(fact for one in decision.excluded for fact in _facts_of(fleet, one)),
        is_tolerated=is_tolerated,
        message=text if is_tolerated else f"{text}; {lacking(rollout, counted)}",
    )


def _facts_of(fleet: Fleet, one: Uncovered) -> tuple[UnitFacts, ...]:
    return unit_facts(fleet, {one.name: one.cell}, OnTrial(one.keeps, "", is_stable=True))


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
