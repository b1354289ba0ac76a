"""A plan: everything that one reconcile will do, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelStatus
from skerry_operator.decide.facts import Value
from skerry_operator.decide.observed import Marks
from skerry_operator.decide.placement.placed import PlacementResult


@dataclass(frozen=True)
class ObjectRef:
    """An object in the deployment's namespace."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class Manifest:
    """An object to apply with server-side apply, whole as the operator wants it."""

    ref: ObjectRef
    body: Mapping[str, Any]
    digest: str
    """Hash of the body; also carried as an annotation, so that an equal object is not written."""


@dataclass(frozen=True)
class Nudge:
    """One patch of one pod: its revision label and the annotation that wakes its kubelet."""

    pod: str
    revision: str
    digest: str


@dataclass(frozen=True)
class Sight:
    """A unit as people would see it at one look."""

    reachable: bool
    serving: str | None
    """Revision that it serves, for people."""
    assigned: str | None
    """Revision that it is given."""
    is_on_its_way: bool
    """Its pod is being replaced because somebody asked for that."""
    state: str
    """What keeps it from serving."""


@dataclass(frozen=True)
class EventNote:
    """An event for people."""

    warning: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: records, status, objects, nudges, prune, events.

    Records (snapshots) come first because the status names them. The status comes before the
    objects: an intent is on record before its effect, so a crash between two writes loses no
    decision, and the next reconcile carries out the same one.
    """

    records: tuple[Manifest, ...] = ()
    status: EdgeDeploymentStatus | None = None
    """None: leave it as it is."""
    objects: tuple[Manifest, ...] = ()
    nudges: tuple[Nudge, ...] = ()
    prune: tuple[ObjectRef, ...] = ()
    events: tuple[EventNote, ...] = ()
    requeue_after_s: float | None = None
    """When to look again although nothing changed; None: only on an event."""
    watch_units: bool = False
    """True: a rollout is under way, read the pods at every look."""
    placements: Mapping[str, PlacementResult] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Revision -> its placement, for the next look to begin with."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict, compare=False, repr=False)
    """(metric with its limit, cell) -> what was counted at its last measurement."""
    sights: Mapping[str, Sight] = field(default_factory=dict, compare=False, repr=False)
    """Unit -> how it is now (`told/sights.py`), for the next look to tell what changed."""
    values: tuple[Value, ...] = ()
    """What the analysis measured, for the operator's own metrics; nothing when no rollout runs."""


@dataclass(frozen=True)
class ModelPlan:
    """What to do for an EdgeModel."""

    status: EdgeModelStatus
    events: tuple[EventNote, ...] = ()
    records: tuple[Manifest, ...] = ()
    objects: tuple[Manifest, ...] = ()
    nudges: tuple[Nudge, ...] = ()
    prune: tuple[ObjectRef, ...] = ()
    requeue_after_s: float | None = None
