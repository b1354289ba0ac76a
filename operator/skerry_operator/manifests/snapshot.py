"""The ControllerRevision that keeps all that is needed to run a revision again."""

from __future__ import annotations

from skerry_operator.api.base import ObjectMeta
from skerry_operator.constants import LABEL_REVISION
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.revision import Snapshot
from skerry_operator.manifests.metadata import manifest, ref, snapshot_name


def build_snapshot(owner: ObjectMeta, snapshot: Snapshot) -> Manifest:
    """Return the ControllerRevision of a snapshot; its data never changes."""
    return manifest(
        owner,
        ref("ControllerRevision", snapshot_name(owner.name, snapshot.revision)),
        {"data": snapshot.to_dict(), "revision": 1},  # the order is kept in the status
        {LABEL_REVISION: snapshot.revision},
    )
