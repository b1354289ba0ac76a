"""Who an object belongs to: by the reference that Kubernetes itself goes by, never by a label.

A label is a word that everybody may write. A controller reference is one too, but it names a uid:
it speaks of one very object, and Kubernetes itself collects what refers to none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    FIELD_MANAGER,
    LABEL_DEPLOYMENT,
    LABEL_MODEL,
)
from skerry_operator.decide.names import bounded
from skerry_operator.kube.paths import API_VERSIONS

LABELLED = {"EdgeDeployment": LABEL_DEPLOYMENT, "EdgeModel": LABEL_MODEL}
"""Kind -> the label of a generated object that tells the name of its owner of that kind."""


class Owner(NamedTuple):
    """One very object that others belong to."""

    kind: str
    namespace: str
    name: str
    uid: str
    """Empty: an object of that name that is still to come, or to come again (an orphan's)."""

    @property
    def orphans(self) -> Owner:
        """Return under what name objects stand that belong to nobody, and were made for it."""
        return Owner(self.kind, self.namespace, bounded(self.name), "")


def controller_of(raw: Mapping[str, Any]) -> Owner | None:
    """Return the owner that controls an object; None: nobody, or a kind that is not ours."""
    metadata = raw["metadata"]
    for one in metadata.get("ownerReferences") or ():
        if one.get("controller"):
            return _owner(one, metadata.get("namespace", ""))
    return None


def _owner(reference: Mapping[str, Any], namespace: str) -> Owner | None:
    kind, uid = str(reference.get("kind", "")), str(reference.get("uid", ""))
    group = str(reference.get("apiVersion", "")).rpartition("/")[0]
    if not uid or group != API_VERSIONS.get(kind, "?/").rpartition("/")[0]:
        return None
    return Owner(kind, namespace, str(reference.get("name", "")), uid)


def owner_of_child(raw: Mapping[str, Any]) -> Owner | None:
    """Return whose a generated object is; what nobody controls is an orphan of its label's name."""
    controller = controller_of(raw)
    if controller is not None:
        return controller
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    for kind, name in LABELLED.items():
        if label := labels.get(name):
            return Owner(kind, metadata.get("namespace", ""), label, "")
    return None


def is_made_by_us(raw: Mapping[str, Any]) -> bool:
    """Tell whether the server's own book says that our server-side apply wrote the object.

    A copy that somebody made (`kubectl get -o yaml | kubectl create -f -`) carries our labels, our
    digest and even our owner reference, but not our entry: the server writes the book itself.
    """
    metadata = raw["metadata"]
    has_digest = bool((metadata.get("annotations") or {}).get(ANNOTATION_DIGEST))
    return has_digest and any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource")
    )
