"""The ControllerRevision that remembers what came of a build: no Job makes it twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgemodel_optimize import Built
from skerry_operator.decide.planned import Manifest
from skerry_operator.manifests.metadata import build_labels, build_name, manifest, ref

_FIELD = "build"


def build_record(owner: ObjectMeta, result: Built) -> Manifest:
    """Return the ControllerRevision of a result. Its data never changes."""
    return manifest(
        owner,
        ref("ControllerRevision", build_name(owner.name, result.job, result.key)),
        {"data": {_FIELD: result.to_dict()}, "revision": 1},
        build_labels(owner.name, result.job),
        owner_kind="EdgeModel",
    )


def read_record(raw: Mapping[str, Any]) -> Built | None:
    """Return the result in a ControllerRevision; None: it is of another kind.

    Raises:
        pydantic.ValidationError: it holds none that can be read.
    """
    data = raw.get("data")
    if not isinstance(data, Mapping) or _FIELD not in data:
        return None
    return Built.model_validate(data[_FIELD])
