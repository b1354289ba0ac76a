"""The status of a deployment, out of what was observed and what was decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment_status import (
    SIGNERS_LIMIT,
    CellStatus,
    DownloadStatus,
    EdgeDeploymentStatus,
    LostHardware,
    RejectedNode,
    UnitCounts,
    UpgradeOffer,
)
from skerry_operator.constants import LABEL_DEPLOYMENT
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.outage import Outages, measure
from skerry_operator.decide.fleet.seating import Seat
from skerry_operator.decide.fleet.shrink import in_force
from skerry_operator.decide.names import bounded
from skerry_operator.decide.placement.place import Cell, PlacementResult
from skerry_operator.decide.reported import ReportedServing
from skerry_operator.decide.rollout.engine import Transition, step_label
from skerry_operator.decide.rollout.state import REASON_LIMIT, clip
from skerry_operator.decide.told.conditions import Standing, conditions, phase
from skerry_operator.decide.told.downloads import next_prefetch

REJECTED_LIMIT = 20
LOST_LIMIT = 100
CELLS_LIMIT = 64


@dataclass(frozen=True)
class Decided:
    """What a reconcile found and decided."""

    fleet: Fleet
    placement: PlacementResult
    """Of the revision that is being tried."""
    rejected: tuple[RejectedNode, ...]
    """Nodes without a place: by what is tried, or by a newer version that is held for it."""
    standing: Standing
    transition: Transition
    seats: tuple[Seat, ...] = ()
    kept: tuple[tuple[Cell, str], ...] = ()
    """Cells of units without a build of what is tried, each with the revision that it keeps."""
    download: DownloadStatus | None = None
    offer: UpgradeOffer | None = None
    """Images of the operator that what runs does not run in."""


def next_status(outcome: Decided) -> EdgeDeploymentStatus:
    """Return the whole next status."""
    deployment = outcome.fleet.observed.deployment
    state, placement = outcome.transition.state, outcome.placement
    snapshot = outcome.fleet.snapshots.get(outcome.standing.facts.wanted)
    outages = measure(outcome.fleet, outcome.seats, state.rollout.started_at)
    lost = sorted(placement.lost.items(), key=lambda item: (item[1], item[0]))[:LOST_LIMIT]
    return state.for_status(_common(outcome.fleet, outcome.standing, state.target)).model_copy(
        update={
            "model_version": snapshot.model.version if snapshot else None,
            "step": step_label(deployment.spec.rollout, state),
            "cells": _cells(outcome, outages),
            "download": outcome.download,
            "prefetch": next_prefetch(
                outcome.fleet.observed.deployment.status.prefetch,
                outcome.standing.facts.units,
                outcome.standing.facts.now,
            )
            if outcome.transition.active
            else None,
            "upgrade": outcome.offer,
            "replacing": outages.replacing,
            "placement_in_force": in_force(deployment.spec.placement),
            "rejected_nodes": outcome.rejected[:REJECTED_LIMIT],
            "rejected_count": len(outcome.rejected),
            "lost_hardware": tuple(LostHardware(node=node, since=since) for node, since in lost),
        }
    )


def hindered_status(fleet: Fleet, standing: Standing) -> EdgeDeploymentStatus:
    """Return the status while nothing can be decided: what runs is counted, all else is kept."""
    return _common(fleet, standing, fleet.observed.deployment.status.target_revision)


def changed(
    current: EdgeDeploymentStatus, proposed: EdgeDeploymentStatus
) -> EdgeDeploymentStatus | None:
    """Return the proposed status, or None when it says the same as the current one."""
    return None if proposed.to_dict() == current.to_dict() else proposed


def _common(fleet: Fleet, standing: Standing, target: str | None) -> EdgeDeploymentStatus:
    current = fleet.observed.deployment.status
    counts = _counts(standing, target)
    return current.model_copy(
        update={
            **_scale(fleet, counts),
            "observed_generation": standing.generation,
            "phase": phase(standing, current.conditions),
            "conditions": conditions(current.conditions, standing),
            "units": counts,
            "units_text": f"{counts.serving}/{counts.eligible}",
        }
    )


def _scale(fleet: Fleet, counts: UnitCounts) -> dict[str, object]:
    """Return how the pods are found, and what the scale subresource reads: a node is no replica."""
    name = bounded(fleet.observed.deployment.metadata.name)
    if fleet.is_per_node:
        return {"service": name, "replicas": None, "selector": None}
    selector = f"{LABEL_DEPLOYMENT}={name}"
    return {"service": name, "replicas": counts.eligible, "selector": selector}


def _counts(standing: Standing, target: str | None) -> UnitCounts:
    units = standing.units
    return UnitCounts(
        eligible=len(units),
        offline=sum(not unit.reachable for unit in units),
        updated=sum(unit.serving is not None and unit.serving == target for unit in units),
        serving=sum(unit.serving is not None for unit in units),
        failed=sum(unit.failure is not None for unit in units),
    )


def _cells(outcome: Decided, outages: Outages) -> tuple[CellStatus, ...]:
    facts = {unit.name: unit for unit in outcome.standing.units}
    earlier = _earlier_outages(outcome)
    cells = tuple(
        _cell(outcome, cell, [facts[unit] for unit in cell.units]).model_copy(
            update={"max_outage_ms": _longest(earlier.get(cell.name), cell, outages)}
        )
        for cell in outcome.placement.cells
    )
    kept = tuple(
        _cell(outcome, cell, [facts[unit] for unit in cell.units]).model_copy(
            update={"keeps": revision}
        )
        for cell, revision in outcome.kept
    )
    return (*cells, *kept)[:CELLS_LIMIT]


def _earlier_outages(outcome: Decided) -> dict[str, int | None]:
    """Return what was measured in this rollout before, by cell; a new rollout begins anew."""
    status = outcome.fleet.observed.deployment.status
    if outcome.transition.state.rollout.started_at != status.rollout.started_at:
        return {}
    return {cell.name: cell.max_outage_ms for cell in status.cells}


def _longest(earlier: int | None, cell: Cell, outages: Outages) -> int | None:
    ended = [outages.ended_ms[unit] for unit in cell.units if unit in outages.ended_ms]
    return max((*ended, *(() if earlier is None else (earlier,))), default=None)


def _cell(outcome: Decided, cell: Cell, units: Iterable[UnitFacts]) -> CellStatus:
    target = outcome.transition.state.target
    provider, percent = _measured(outcome.fleet, cell)
    return CellStatus(
        name=cell.name,
        profile=cell.hardware.profile.name,
        arch=cell.hardware.arch,
        variant=cell.variant.name,
        provider=provider,
        units=len(cell.units),
        updated=sum(unit.serving is not None and unit.serving == target for unit in units),
        accelerated_percent=percent,
        memory=_memory(outcome.fleet, cell),
        not_tried=_not_tried(outcome.fleet, cell),
        signed_by=_signed_by(outcome.fleet, cell),
    )


_MIB = 1024 * 1024


def _served(fleet: Fleet, cell: Cell) -> Iterator[ReportedServing]:
    reports = (fleet.row(unit).report for unit in cell.units)
    return (report.serving for report in reports if report and report.serving)


def _memory(fleet: Fleet, cell: Cell) -> str | None:
    """Return the largest need of the cell's pods in words."""
    found = [served.memory for served in _served(fleet, cell) if served.memory]
    if not found:
        return None
    most = max(found, key=lambda memory: (memory.needed_bytes, memory.how))
    return f"{-(-most.needed_bytes // _MIB)}Mi {most.how}"


