"""The plan: everything that one reconcile will do, decided from one frozen observation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from skerry_operator.api.v1alpha1.edgedeployment import UpdateMode
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.constants import (
    ANNOTATION_ABORT,
    ANNOTATION_PROMOTE,
    ConditionType,
    Reason,
)
from skerry_operator.decide.analysis.assess import assess
from skerry_operator.decide.analysis.baseline import recordable
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.facts import Assessment, RolloutFacts, UnitFacts, Verdict
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import RENUDGE_S, nudges, renudge_in_s
from skerry_operator.decide.fleet.seating import Intent, Seat, seat_units
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed, ObservedCell
from skerry_operator.decide.placement.place import DEFAULT_GRACE_S, PlacementResult
from skerry_operator.decide.planned import EventNote, ModelPlan, Plan
from skerry_operator.decide.revision import KeptModel, Snapshot, revision_of
from skerry_operator.decide.rollout.engine import (
    EngineState,
    Transition,
    interval_s,
    step,
    subject_of,
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
    placement_events,
    shortage,
)
from skerry_operator.decide.told.status import Decided, changed, hindered_status, next_status
from skerry_operator.decide.told.trouble import find_hindrance, find_trouble
from skerry_operator.decide.told.validate import assess_model
from skerry_operator.manifests.networkpolicy import NetworkDefaults
from skerry_operator.manifests.objects import (
    Scene,
    build_objects,
    next_cells,
    only_changed,
    superfluous,
    superfluous_snapshots,
)
from skerry_operator.manifests.snapshot import build_snapshot
from skerry_runtime.contract import Engine


@dataclass(frozen=True)
class PlanSettings:
    """What the operator's administrator decides."""

    default_image: str
    """Runtime image of profiles that name none."""
    flavor_images: Mapping[str, str] = field(default_factory=dict)
    """Flavor -> runtime image, apart from the default one."""
    triton_image: str | None = None
    """Image of the Triton server where the spec names none."""
    fetch_allow: str = ""
    """Networks that pods may fetch from beyond what is usual, with commas between."""
    accelerator_grace_s: float = DEFAULT_GRACE_S
    """How long a unit stays on a node whose accelerator is not allocatable."""
    network: NetworkDefaults = field(default_factory=NetworkDefaults)
    """Who reaches the pods where the spec is silent."""
    unsettled_s: float = 5.0
    """How often to look while nothing is rolled out, but not every unit serves."""
    resync_s: float = 300.0
    """How often to look although nothing happened."""


def plan(
    observed: Observed,
    profiles: tuple[Profile, ...],
    settings: PlanSettings,
    earlier: Mapping[str, PlacementResult] | None = None,
) -> Plan:
    """Return everything that one reconcile of the deployment will do.

    `earlier` is `Plan.placements` of the last look: it saves work, and the plan is the same
    without it.
    """
    fleet_with = partial(_fleet, observed, profiles, settings, earlier or {})
    if observed.deployment.metadata.deletion_timestamp is not None:
        return Plan()  # the owner references of the objects do it all
    hindrance = find_hindrance(observed, profiles)
    if hindrance is not None:
        return _hindered_plan(fleet_with(), hindrance, settings)
    trouble = find_trouble(observed, settings.triton_image)
    snapshot = (
        _kept_snapshot(observed) if trouble else _wanted_snapshot(observed, profiles, settings)
    )
    if snapshot is None:
        assert trouble is not None  # noqa: S101 (a good model has a snapshot)
        return _hindered_plan(fleet_with(), trouble, settings)
    return _decided_plan(
        _decide(fleet_with(snapshot), snapshot.revision, trouble), snapshot, settings
    )


def plan_model(model: EdgeModel, now: datetime) -> ModelPlan:
    """Return what to do for an EdgeModel: say whether it can be used."""
    return assess_model(model, now)


def _fleet(
    observed: Observed,
    profiles: tuple[Profile, ...],
    settings: PlanSettings,
    earlier: Mapping[str, PlacementResult],
    wanted: Snapshot | None = None,
) -> Fleet:
    own = {wanted.revision: wanted} if wanted else {}
    flavors = frozenset({DEFAULT_FLAVOR, *settings.flavor_images})
    snapshots = {**observed.snapshots, **own}
    return Fleet(observed, profiles, snapshots, settings.accelerator_grace_s, flavors, earlier)


def _kept_snapshot(observed: Observed) -> Snapshot | None:
    """Return what is wanted while the model is in trouble: that what was begun comes to its end.

    A rollout that is under way goes on, and is taken back if it fails; else stable is kept up.
    Nothing new is begun, so without a revision that was known before there is nothing to do.
    """
    status = observed.deployment.status
    is_forward = status.rollout.stage not in {Stage.IDLE, Stage.ROLLING_BACK}
    wanted = status.target_revision if is_forward else status.stable_revision
    return observed.snapshots.get(wanted or "")


def _hindered_plan(fleet: Fleet, hindrance: Hindrance, settings: PlanSettings) -> Plan:
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
    status = hindered_status(fleet, _situation(fleet, facts, None, hindrance))
    return Plan(
        status=changed(observed.deployment.status, status),
        events=_hindrance_events(observed, hindrance),
        requeue_after_s=settings.resync_s,
    )


