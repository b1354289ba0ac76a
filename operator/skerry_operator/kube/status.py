"""The one status write of a reconcile.

Server-side apply of the whole status, forced, with the uid and resourceVersion that were read:

- Apply, not merge-patch: what the new status does not name must go (a condition that is no longer
  true, the soak's start), and a merge-patch would need a null for each. Fields and conditions that
  another controller put there stay its own.
- Apply, not PUT: an older operator that is briefly alive would write back unknown fields as absent.
- With the resourceVersion: a decision made from an older spec or status must not land. The server
  answers 409, the object is read again and decided again. This is the second fence beside the
  Lease, and the one that holds when a process was paused in the middle of a request.
- An equal status is not written at all.
- What the server refuses (an older or newer CRD, a rule of somebody's own) is tried again without
  what is only for people, then without the conditions: the engine's part is what a restarted
  operator goes on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from skerry_operator.api.base import KubeModel
from skerry_operator.constants import API_VERSION, ConditionType, Reason
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.paths import object_path
from skerry_operator.kube.raw import Raw

_MESSAGE_LIMIT = 1024
"""Longest message about a spec that cannot be read."""

_FOR_PEOPLE = frozenset(
    {
        "phase",
        "model_version",
        "step",
        "units",
        "units_text",
        "cells",
        "download",
        "rejected_nodes",
        "rejected_count",
    }
)
"""Fields of a status that no decision reads."""

LADDER: Mapping[str, tuple[frozenset[str], ...]] = {
    "EdgeDeployment": (frozenset(), _FOR_PEOPLE, _FOR_PEOPLE | {"conditions"}),
}
"""Kind -> fields that are left out at the first, second and third try to write a status."""


def ladder_of(kind: str) -> tuple[frozenset[str], ...]:
    """Return what is left out of a status, try by try."""
    return LADDER.get(kind, (frozenset(),))


def is_equal(one: KubeModel, other: KubeModel, without: frozenset[str]) -> bool:
    """Tell whether two statuses say the same, but for some fields."""
    return one.model_dump(exclude=set(without)) == other.model_dump(exclude=set(without))


@dataclass(frozen=True)
class Target:
    """The object whose status is written, as it was read."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int

    @property
    def owner(self) -> Owner:
        """Return the object as the owner of others."""
        return Owner(self.kind, self.namespace, self.name, self.uid)


def target_of(kind: str, entry: Entry[Raw]) -> Target:
    """Return the object in the cache as the target of a write."""
    namespace, name = entry.key
    return Target(kind, namespace, name, entry.uid, entry.version)


def write_status(
    client: KubeClient, target: Target, status: KubeModel, without: frozenset[str] = frozenset()
) -> Json:
    """Write the status, but for some fields, and return the object as the server holds it now.

    Raises:
        Conflict: the object changed since it was read, or is another one of the same name.
        NotFound: the object is gone.
        KubeError: it was not written for another reason.
    """
    content = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(without))
    return write_content(client, target, content)


def write_content(client: KubeClient, target: Target, content: Mapping[str, Any]) -> Json:
    """Write a status that is there as JSON; return and raise as `write_status` does."""
    path = f"{object_path(target.kind, target.namespace, target.name)}/status"
    body = {
        "apiVersion": API_VERSION,
        "kind": target.kind,
        "metadata": _identity(target),
        "status": content,
    }
    return client.apply(path, body, target.kind)


def unreadable(status: Mapping[str, Any], problem: str, now: datetime) -> Json | None:
    """Return a status that says that the object cannot be read; None: it says so already.

    All else stays as it is: what could not be read is the spec, and what runs goes on.
    """
    conditions = list(status.get("conditions") or ())
    ready_before = (one for one in conditions if one.get("type") == ConditionType.READY)
    before: Json = next(ready_before, {})
    message = problem[:_MESSAGE_LIMIT]
    told = {"status": "False", "reason": str(Reason.INVALID_SPEC), "message": message}
    if all(before.get(name) == value for name, value in told.items()):
        return None
    since = before.get("lastTransitionTime") if before.get("status") == "False" else None
    ready = {
        "type": str(ConditionType.READY),
        "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **told,
    }
    others = [one for one in conditions if one.get("type") != ConditionType.READY]
    return {**status, "conditions": [ready, *others]}


def _identity(target: Target) -> Mapping[str, str]:
    identity = {"name": target.name, "namespace": target.namespace, "uid": target.uid}
    version = {"resourceVersion": str(target.version)} if target.version else {}
    return identity | version
