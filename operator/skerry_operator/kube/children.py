"""Raw generated object -> what it carries, whose it is, and whether a person edited it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    FIELD_MANAGER,
    LABEL_CELL,
    LABEL_TEMPLATE,
    LABEL_UNIT,
)
from skerry_operator.decide.observed import ObservedCell, ObservedTemplate
from skerry_operator.decide.revision import Snapshot
from skerry_operator.kube.raw import Raw, metadata_of
from skerry_operator.manifests.snapshot import read_snapshot
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment

_CONTENT = frozenset({"f:spec", "f:data", "f:binaryData", "f:revision"})
"""Top-level fields whose change by others is drift."""

WORKLOADS = frozenset({"DaemonSet", "ReplicaSet"})
"""Kinds that make pods."""


@dataclass(frozen=True)
class Child:
    """A generated object."""

    digest: str
    """Digest annotation: of the manifest that was applied last."""
    edited: bool
    """Somebody else changed its content since."""
    owner_uid: str
    """uid of the EdgeDeployment that owns it."""
    cell: ObservedCell | None = None
    template: ObservedTemplate | None = None
    snapshot: Snapshot | None = None


def read_child(kind: str, raw: Raw) -> Child:
    """Return a generated object as decisions read it."""
    metadata = metadata_of(raw)
    return Child(
        digest=(metadata.get("annotations") or {}).get(ANNOTATION_DIGEST, ""),
        edited=is_edited(metadata.get("managedFields") or ()),
        owner_uid=owner_uid_of(raw),
        cell=_cell(raw) if kind == "ConfigMap" else None,
        template=_template(raw) if kind in WORKLOADS else None,
        snapshot=_snapshot(raw) if kind == "ControllerRevision" else None,
    )


def is_edited(managed_fields: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether another field manager wrote content after, or as late as, our last apply.

    The digest annotation tells what was applied, not what the object holds now; the API server's
    own book of who wrote what, and when, does. Its times are whole seconds, so an edit in the
    second of our apply counts: at worst one more apply that changes nothing.
    """
    fields = [entry for entry in managed_fields if not entry.get("subresource")]
    ours = [entry.get("time", "") for entry in fields if entry.get("manager") == FIELD_MANAGER]
    if not ours:
        return True
    return any(
        entry.get("time", "") >= max(ours)
        for entry in fields
        if entry.get("manager") != FIELD_MANAGER and _CONTENT & set(entry.get("fieldsV1") or ())
    )


def owner_uid_of(raw: Mapping[str, Any]) -> str:
    """Return the uid of the owner that controls an object; empty when none does."""
    owners = metadata_of(raw).get("ownerReferences") or ()
    uids = [owner["uid"] for owner in owners if owner.get("controller")]
    return uids[0] if uids else ""


def _cell(raw: Raw) -> ObservedCell | None:
    text = (raw.get("data") or {}).get(ASSIGNMENT_FILE)
    if text is None:
        return None
    try:
        assignment = Assignment.model_validate_json(text)
    except ValidationError:  # edited into something else: as good as absent, and applied again
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ObservedCell(metadata_of(raw)["name"], assignment, digest)


def _template(raw: Raw) -> ObservedTemplate:
    labels = metadata_of(raw).get("labels") or {}
    spec = (raw.get("spec") or {}).get("template", {}).get("spec", {})
    return ObservedTemplate(
        name=metadata_of(raw)["name"],
        cell=labels.get(LABEL_CELL, ""),
        template=labels.get(LABEL_TEMPLATE, ""),
        nodes=_hostnames(spec.get("affinity") or {}),
        unit=labels.get(LABEL_UNIT, ""),
    )


def _hostnames(affinity: Mapping[str, Any]) -> tuple[str, ...]:
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    expressions = (
        expression
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    )
    return tuple(
        value
        for expression in expressions
        if expression["key"] == "kubernetes.io/hostname"
        for value in expression.get("values") or ()
    )


def _snapshot(raw: Raw) -> Snapshot | None:
    try:
        return read_snapshot(raw)
    except ValidationError:  # not written by this operator
        return None
