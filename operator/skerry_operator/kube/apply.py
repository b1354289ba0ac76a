"""Server-side apply of generated objects, nudges of pods, and the removal of what is over.

Blocking. Each function does one object; reconcile.py decides about order and parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from typing_extensions import override

from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    ANNOTATION_NUDGE,
    LABEL_REVISION,
)
from skerry_operator.decide.planned import EventNote, Manifest, Nudge, ObjectRef
from skerry_operator.kube.children import owner_uid_of
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.drift import Surplus
from skerry_operator.kube.errors import Conflict, NotFound, Taken
from skerry_operator.kube.owners import LABELLED, is_made_by_us
from skerry_operator.kube.paths import object_path
from skerry_operator.kube.raw import version_of


class Outcome(StrEnum):
    """What became of one object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True)
class Applied:
    """One object after its write."""

    ref: ObjectRef
    outcome: Outcome
    raw: Json
    """As the server holds it now; empty after a delete."""
    is_put_back: bool = False
    """Somebody else had changed it."""


@dataclass(frozen=True)
class ChangeSet:
    """What a reconcile changed in the cluster."""

    applied: tuple[Applied, ...] = ()
    nudged: tuple[str, ...] = ()
    notes: tuple[EventNote, ...] = ()
    """What people ought to be told of it."""

    @property
    def mended(self) -> tuple[ObjectRef, ...]:
        """Return the objects that somebody else had changed."""
        return tuple(one.ref for one in self.applied if one.is_put_back)

    @classmethod
    def of(cls, parts: Sequence[ChangeSet]) -> ChangeSet:
        """Return several as one."""
        return cls(
            tuple(one for part in parts for one in part.applied),
            tuple(pod for part in parts for pod in part.nudged),
            tuple(note for part in parts for note in part.notes),
        )

    def __bool__(self) -> bool:
        changed = any(one.outcome is not Outcome.UNCHANGED for one in self.applied)
        return changed or bool(self.nudged)

    def __add__(self, other: ChangeSet) -> ChangeSet:
        return ChangeSet.of((self, other))

    @override
    def __str__(self) -> str:
        parts = [
            f"{one.ref.kind}/{one.ref.name} {one.outcome}"
            for one in self.applied
            if one.outcome is not Outcome.UNCHANGED
        ]
        return ", ".join(parts + ([f"{len(self.nudged)} pods nudged"] if self.nudged else []))


@dataclass(frozen=True)
class Current:
    """An object before its write, as the cache knows it."""

    version: int
    whose: str
    """Kind and name of whose it is said to be, by its label; empty: nobody says."""
    owner_uid: str
    """uid of the owner that controls it; empty: nobody's."""
    is_ours: bool = False
    """Our server-side apply made it."""


def apply(
    client: KubeClient, namespace: str, manifest: Manifest, current: Current | None = None
) -> Applied:
    """Apply one object, unless its name is taken.

    The watches show only what carries our labels. So what they do not show is asked for once
    before it is made: a forced apply would merge our fields into a user's own object, make us its
    owner, and delete it with the deployment.

    What others wrote beside our fields stays: `cut` takes it out.

    Raises:
        Taken: the name belongs to another deployment, or to a person.
        KubeError: it was not applied.
    """
    path = object_path(manifest.ref.kind, namespace, manifest.ref.name)
    current = current or _existing(client, path)
    _refuse_if_taken(manifest, current)
    raw = client.apply(path, _with_digest(manifest), manifest.ref.kind)
    return Applied(manifest.ref, _outcome(current, version_of(raw)), raw)


def _existing(client: KubeClient, path: str) -> Current | None:
    try:
        raw = client.get(path)
    except NotFound:
        return None
    return Current(version_of(raw), _whose(raw), owner_uid_of(raw), is_made_by_us(raw))


def _refuse_if_taken(manifest: Manifest, current: Current | None) -> None:
    """Raise Taken unless the object is of this owner: now, or before it was made anew.

    A label says nothing of that: everybody can write one. What we made and nobody controls any
    more (an orphan, or one whose owner is gone) goes to the owner of its label's name.
    """
    if current is None:
        return
    if current.owner_uid and current.owner_uid == owner_uid_of(manifest.body):
        return
    if current.is_ours and current.whose == _whose(manifest.body):
        return
    owner = current.whose if current.is_ours and current.whose else "somebody else"
    raise Taken(
        f"{manifest.ref.kind} {manifest.ref.name!r} exists and belongs to {owner}: "
        "rename or delete it, or give this EdgeDeployment another name"
    )


def _whose(raw: Mapping[str, Any]) -> str:
    labels: Mapping[str, str] = (raw.get("metadata") or {}).get("labels") or {}
    named = (f"{kind} {labels[label]}" for kind, label in LABELLED.items() if label in labels)
    return next(named, "")


def _outcome(before: Current | None, after: int) -> Outcome:
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if before.version == after else Outcome.CONFIGURED


def _with_digest(manifest: Manifest) -> Mapping[str, Any]:
    """Return the body with its digest annotation, should the builder not have set it."""
    metadata = manifest.body.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_DIGEST: manifest.digest}
    return {**manifest.body, "metadata": {**metadata, "annotations": annotations}}


def cut(
    client: KubeClient, namespace: str, ref: ObjectRef, surplus: Sequence[Surplus], raw: Json
) -> Json:
    """Take fields of others out of one object, as it was seen; return it as it is then.

    Raises:
        Conflict: it changed since.
        KubeError: nothing was taken out.
    """
    version = raw["metadata"]["resourceVersion"]
    fence = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    # From the back: a member that goes moves those behind it.
    removals = [{"op": "remove", "path": one.pointer} for one in _from_the_back(surplus)]
    path = object_path(ref.kind, namespace, ref.name)
    return client.patch(path, [fence, *removals], ref.kind)


def _from_the_back(surplus: Sequence[Surplus]) -> list[Surplus]:
    def place(one: Surplus) -> list[tuple[int, str]]:
        return [(int(part) if part.isdigit() else -1, part) for part in one.pointer.split("/")]

    return sorted(surplus, key=place, reverse=True)


def prune(client: KubeClient, namespace: str, ref: ObjectRef, uid: str) -> Applied:
    """Delete one object, only the very one that was seen; already gone is as good.

    Raises:
        KubeError: it was not deleted.
    """
    with suppress(NotFound, Conflict):  # gone, or a new one of the same name: not what was to go
        client.delete(object_path(ref.kind, namespace, ref.name), ref.kind, uid)
    return Applied(ref, Outcome.DELETED, {})


def nudge(client: KubeClient, namespace: str, nudge: Nudge) -> Json | None:
    """Patch one pod's revision label and assignment annotation: its kubelet looks at once.

    Returns the pod as the server holds it now; None when it is gone.

    Raises:
        KubeError: it was not patched.
    """
    metadata = {
        "labels": {LABEL_REVISION: nudge.revision},
        "annotations": {ANNOTATION_NUDGE: nudge.digest},
    }
    try:
        return client.merge(object_path("Pod", namespace, nudge.pod), {"metadata": metadata}, "Pod")
    except NotFound:
        return None
