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

from skerry_operator.constants import ANNOTATION_DIGEST, ANNOTATION_NUDGE, LABEL_REVISION
from skerry_operator.decide.planned import Manifest, Nudge, ObjectRef
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.errors import Conflict, NotFound
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


def apply(client: KubeClient, namespace: str, manifest: Manifest, current: int = 0) -> Applied:
    """Apply one object; `current` is its version before, 0 when it does not exist.

    Drift is repaired here too: the planner asks for an object again when its digest annotation
    differs, and kube/read.py shows no digest for one that was edited by hand.

    Raises:
        KubeError: it was not applied.
    """
    path = object_path(manifest.ref.kind, namespace, manifest.ref.name)
    raw = client.apply(path, _with_digest(manifest), manifest.ref.kind)
    return Applied(manifest.ref, _outcome(current, version_of(raw)), raw)


def _outcome(before: int, after: int) -> Outcome:
    if not before:
        return Outcome.CREATED
    return Outcome.UNCHANGED if before == after else Outcome.CONFIGURED


def _with_digest(manifest: Manifest) -> Mapping[str, Any]:
    """Return the body with its digest annotation, should the builder not have set it."""
    metadata = manifest.body.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_DIGEST: manifest.digest}
    return {**manifest.body, "metadata": {**metadata, "annotations": annotations}}


def prune(client: KubeClient, namespace: str, ref: ObjectRef, uid: str | None) -> Applied:
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
