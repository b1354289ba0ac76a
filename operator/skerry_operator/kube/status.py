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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry_operator.api.base import KubeModel
from skerry_operator.constants import API_VERSION
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.paths import object_path
from skerry_operator.kube.raw import Raw


@dataclass(frozen=True)
class Target:
    """The object whose status is written, as it was read."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int


def target_of(kind: str, entry: Entry[Raw]) -> Target:
    """Return the object in the cache as the target of a write."""
    namespace, name = entry.key
    return Target(kind, namespace, name, entry.uid, entry.version)


def write_status(client: KubeClient, target: Target, status: KubeModel) -> Json:
    """Write the status and return the object as the server holds it now.

    Raises:
        Conflict: the object changed since it was read, or is another one of the same name.
        NotFound: the object is gone.
        KubeError: it was not written for another reason.
    """
    path = f"{object_path(target.kind, target.namespace, target.name)}/status"
    body = {
        "apiVersion": API_VERSION,
        "kind": target.kind,
        "metadata": _identity(target),
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return client.apply(path, body, target.kind)


def _identity(target: Target) -> Mapping[str, str]:
    identity = {"name": target.name, "namespace": target.namespace, "uid": target.uid}
    version = {"resourceVersion": str(target.version)} if target.version else {}
    return identity | version
