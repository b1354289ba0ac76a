"""What is decided of an EdgeDeployment, before it becomes objects and a status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    Measured,
    RejectedNode,
    Stage,
    UpgradeOffer,
)
from skerry_operator.constants import ANNOTATION_ABORT, ANNOTATION_PROMOTE
from skerry_operator.decide.analysis.assess import analyse
from skerry_operator.decide.analysis.baseline import recordable
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.facts import RolloutFacts, Uncovered, UnitFacts
from skerry_operator.decide.fleet.covering import keepsake, uncovered
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.replaced import why_replaced
from skerry_operator.decide.fleet.seating import Intent, Seat, seat_units
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Marks, Observed
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.rollout.engine import (
    EngineState,
    Transition,
    interval_s,
    step,
    subject_of,
)
from skerry_operator.decide.rollout.hold import hold
from skerry_operator.decide.rollout.state import MEASURED_STAGES
from skerry_operator.decide.told.conditions import (
    Hindrance,
)
from skerry_operator.plan.upgrade import is_return


@dataclass(frozen=True)
class RolloutDecision:
    """What was found and decided, before it becomes objects and a status."""

    fleet: Fleet
    placement: PlacementResult
    """Of the revision that is being tried."""
    rejected: tuple[RejectedNode, ...]
    """Nodes without a place: by what is tried, or by a newer version that is held for it."""
    facts: RolloutFacts
    transition: Transition
    seats: tuple[Seat, ...]
    placements: Mapping[str, PlacementResult]
    """Of every revision that counted."""
    trouble: Hindrance | None
    """What is wrong with the model, when a kept revision is wanted in its place; or a placement
    that is held."""
    excluded: tuple[Uncovered, ...] = ()
    """Units that keep what they have, as what is tried has no build for them."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """What pods had counted at the last measurements."""
    offer: UpgradeOffer | None = None
    """Images of the operator that what runs does not run in."""
    others: tuple[UnitFacts, ...] = ()
    """Other units on which what is tried has no place, and that keep what was there before."""


def decide(fleet: Fleet, wanted: str, trouble: Hindrance | None) -> RolloutDecision:
    """Return what the engine and the placement make of what was observed."""
    state = EngineState.from_status(fleet.observed.deployment.status)
    bare = () if wanted == state.stable else uncovered(fleet, wanted)
    tried = _tried(fleet, state, wanted, bare)
    placement = fleet.place(tried)
    facts, marks = _facts(fleet, placement, state, wanted)
    facts = replace(facts, uncovered=bare, **_news(fleet, placement, state, wanted))
    transition = step(fleet.observed.deployment.spec.rollout, state, facts)
    intent = _intent(fleet, placement, transition, tried)
    seats = seat_units(fleet, intent)
    excluded = _excluded(fleet, intent)
    return RolloutDecision(
        fleet=fleet,
        placement=placement,
        rejected=_rejected(fleet, state, tried, wanted) if bare else placement.rejected,
        facts=facts,
        transition=transition,
        seats=seats,
        placements=intent.placements,
        trouble=trouble,
        excluded=excluded,
        marks=marks,
        others=_others(fleet, intent, placement, excluded, _trial(fleet, state, wanted)),
    )


def _news(
    fleet: Fleet, placement: PlacementResult, state: EngineState, wanted: str
) -> dict[str, Any]:
    """Return what is said and known of a revision that is about to begin."""
    if wanted in {state.stable, state.target} or _is_refused(fleet, state, wanted):
        return {}
    found = {why for cell in placement.cells for why in why_replaced(fleet, wanted, cell)}
    return {"replaced": tuple(sorted(found)), "is_return": is_return(fleet, state, wanted)}


def _tried(fleet: Fleet, state: EngineState, wanted: str, bare: tuple[Uncovered, ...]) -> str:
    """Return the revision whose placement says who is eligible.

    That is the wanted one, unless it is not tried (again): it failed before, or it is held. One
    that is under way already is not held any more.
    """
    rollout, base = fleet.observed.deployment.spec.rollout, state.base
    is_held = wanted != state.target and hold(rollout, state, wanted, bare) is not None
    is_kept_back = (_is_refused(fleet, state, wanted) or is_held) and base in fleet.snapshots
    return base if base is not None and is_kept_back else wanted


def _is_refused(fleet: Fleet, state: EngineState, wanted: str) -> bool:
    """Tell whether a revision failed before, under the same retry text."""
    retry = fleet.observed.deployment.spec.rollout.retry
    return state.refusal_of(wanted, retry) is not None


def _rejected(
    fleet: Fleet, state: EngineState, tried: str, wanted: str
) -> tuple[RejectedNode, ...]:
    """Return the nodes without a place, of the version that people wait for.

    While that one is held, its reasons are what they look for: what is served has its place.
    """
    is_held = tried != wanted and not _is_refused(fleet, state, wanted)
    return fleet.place(wanted if is_held else tried).rejected


def _facts(
    fleet: Fleet, placement: PlacementResult, state: EngineState, wanted: str
) -> tuple[RolloutFacts, Mapping[tuple[str, str], Marks]]:
    observed = fleet.observed
    subject = subject_of(state, wanted)
    units = unit_facts(fleet, placement.cell_of, _trial(fleet, state, wanted))
    evidence = _evidence(observed, subject, units)
    metrics = observed.deployment.spec.rollout.analysis.metrics
    annotations = observed.deployment.metadata.annotations
    analysis = analyse(metrics, evidence)
    facts = RolloutFacts(
        now=observed.now,
        wanted=wanted,
        target=subject,
        units=units,
        assessment=analysis.assessment,
        measured=analysis.measured,
        baseline=recordable(metrics, evidence),
        restorable=frozenset(fleet.snapshots),
        versions={name: one.model.version for name, one in fleet.snapshots.items()},
        promote=annotations.get(ANNOTATION_PROMOTE),
        abort=annotations.get(ANNOTATION_ABORT),
    )
    return facts, analysis.marks


def _trial(fleet: Fleet, state: EngineState, wanted: str) -> OnTrial:
    subject = subject_of(state, wanted)
    return OnTrial(
        subject,
        fleet.observed.deployment.spec.rollout.retry,
        subject == state.stable,
        None if state.rollout.stage is Stage.IDLE else state.rollout.started_at,
    )


def _evidence(observed: Observed, subject: str, units: tuple[UnitFacts, ...]) -> Evidence:
    status, rollout = observed.deployment.status, observed.deployment.spec.rollout
    stable = status.stable_revision
    is_measured = status.rollout.stage in MEASURED_STAGES and status.target_revision == subject
    return Evidence(
        target=subject,
        reports=observed.reports,
        cell_of={unit.name: unit.cell for unit in units},
        units=frozenset(unit.name for unit in units if unit.reachable and unit.assigned == subject),
        stable=stable,
        stable_units=frozenset(
            unit.name
            for unit in units
            if unit.reachable and stable is not None and unit.assigned == stable
        ),
        baseline=status.rollout.baseline,
        samples=observed.samples,
        measured=_measured(observed, subject) if is_measured else None,
        marks=observed.marks,
        now=observed.now,
        interval_s=interval_s(rollout),
        step_began=status.rollout.step_started_at,
    )


def _measured(observed: Observed, subject: str) -> tuple[Measured, ...]:
    """Return the measurements that count: a retry begins without those of the trial before."""
    status, retry = observed.deployment.status, observed.deployment.spec.rollout.retry
    is_tried_again = any(
        past.revision == subject and past.retry != retry for past in status.failed_revisions
    )
    return () if is_tried_again else status.rollout.measured


def _intent(fleet: Fleet, placement: PlacementResult, transition: Transition, tried: str) -> Intent:
    """Return what every unit is meant to have.

    One that only stable can serve stays on it; one that neither can serve keeps what it has.
    """
    stable = transition.state.base
    revisions = {*transition.desired.values(), stable, tried} - {None}
    only_stable = fleet.place(stable).cell_of if stable else {}
    desired = {
        **dict.fromkeys(only_stable, stable),
        **{unit: transition.desired.get(unit) for unit in placement.cell_of},
    }
    if stable is not None and keeps_uncovered(fleet):
        desired |= _keepsakes(fleet, desired)
    revisions |= {*desired.values()} - {None}
    placements = {name: fleet.place(name) for name in sorted(str(one) for one in revisions)}
    return Intent(desired, stable, tried, placements)


def keeps_uncovered(fleet: Fleet) -> bool:
    """Tell whether units without a build of stable keep what they have."""
    return fleet.observed.deployment.spec.rollout.on_uncovered is not OnUncovered.ALLOW


def _keepsakes(fleet: Fleet, desired: Mapping[str, str | None]) -> dict[str, str]:
    """Return what units keep whose intended revision has no build for them."""
    kept = {}
    for unit in fleet.listed:
        revision = desired.get(unit)
        if revision is not None and unit in fleet.place(revision).cell_of:
            continue
        if found := keepsake(fleet, unit):
            kept[unit] = found
    return kept


def _excluded(fleet: Fleet, intent: Intent) -> tuple[Uncovered, ...]:
    """Return the units that keep what they have, as what is tried has no build for them."""
    if not keeps_uncovered(fleet):
        return ()
    found = uncovered(fleet, intent.newest)
    return tuple(one for one in found if intent.desired.get(one.name) == one.keeps)


def _others(
    fleet: Fleet,
    intent: Intent,
    placement: PlacementResult,
    excluded: tuple[Uncovered, ...],
    trial: OnTrial,
) -> tuple[UnitFacts, ...]:
    """Return the facts of the units that only what was there before has a place for."""
    known = {*placement.cell_of, *(one.name for one in excluded)}
    kept = intent.placements[intent.stable].cell_of if intent.stable else {}
    return unit_facts(fleet, {u: cell for u, cell in kept.items() if u not in known}, trial)
