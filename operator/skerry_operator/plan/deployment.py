"""The plan for an EdgeDeployment: all that one reconcile will do, from one frozen observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.constants import Reason
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import RENUDGE_S, nudges, renudge_in_s
from skerry_operator.decide.fleet.seating import gives_up_its_pod
from skerry_operator.decide.fleet.shrink import held, shrinkage
from skerry_operator.decide.observed import Observed, ObservedCell
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.planned import Plan
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.rollout.engine import EngineState, interval_s
from skerry_operator.decide.told.conditions import Hindrance
from skerry_operator.decide.told.explain import (
    placement_events,
)
from skerry_operator.decide.told.sights import sights
from skerry_operator.decide.told.status import changed
from skerry_operator.decide.told.trouble import find_hindrance, find_trouble
from skerry_operator.manifests.objects import (
    Scene,
    build_objects,
    next_cells,
    only_changed,
    superfluous,
    superfluous_snapshots,
)
from skerry_operator.manifests.snapshot import build_snapshot
from skerry_operator.plan.decision import RolloutDecision, decide
from skerry_operator.plan.settings import PlanSettings
from skerry_operator.plan.telling import (
    decided_status,
    hindered_plan,
    hindrance_events,
    offer_events,
)
from skerry_operator.plan.upgrade import offer_of
from skerry_operator.plan.wanted import kept_snapshot, wanted_snapshot


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
        return hindered_plan(fleet_with(), hindrance, settings)
    trouble = find_trouble(observed, settings.triton_image)
    snapshot = kept_snapshot(observed) if trouble else wanted_snapshot(observed, profiles, settings)
    if snapshot is None:
        assert trouble is not None  # noqa: S101 (a good model has a snapshot)
        return hindered_plan(fleet_with(), trouble, settings)
    fleet = fleet_with(snapshot)
    shrinks = shrinkage(fleet, _in_place(observed))
    if shrinks is not None:
        fleet = held(fleet)
        trouble = trouble or Hindrance(Reason.PLACEMENT_HELD, shrinks.message)
    decision = decide(fleet, snapshot.revision, trouble)
    decision = replace(decision, offer=offer_of(observed, profiles, settings))
    return _decided_plan(decision, snapshot, settings)


def _in_place(observed: Observed) -> str | None:
    """Return the revision that most units have, or are to have, whatever is on trial."""
    state = EngineState.from_status(observed.deployment.status)
    return state.base or state.target


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


def _decided_plan(decision: RolloutDecision, snapshot: Snapshot, settings: PlanSettings) -> Plan:
    fleet, observed = decision.fleet, decision.fleet.observed
    scene = Scene(
        fleet,
        snapshot.revision,
        decision.transition,
        decision.seats,
        settings.fetch,
        observed.deployment.spec.pods.over(settings.pods),
        settings.trust,
    )
    cells = next_cells(scene)
    objects = build_objects(scene, cells, settings.network)
    known = observed.snapshots.get(snapshot.revision)
    is_news = known is None or known.model_names != snapshot.model_names
    return Plan(
        records=(build_snapshot(scene.owner, snapshot),) if is_news else (),
        status=changed(observed.deployment.status, decided_status(decision)),
        objects=only_changed(objects, observed.generated),
        nudges=nudges(fleet, decision.seats, cells),
        prune=(
            *superfluous(objects, observed.generated),
            *superfluous_snapshots(scene, cells),
        ),
        events=(
            *decision.transition.events,
            *placement_events(fleet, decision.placement, decision.rejected, decision.seats),
            *(hindrance_events(observed, decision.trouble) if decision.trouble else ()),
            *offer_events(observed, decision.offer),
        ),
        requeue_after_s=_requeue_s(decision, settings, cells),
        watch_units=decision.transition.active,
        placements=decision.placements,
        sights=sights(decision.facts, _moved(decision)),
        marks=decision.marks,
        values=decision.facts.assessment.values if decision.transition.active else (),
    )


def _moved(decision: RolloutDecision) -> set[str]:
    """Return the units whose pods are exchanged, or are to be: what they lose is asked for."""
    replaced = {one.unit for one in decision.fleet.observed.deployment.status.replacing}
    return replaced | {
        seat.unit for seat in decision.seats if gives_up_its_pod(decision.fleet, seat)
    }


def _requeue_s(
    decision: RolloutDecision, settings: PlanSettings, cells: Mapping[str, ObservedCell]
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