def _hindrance_events(observed: Observed, hindrance: Hindrance) -> tuple[EventNote, ...]:
    """Say it once: while Ready gives the same reason, people have been told."""
    told = any(
        condition.type == ConditionType.READY and condition.reason == hindrance.reason
        for condition in observed.deployment.status.conditions
    )
    return () if told else (EventNote(True, hindrance.reason, hindrance.message),)


def _situation(
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


def _wanted_snapshot(
    observed: Observed, profiles: tuple[Profile, ...], settings: PlanSettings
) -> Snapshot:
    """Return the snapshot of the revision that the spec asks for: the kept one, or a new one."""
    assert observed.model is not None  # noqa: S101 (a missing model is a hindrance)
    spec = observed.deployment.spec
    revision = revision_of(observed.model.spec, spec)
    kept = observed.snapshots.get(revision)
    if kept:
        return kept.named([spec.model_ref.name])  # another model of equal content may have it
    return Snapshot(
        revision=revision,
        models=(KeptModel(name=spec.model_ref.name, spec=observed.model.spec),),
        runtime=spec.runtime,
        serving=spec.serving,
        default_image=settings.default_image,
        images=_images(profiles, settings),
        triton_image=settings.triton_image if spec.runtime.engine is Engine.TRITON else None,
        pods_of=_pods_of(observed, revision),
    )


def _pods_of(observed: Observed, revision: str) -> str | None:
    """Return the revision whose pods a new one runs in: its own, or those that stable runs in.

    It is kept with the revision, so that a change of `update` alone replaces no pod.
    """
    if observed.deployment.spec.rollout.update is UpdateMode.RECREATE:
        return revision
    stable = observed.snapshots.get(observed.deployment.status.stable_revision or "")
    return stable.pods_of if stable else None


def _images(profiles: tuple[Profile, ...], settings: PlanSettings) -> dict[str, str]:
    """Return the image of every profile that does not run in the default one."""
    found = {
        profile.name: profile.image or settings.flavor_images.get(profile.flavor)
        for profile in profiles
        if profile.image or profile.flavor != DEFAULT_FLAVOR
    }
    return {name: image for name, image in found.items() if image}


@dataclass(frozen=True)
class _Decision:
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


def _decide(fleet: Fleet, wanted: str, trouble: Hindrance | None) -> _Decision:
    state = EngineState.from_status(fleet.observed.deployment.status)
    tried = _tried(fleet, state, wanted)
    placement = fleet.place(tried)
    facts = _facts(fleet, placement, state, wanted)
    transition = step(fleet.observed.deployment.spec.rollout, state, facts)
    intent = _intent(fleet, placement, transition, tried)
    seats = seat_units(fleet, intent)
    return _Decision(fleet, placement, facts, transition, seats, intent.placements, trouble)


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


def _decided_plan(decision: _Decision, snapshot: Snapshot, settings: PlanSettings) -> Plan:
    fleet, observed = decision.fleet, decision.fleet.observed
    scene = Scene(
        fleet, snapshot.revision, decision.transition, decision.seats, settings.fetch_allow
    )
    cells = next_cells(scene)
    objects = build_objects(scene, cells, settings.network)
    known = observed.snapshots.get(snapshot.revision)
    is_news = known is None or known.model_names != snapshot.model_names
    return Plan(
        records=(build_snapshot(scene.owner, snapshot),) if is_news else (),
        status=changed(observed.deployment.status, _status(decision)),
        objects=only_changed(objects, observed.generated),
        nudges=nudges(fleet, decision.seats, cells),
        prune=(
            *superfluous(objects, observed.generated),
            *superfluous_snapshots(scene, cells),
        ),
        events=(
            *decision.transition.events,
            *placement_events(fleet, decision.placement, decision.seats),
            *(_hindrance_events(observed, decision.trouble) if decision.trouble else ()),
        ),
        requeue_after_s=_requeue_s(decision, settings, cells),
        watch_units=decision.transition.active,
        placements=decision.placements,
        values=decision.facts.assessment.values if decision.transition.active else (),
    )


def _status(decision: _Decision) -> EdgeDeploymentStatus:
    situation = _situation(
        decision.fleet,
        decision.facts,
        decision.transition,
        _reservation(decision),
        decision.placement,
    )
    return next_status(
        Decided(decision.fleet, decision.placement, situation, decision.transition, decision.seats)
    )


def _reservation(decision: _Decision) -> Hindrance | None:
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


def _requeue_s(
    decision: _Decision, settings: PlanSettings, cells: Mapping[str, ObservedCell]
) -> float:
    """Return when to look again: the soonest of all reasons to."""
    rollout = decision.fleet.observed.deployment.spec.rollout
    now, grace_s = decision.fleet.observed.now, settings.accelerator_grace_s
    waits = [settings.resync_s]
    if decision.transition.requeue_after_s is not None:
        waits.append(decision.transition.requeue_after_s)
    if decision.transition.active:
        waits.append(interval_s(rollout))
    if any(unit.reachable and unit.serving is None for unit in decision.facts.units):
        waits.append(settings.unsettled_s)
    if any(seat.is_held for seat in decision.seats):
        waits.append(RENUDGE_S)
    renudge_s = renudge_in_s(decision.fleet, decision.seats, cells)
    if renudge_s is not None:
        waits.append(renudge_s + interval_s(rollout) / 10)  # a moment later it is due for sure
    waits += [
        max(0.0, grace_s - (now - since).total_seconds()) + 1
        for since in decision.placement.lost.values()
    ]
    return min(waits)
