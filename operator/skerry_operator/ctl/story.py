"""One EdgeDeployment as a person asks about it: the object, its revisions and its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.constants import ConditionType

EVENTS_LIMIT = 8
"""How many events are shown, the newest ones."""


@dataclass(frozen=True)
class Event:
    """Something that the operator said about the deployment."""

    when: str
    type: str
    reason: str
    message: str
    count: int = 1


@dataclass(frozen=True)
class Story:
    """All that is told of a deployment."""

    deployment: EdgeDeployment
    wanted: str | None = None
    """Revision that the specs ask for; None: its model cannot be read."""
    known_versions: Mapping[str, str] = field(default_factory=dict)
    """Revision -> version of its model, by the snapshots."""
    events: tuple[Event, ...] = ()

    @property
    def status(self) -> EdgeDeploymentStatus:
        """Return the deployment's status."""
        return self.deployment.status

    @property
    def title(self) -> str:
        """Return `namespace/name`."""
        return f"{self.deployment.metadata.namespace}/{self.deployment.metadata.name}"

    @property
    def is_current(self) -> bool:
        """Tell whether the status speaks of the spec as it is now."""
        return (self.status.observed_generation or 0) >= self.deployment.metadata.generation

    def version_of(self, revision: str | None) -> str | None:
        """Return the version of a revision's model, where anything tells it."""
        promoted = {entry.revision: entry.version for entry in self.status.history}
        failed = {one.revision: one.version for one in self.status.failed_revisions if one.version}
        return ({**failed, **promoted, **self.known_versions}).get(revision or "")

    def condition(self, wanted: ConditionType) -> Condition | None:
        """Return the condition of a type."""
        found = (one for one in self.status.conditions if one.type == wanted)
        return next(found, None)


def amiss(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the conditions that are not as they should be."""
    return tuple(one for one in conditions if _is_amiss(one))


def _is_amiss(condition: Condition) -> bool:
    if condition.type == ConditionType.STALLED:
        return condition.status is ConditionStatus.TRUE
    should_be_true = condition.type in {ConditionType.READY, ConditionType.AVAILABLE}
    return should_be_true and condition.status is not ConditionStatus.TRUE


def read_events(items: Iterable[Mapping[str, Any]]) -> tuple[Event, ...]:
    """Return the newest events, oldest of them first."""
    events = sorted((_event(item) for item in items), key=lambda event: event.when)
    return tuple(events[-EVENTS_LIMIT:])


def _event(item: Mapping[str, Any]) -> Event:
    created = (item.get("metadata") or {}).get("creationTimestamp")
    return Event(
        when=item.get("lastTimestamp") or item.get("eventTime") or created or "",
        type=item.get("type") or "",
        reason=item.get("reason") or "",
        message=item.get("message") or "",
        count=item.get("count") or 1,
    )
