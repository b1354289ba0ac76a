"""Reads from the EdgeDeployment's status how the change to a version ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from digits_demo.kube import Deployment
from digits_demo.watch import Band, Snapshot
from skerry_operator.api.v1alpha1.edgedeployment_status import FailedRevision, Stage


class Outcome(StrEnum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"


@dataclass(frozen=True)
class Before:
    """What the status said before a version was applied."""

    stable: str | None
    failed: frozenset[str]

    @classmethod
    def of(cls, deployment: Deployment | None) -> Before:
        """Take note of the status."""
        if deployment is None:
            return cls(None, frozenset())
        status = deployment.status
        return cls(status.stable_revision, frozenset(f.revision for f in status.failed_revisions))


@dataclass(frozen=True)
class Ending:
    """The end of a rollout as the status tells it."""

    outcome: Outcome
    revision: str
    reason: str
    message: str
    decided_at: float | None = None
    """When the decision to roll back was made, Unix seconds; None after a promotion."""


def ending(snapshot: Snapshot, version: str, before: Before) -> Ending | None:
    """Tell how the change to `version` ended, None while it is under way.

    It has ended when the operator has seen the version, rests, and every node serves what is
    stable then.
    """
    deployment = snapshot.deployment
    if deployment is None or not _is_at_rest(deployment, version):
        return None
    if snapshot.all_serve != {deployment.status.stable_revision}:
        return None
    return _promoted(deployment, before) or _rolled_back(deployment, before)


def _is_at_rest(deployment: Deployment, version: str) -> bool:
    status = deployment.status
    is_current = status.observed_generation == deployment.generation
    return is_current and status.model_version == version and status.rollout.stage is Stage.IDLE


def _promoted(deployment: Deployment, before: Before) -> Ending | None:
    status = deployment.status
    stable = status.stable_revision
    if stable is None or stable == before.stable or deployment.condition("Ready") != "True":
        return None
    reason, message = status.rollout.reason or "", status.rollout.message or ""
    return Ending(Outcome.PROMOTED, stable, reason, message)


def _rolled_back(deployment: Deployment, before: Before) -> Ending | None:
    status = deployment.status
    fresh = [entry for entry in status.failed_revisions if entry.revision not in before.failed]
    if not fresh or status.stable_revision is None or deployment.condition("Ready") != "False":
        return None
    return _taken_back(fresh[0], status.rollout.rollback_at or fresh[0].at)


def _taken_back(entry: FailedRevision, decided_at: datetime) -> Ending:
    return Ending(
        Outcome.ROLLED_BACK, entry.revision, entry.reason, entry.message, decided_at.timestamp()
    )


def rollback_seconds(bands: Iterable[Band], stable: str, decided_at: float) -> float:
    """Return the time from the decision until the last node served the stable revision again.

    Both clocks are this machine's: the operator's decision and each pod's own switch. Nodes that
    never left the stable revision took no time.
    """
    back = [band.start for band in bands if band.revision == stable and band.start > decided_at]
    return round(max(back, default=decided_at) - decided_at, 3)
