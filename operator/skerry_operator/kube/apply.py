"""Server-side apply of generated objects, nudges of pods, and the removal of what is over.

Blocking. Each function does one object; reconcile.py decides about order and parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from typing_extensions import override

from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    ANNOTATION_NUDGE,
    LABEL_DEPLOYMENT,
    LABEL_REVISION,
)
from skerry_operator.decide.planned import Manifest, Nudge, ObjectRef
from skerry_operator.kube.children import owner_uid_of
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.errors import Conflict, NotFound, Taken
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


@dataclass(frozen=True)
class ChangeSet:
    """What a reconcile changed in the cluster."""

    applied: tuple[Applied, ...] = ()
    nudged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        changed = any(one.outcome is not Outcome.UNCHANGED for one in self.applied)
        return changed or bool(self.nudged)

    def __add__(self, other: ChangeSet) -> ChangeSet:
        return ChangeSet(self.applied + other.applied, self.nudged + other.nudged)

    @override
    def __str__(self) -> str:
        parts = [f"{one.ref.kind}/{one.ref.name} {one.outcome}" for one in self.applied]
        return ", ".join(parts + ([f"{len(self.nudged)} pods nudged"] if self.nudged else []))


@dataclass(frozen=True)
class Current:
    """An object before its write, as the cache knows it."""

    version: int
    deployment: str
    """Deployment label: whose it is."""
    owner_uid: str
    """uid of the owner that controls it; empty: nobody's."""


def apply(
    client: KubeClient, namespace: str, manifest: Manifest, current: Current | None = None
) -> Applied:
    """Apply one object, unless its name is taken.

    The watches show only what carries our labels. So what they do not show is asked for once
    before it is made: a forced apply would merge our fields into a user's own object, make us its
    owner, and delete it with the deployment.

    Drift is repaired here too: the planner asks for an object again when its digest annotation
    differs, and kube/read.py shows no digest for one that was edited by hand.

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
    return Current(version_of(raw), _deployment_of(raw), owner_uid_of(raw))


def _refuse_if_taken(manifest: Manifest, current: Current | None) -> None:
    """Raise Taken unless the object is of this deployment: now, or before it was made anew."""
    if current is None or current.deployment == _deployment_of(manifest.body):
        return
    if current.owner_uid and current.owner_uid == owner_uid_of(manifest.body):
        return  # ours, and somebody edited its label
    owner = f"EdgeDeployment {current.deployment}" if current.deployment else "somebody else"
    raise Taken(
        f"{manifest.ref.kind} {manifest.ref.name!r} exists and belongs to {owner}: "
        "rename or delete it, or give this EdgeDeployment another name"
    )


def _deployment_of(raw: Mapping[str, Any]) -> str:
    labels: Mapping[str, str] = (raw.get("metadata") or {}).get("labels") or {}
    return labels.get(LABEL_DEPLOYMENT, "")


def _outcome(before: Current | None, after: int) -> Outcome:
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if before.version == after else Outcome.CONFIGURED


def _with_digest(manifest: Manifest) -> Mapping[str, Any]:
    """Return the body with its digest annotation, should the builder not have set it."""
    metadata = manifest.body.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_DIGEST: manifest.digest}
    return {**manifest.body, "metadata": {**metadata, "annotations": annotations}}


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