def _not_tried(fleet: Fleet, cell: Cell) -> str | None:
    found = sorted(served.not_tried for served in _served(fleet, cell) if served.not_tried)
    return clip(found[0], REASON_LIMIT) if found else None


def _signed_by(fleet: Fleet, cell: Cell) -> tuple[str, ...] | None:
    found = {served.signed_by for served in _served(fleet, cell) if served.signed_by}
    return tuple(sorted(found)[:SIGNERS_LIMIT]) or None


def _measured(fleet: Fleet, cell: Cell) -> tuple[str | None, int | None]:
    """Return the provider that most units have, and the smallest share of the graph on it."""
    reports = (fleet.row(unit).report for unit in cell.units)
    found = [_acceleration(report.serving) for report in reports if report and report.serving]
    known = [measure for measure in found if measure is not None]
    if not known:
        return None, None
    providers = Counter(provider for provider, _ in known)
    usual = min(providers, key=lambda name: (-providers[name], name))
    return clip(usual, REASON_LIMIT), int(min(percent for _, percent in known))


def _acceleration(served: ReportedServing) -> tuple[str, float] | None:
    """Return what was measured; no number, or one beyond the scale, is a pod's nonsense."""
    measure = served.acceleration
    if measure is None or not math.isfinite(measure.delegated_percent):
        return None
    return measure.effective, max(0.0, min(100.0, measure.delegated_percent))
