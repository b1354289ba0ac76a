"""The ControllerRevision that keeps all that is needed to run a revision again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from skerry_operator.api.base import Name, ObjectMeta
from skerry_operator.constants import ANNOTATION_MODELS, LABEL_REVISION
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.revision import Snapshot
from skerry_operator.manifests.metadata import manifest, ref, snapshot_name

_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[Name, ...])


def build_snapshot(owner: ObjectMeta, snapshot: Snapshot) -> Manifest:
    """Return the ControllerRevision of a snapshot.

    Its data never changes, which the API server sees to. The names of the models may: they stand
    in an annotation, and in the data as they were on the first day.
    """
    return manifest(
        owner,
        ref("ControllerRevision", snapshot_name(owner.name, snapshot.revision)),
        {"data": snapshot.to_dict(), "revision": 1},  # the order is kept in the status
        {LABEL_REVISION: snapshot.revision},
        {ANNOTATION_MODELS: ",".join(snapshot.model_names)},
    )


def read_snapshot(raw: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot of a ControllerRevision, with the names of today.

    Raises:
        pydantic.ValidationError: it holds none.
    """
    snapshot = Snapshot.model_validate(raw.get("data"))
    annotations = (raw.get("metadata") or {}).get("annotations") or {}
    try:
        names = _NAMES.validate_python(annotations.get(ANNOTATION_MODELS, "").split(","))
    except ValidationError:  # lost, or edited into what nobody can ask for
        return snapshot
    return snapshot.named(names)
