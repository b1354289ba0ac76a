"""What is decided of an EdgeDeployment, before it becomes objects and a status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry_operator.constants import (
    ANNOTATION_ABORT,
    ANNOTATION_PROMOTE,
)
from skerry_operator.decide.analysis.assess import assess
from skerry_operator.decide.analysis.baseline import recordable
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.facts import RolloutFacts, UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.seating import Intent, Seat, seat_units
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.rollout.engine import (
    EngineState,
    Transition,
    step,
    subject_of,
)
from skerry_operator.decide.told.conditions import (
    Hindrance,
)


@dataclass(frozen=True)
class RolloutDecision:
    """What was found and decided, before it becomes objects and a status."""

    fleet: Fleet
    placement: PlacementResult
    facts: RolloutFacts
    transition: Transition
    seats: tuple[Seat, ...]
    placements: Mapping[str, PlacementResult]
    """Of every revision that counted."""
    trouble: Hindrance | None
    """What is wrong with the model; then a kept revision is wanted in its place."""


def decide(fleet: Fleet, wanted: str, trouble: Hindrance | None) -> RolloutDecision:
    """Return what the engine and the placement make of what was observed."""
    state = EngineState.from_status(fleet.observed.deployment.status)
    tried = _tried(fleet, state, wanted)
    placement = fleet.place(tried)
    facts = _facts(fleet, placement, state, wanted)
    transition = step(fleet.observed.deployment.spec.rollout, state, facts)
    intent = _intent(fleet, placement, transition, tried)
    seats = seat_units(fleet, intent)
    return RolloutDecision(fleet, placement, facts, transition, seats, intent.placements, trouble)


def _tried(fleet: Fleet, state: EngineState, wanted: str) -> str:
    """Return the revision whose placement says who is eligible.

    That is the wanted one, unless it failed before and is not tried again.
    """
    retry = fleet.observed.deployment.spec.rollout.retry
    refused = any(past.revision == wanted and past.retry == retry for past in state.failed)
    stable = state.stable
    return stable if refused and stable is not None and stable in fleet.snapshots else wanted


def _facts(
    fleet: Fleet, placement: PlacementResult, state: EngineState, wanted: str
) -> RolloutFacts:
    observed = fleet.observed
    subject = subject_of(state, wanted)
    trial = OnTrial(subject, observed.deployment.spec.rollout.retry, subject == state.stable)
    units = unit_facts(fleet, placement.cell_of, trial)
    evidence = _evidence(observed, subject, units)
    metrics = observed.deployment.spec.rollout.analysis.metrics
    annotations = observed.deployment.metadata.annotations
    return RolloutFacts(
        now=observed.now,
        wanted=wanted,
        target=subject,
        units=units,
        assessment=assess(metrics, evidence),
        baseline=recordable(metrics, evidence),
        restorable=frozenset(fleet.snapshots),
        versions={name: one.model.version for name, one in fleet.snapshots.items()},
        promote=annotations.get(ANNOTATION_PROMOTE),
        abort=annotations.get(ANNOTATION_ABORT),
    )


def _evidence(observed: Observed, subject: str, units: tuple[UnitFacts, ...]) -> Evidence:
    stable = observed.deployment.status.stable_revision
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
        baseline=observed.deployment.status.rollout.baseline,
        samples=observed.samples,
    )


def _intent(fleet: Fleet, placement: PlacementResult, transition: Transition, tried: str) -> Intent:
    """Return what every unit is meant to have; one that only stable can serve stays on it."""
    stable = transition.state.stable
    revisions = {*transition.desired.values(), stable, tried} - {None}
    placements = {
        revision: placement if revision == tried else fleet.place(revision)
        for revision in sorted(str(revision) for revision in revisions)
    }
    only_stable = placements[stable].cell_of if stable else {}
    desired = {
        **dict.fromkeys(only_stable, stable),
        **{unit: transition.desired.get(unit) for unit in placement.cell_of},
    }
    return Intent(desired, stable, tried, placements)
