"""The plan for an EdgeDeployment: all that one reconcile will do, from one frozen observation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import RENUDGE_S, nudges, renudge_in_s
from skerry_operator.decide.observed import Observed, ObservedCell
from skerry_operator.decide.placement.place import PlacementResult
from skerry_operator.decide.planned import Plan
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.rollout.engine import (
    interval_s,
)
from skerry_operator.decide.told.explain import (
    placement_events,
)
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
from skerry_operator.plan.telling import decided_status, hindered_plan, hindrance_events
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
    return _decided_plan(
        decide(fleet_with(snapshot), snapshot.revision, trouble), snapshot, settings
    )


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
        fleet, snapshot.revision, decision.transition, decision.seats, settings.fetch_allow
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
            *placement_events(fleet, decision.placement, decision.seats),
            *(hindrance_events(observed, decision.trouble) if decision.trouble else ()),
        ),
        requeue_after_s=_requeue_s(decision, settings, cells),
        watch_units=decision.transition.active,
        placements=decision.placements,
        values=decision.facts.assessment.values if decision.transition.active else (),
    )


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
